"""Uniform-convergence bounds by VC dimension, Rademacher complexity and fat shattering.

With probability at least 1 − δ over n independent observations, each bound holds for every
classifier of a class at once, so it depends on the class and not on the data that were fitted. For
a class that can fit random labels the bounds are vacuous on every data set (Zhang et al. 2017).
They are here for comparison with PAC-Bayes bounds.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from bayesgen._internal import checks
from bayesgen.pacbayes import validation
from bayesgen.pacbayes.inverse_kl import outwards


class Complexity(NamedTuple):
    """A Monte Carlo estimate of an empirical Rademacher complexity.

    Attributes:
        value: mean over the draws.
        error: standard error of the mean.
    """

    value: float
    error: float


def vc(risk: Any, dimension: Any, n: int, delta: float = 0.05) -> Tensor:
    """VC bound risk + √((D (ln(2n/D) + 1) + ln(4/δ))/n) for VC dimension D and the 0–1 loss.

    Args:
        risk: training error, in [0, 1].
        dimension: D ≥ 1; it is d + 1 for hyperplanes in d dimensions. For D ≥ n the growth function
            is 2ⁿ and the bound is at least 1.
        n, delta: number of observations, δ.

    Raises:
        ValueError: an argument is out of range.

    Source: Vapnik (1998), eq. 4.42 and 4.43, in its plain additive form.

    Example:
        >>> round(float(vc(0.05, 11, 50_000)), 4)
        0.0981
    """
    risk, n = validation.risk(risk), checks.whole("n", n)
    D = validation.real("dimension", dimension)
    if not (torch.isfinite(D) & (D >= 1)).all():
        raise ValueError(f"dimension must be finite and at least 1, got {dimension}")
    growth = torch.where(n > D, D * ((2 * n / D).log() + 1), D.new_tensor(2 * n * math.log(2)))
    return outwards(risk + ((growth + math.log(4) - validation.log_delta(delta)) / n).sqrt())


def rademacher(
    margin_risk: Any, complexity: Any, margin: float, n: int, delta: float = 0.05
) -> Tensor:
    """Margin bound margin_risk + 2R̂/γ + 3√(ln(2/δ)/2n), for two classes and a margin γ.

    The margin must be chosen before the data are seen.

    Args:
        margin_risk: fraction of training points with y f(x) ≤ γ, in [0, 1].
        complexity: R̂, the empirical Rademacher complexity of the class.
        margin: γ > 0.
        n, delta: number of observations, δ.

    Raises:
        ValueError: an argument is out of range.

    Source: Mohri, Rostamizadeh & Talwalkar (2018), theorem 5.8.

    Example:
        >>> round(float(rademacher(0.1, 0.01, 1.0, 10_000)), 4)
        0.1607
    """
    gamma = checks.positive_number("margin", margin)
    tail = 3 * math.sqrt((math.log(2) - validation.log_delta(delta)) / (2 * checks.whole("n", n)))
    return outwards(
        validation.risk(margin_risk, name="margin_risk")
        + 2 * validation.nats("complexity", complexity) / gamma
        + tail
    )


def rademacher_trace(K: Any, norm: Any) -> Tensor:
    """Upper bound B √(tr K)/n of R̂ for functions of norm at most B in the Hilbert space of K.

    Args:
        K: Gram matrix of the training inputs, (n, n).
        norm: B > 0, chosen before the data are seen.

    Source: Bartlett & Mendelson (2002), lemma 22.

    Example:
        >>> rademacher_trace(torch.eye(4, dtype=torch.float64), 1.0)
        tensor(0.5000, dtype=torch.float64)
    """
    K = _gram(K)
    return checks.positive("norm", norm, like=K) * K.diagonal().sum().sqrt() / len(K)


def rademacher_norm(x: Any, norm: Any) -> Tensor:
    """Upper bound B max ‖xᵢ‖/√n of R̂ for linear functions wᵀx with ‖w‖ ≤ B; looser than the trace.

    Args:
        x: inputs, (n, d).
        norm: B > 0, chosen before the data are seen.

    Source: Mohri, Rostamizadeh & Talwalkar (2018), theorem 5.10.

    Example:
        >>> rademacher_norm(torch.eye(4, dtype=torch.float64), 1.0)
        tensor(0.5000, dtype=torch.float64)
    """
    x = checks.inputs("x", x)
    return checks.positive("norm", norm, like=x) * x.norm(dim=1).max() / math.sqrt(len(x))


def rademacher_sampled(K: Any, norm: float, *, draws: int = 1000, seed: int = 0) -> Complexity:
    """Estimate of R̂ = E_σ sup_‖f‖≤B (1/n) Σ σᵢ f(xᵢ) = (B/n) E √(σᵀKσ) from random signs σ.

    The supremum has a closed form, so only the signs are sampled. R̂ is at most `rademacher_trace`.

    Args:
        K: Gram matrix, (n, n); x xᵀ for linear functions.
        norm: B > 0.
        draws: number of sign vectors, at least 2.
        seed: seed of the signs.

    Source: Bartlett & Mendelson (2002), definition 2.

    Example:
        >>> rademacher_sampled(torch.eye(4, dtype=torch.float64), 1.0).value
        0.5
    """
    K, n = _gram(K), len(K)
    B = checks.positive_number("norm", norm)
    generator = torch.Generator().manual_seed(checks.seed(seed))
    signs = torch.randint(2, (n, checks.whole("draws", draws, 2)), generator=generator)
    signs = (2 * signs - 1).to(K)
    values = B / n * (signs * (K @ signs)).sum(0).clamp(min=0).sqrt()
    return Complexity(float(values.mean()), float(values.std() / math.sqrt(draws)))


def fat_shattering(margin_risk: Any, dimension: Any, n: int, delta: float = 0.05) -> Tensor:
    """Margin bound for a class of fat-shattering dimension D at scale γ/16.

        margin_risk + √((2/n) (D ln(34en/D) log₂(578n) + ln(4/δ)))

    Args:
        margin_risk: fraction of training points with y f(x) < γ, in [0, 1].
        dimension: D ≥ 1; see `fat_shattering_dimension`. For D ≥ 34n the bound is at least 1.
        n, delta: number of observations, δ.

    Source: Bartlett (1998), theorem 2.

    Example:
        >>> float(fat_shattering(0.1, 50.0, 50_000)) > 0.5
        True
    """
    risk, n = validation.risk(margin_risk, name="margin_risk"), checks.whole("n", n)
    D = validation.real("dimension", dimension)
    if not (torch.isfinite(D) & (D >= 1)).all():
        raise ValueError(f"dimension must be finite and at least 1, got {dimension}")
    D = D.clamp(max=34.0 * n)
    capacity = D * (34 * math.e * n / D).log() * math.log2(578 * n)
    total = capacity + math.log(4) - validation.log_delta(delta)
    return outwards(risk + (2 / n * total).sqrt())


def fat_shattering_dimension(radius: Any, norm: Any, scale: Any) -> Tensor:
    """Bound (B R/γ)², at least 1, of the fat-shattering dimension at scale γ of wᵀx.

    It holds for ‖w‖ ≤ B and ‖x‖ ≤ R.

    Args:
        radius: R > 0.
        norm: B > 0.
        scale: γ > 0; theorem 2 of Bartlett (1998) uses a sixteenth of the margin.

    Source: Bartlett & Shawe-Taylor (1999), theorem 1.6.

    Example:
        >>> fat_shattering_dimension(1.0, 2.0, 0.5)
        tensor(16., dtype=torch.float64)
    """
    R, B = checks.positive("radius", radius), checks.positive("norm", norm)
    return (B * R / checks.positive("scale", scale)).square().clamp(min=1.0)


def _gram(K: Any) -> Tensor:
    K = checks.real("K", K)
    if K.ndim != 2 or not K.numel():
        raise ValueError(f"K must have shape (n, n), got {tuple(K.shape)}")
    return checks.gram(K, len(K), "K")
