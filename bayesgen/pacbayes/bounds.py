"""PAC-Bayes bounds on the risk of a randomised predictor, as functions of tensors.

The n observations are independent, and the prior P is chosen before them. Q is any posterior, risk
is its empirical Gibbs risk (the mean over Q and the observations of the loss), and kl = KL(Q ‖ P)
in nats. With probability at least 1 − δ over the data, the true Gibbs risk is at most the returned
value, for all Q at once. Values are rounded upwards, by a few units in the last place of their
largest term, so that rounding does not take them below the bound of the formula.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from bayesgen._internal import checks
from bayesgen.pacbayes import validation
from bayesgen.pacbayes.inverse_kl import outwards, upper_risk
from bayesgen.pacbayes.validation import Range


def germain(log_marginal_likelihood: Any, n: int, loss_range: Range, delta: float = 0.05) -> Tensor:
    """Bound on the expected negative log-likelihood in [a, b] from the evidence Z.

        a + (b − a)/(1 − e^{a−b}) [1 − e^a (Z δ)^{1/n}],

    which is `catoni` at risk + KL/n = −(ln Z)/n. It is computed from ln Z, as Z may underflow.

    Args:
        log_marginal_likelihood: ln Z in nats, any shape, for a likelihood whose negative
            logarithm lies in [a, b] for every observation.
        n: number of observations.
        loss_range: range (a, b) of the loss.
        delta: δ in (0, 1).

    Raises:
        ValueError: an argument is out of range.

    Source: Germain et al. (2016), corollary 4.

    Example:
        >>> round(float(germain(-200.0, 400, (0.0, 4.0))), 4)
        1.6217
    """
    logs = validation.real("log_marginal_likelihood", log_marginal_likelihood)
    if not torch.isfinite(logs).all():
        raise ValueError(f"log_marginal_likelihood must be finite, got {logs}")
    a, b = validation.interval(loss_range)
    log_delta, n = validation.log_delta(delta), checks.whole("n", n)
    spent = outwards(-(logs + log_delta) / n - a, (logs.abs() - log_delta) / n + abs(a))
    return _scaled(_catoni(spent, b - a), (a, b))


def catoni(
    risk: Any,
    kl: Any,
    n: int,
    loss_range: Range = (0.0, 1.0),
    delta: float = 0.05,
    constant: float | None = None,
) -> Tensor:
    """Catoni's bound for a loss in [a, b], at a constant C chosen before the data.

        a + (b − a)/(1 − e^{−C}) [1 − exp(−C (risk − a)/(b − a) − (KL + ln 1/δ)/n)]

    At C = b − a, the default, risk and KL enter as they do in the evidence: risk + KL/n.

    Args:
        risk, kl: tensors that broadcast, or floats.
        n, loss_range, delta: number of observations, (a, b), δ.
        constant: C > 0. A constant chosen from the data voids the bound; `catoni_union` pays for
            such a choice.

    Raises:
        ValueError: an argument is out of range.

    Source: Catoni (2007), theorem 1.2.1; Germain et al. (2016), theorem 3 and corollary 2.

    Example:
        >>> round(float(catoni(0.1, 20.0, 1000)), 4)
        0.1831
    """
    a, b = validation.interval(loss_range)
    C = b - a if constant is None else checks.positive_number("constant", constant)
    risk, kl = _pair(risk, kl, (a, b))
    share = (risk - a) / (b - a)
    paid = (kl - validation.log_delta(delta)) / checks.whole("n", n)
    return _scaled(_catoni(C * share + paid, C), (a, b))


def catoni_union(risk: Any, kl: Any, n: int, delta: float = 0.05, alpha: float = 0.1) -> Tensor:
    """Catoni's bound at the best λ, by a union over a geometric grid, for a loss in [0, 1].

        min_λ Φ⁻¹(risk + ((1+α)/λ) [KL + ln 1/δ + 2 ln(2 + ln λ / ln(1+α))]),
        Φ⁻¹(x) = (1 − e^{−λx/n})/(1 − e^{−λ/n}),  λ > 1

    It holds for every λ > 1 at once; the minimum is taken over 2,000 values.

    Args:
        risk, kl: tensors that broadcast, or floats.
        n, delta: number of observations, δ.
        alpha: α > 0, the ratio of the grid minus one; it matters at small n.

    Raises:
        ValueError: an argument is out of range.

    Source: Catoni (2007), theorem 1.2.6.
    """
    (risk, kl), n = _pair(risk, kl), checks.whole("n", n)
    step = checks.positive_number("alpha", alpha)
    lam = torch.logspace(1e-6, math.log10(100.0 * n + 10), 2000, dtype=torch.float64)
    paid = kl[..., None] - validation.log_delta(delta)
    paid = paid + 2 * (2 + lam.log() / math.log1p(step)).log()
    x = risk[..., None] + (1 + step) / lam * paid
    values = torch.expm1(-lam / n * x) / torch.expm1(-lam / n)
    return outwards(values.amin(-1)).clamp(max=1.0)


def alquier(
    risk: Any,
    kl: Any,
    n: int,
    loss_range: Range = (0.0, 1.0),
    delta: float = 0.05,
    form: str = "sqrt",
) -> Tensor:
    """Alquier's bound for a loss in [a, b], at λ = n or λ = √n.

        "n": risk + (KL + ln 1/δ)/n + ½(b − a)²;
        "sqrt": risk + (KL + ln 1/δ + ½(b − a)²)/√n

    Args:
        risk, kl: tensors that broadcast, or floats.
        n, loss_range, delta: number of observations, (a, b), δ.
        form: "n" or "sqrt".

    Raises:
        ValueError: an argument is out of range.

    Source: Alquier et al. (2016); Germain et al. (2016), eq. 8 and 9.
    """
    a, b = validation.interval(loss_range)
    (risk, kl), n = _pair(risk, kl, (a, b)), checks.whole("n", n)
    paid = kl - validation.log_delta(delta)
    if checks.one_of("form", form, ("n", "sqrt")) == "n":
        return _added(risk, paid / n + 0.5 * (b - a) ** 2)
    return _added(risk, (paid + 0.5 * (b - a) ** 2) / math.sqrt(n))


def subgamma(risk: Any, kl: Any, n: int, s2: float, c: float, delta: float = 0.05) -> Tensor:
    """A bound for unbounded losses that are sub-gamma under P; an oracle bound, not a certificate.

        risk + (KL + ln 1/δ)/n + s²/(2(1 − c))

    The variance factor s² and the scale c are properties of the data distribution. To know them
    takes the true weights and noise.

    Args:
        risk: E_Q of the empirical loss, any real number.
        kl, n, delta: KL(Q ‖ P), number of observations, δ.
        s2: variance factor s² > 0.
        c: scale 0 ≤ c < 1.

    Raises:
        ValueError: an argument is out of range.

    Source: Germain et al. (2016), corollary 5.
    """
    risk, kl = validation.real("risk", risk), validation.nats("kl", kl)
    if not torch.isfinite(risk).all():
        raise ValueError(f"risk must be finite, got {risk}")
    validation.together(risk=risk, kl=kl)
    c = checks.number("c", c)
    if not 0 <= c < 1:
        raise ValueError(f"c must lie in [0, 1), got {c}")
    spread = checks.positive_number("s2", s2) / (2 * (1 - c))
    paid = (kl - validation.log_delta(delta)) / checks.whole("n", n)
    return _added(risk, paid + spread)


def mcallester(
    risk: Any, kl: Any, n: int, loss_range: Range = (0.0, 1.0), delta: float = 0.05
) -> Tensor:
    """McAllester's bound, risk + (b − a) √((KL + ln(2√n/δ))/2n), for a loss in [a, b].

    Args:
        risk, kl: tensors that broadcast, or floats.
        n, loss_range, delta: number of observations, (a, b), δ.

    Raises:
        ValueError: an argument is out of range.

    Source: McAllester (1999), with Maurer's (2004) constant.

    Example:
        >>> round(float(mcallester(0.1, 20.0, 1000)), 4)
        0.2165
    """
    a, b = validation.interval(loss_range)
    risk, kl = _pair(risk, kl, (a, b))
    return _added(risk, (b - a) * (_budget(kl, n, delta) / 2).sqrt())


def quadratic(risk: Any, kl: Any, n: int, delta: float = 0.05) -> Tensor:
    """The bound (√(risk + B) + √B)² with B = (KL + ln(2√n/δ))/2n, for a loss in [0, 1].

    Args:
        risk, kl: tensors that broadcast, or floats.
        n, delta: number of observations, δ.

    Raises:
        ValueError: an argument is out of range.

    Source: Pérez-Ortiz et al. (2021), eq. 8.
    """
    risk, kl = _pair(risk, kl)
    half = _budget(kl, n, delta) / 2
    return outwards(((risk + half).sqrt() + half.sqrt()) ** 2)


def thiemann(
    risk: Any, kl: Any, n: int, delta: float = 0.05, lam: float | Tensor | None = None
) -> Tensor:
    """Thiemann's bound risk/(1 − λ/2) + (KL + ln(2√n/δ))/(nλ(1 − λ/2)), for a loss in [0, 1].

    It holds for all λ at once. At the best λ, the default, it equals `quadratic`.

    Args:
        risk, kl: tensors that broadcast, or floats.
        n, delta: number of observations, δ.
        lam: λ in (0, 2); None takes the best λ.

    Raises:
        ValueError: an argument is out of range.

    Source: Thiemann et al. (2017), theorem 3.
    """
    risk, kl = _pair(risk, kl)
    budget = _budget(kl, n, delta)
    best = 2 / ((2 * risk / budget + 1).sqrt() + 1)
    lam = best if lam is None else validation.real("lam", lam)
    if not ((lam > 0) & (lam < 2)).all():
        raise ValueError(f"lam must lie in (0, 2), got {lam}")
    return outwards(risk / (1 - lam / 2) + budget / (lam * (1 - lam / 2)))


def countable(
    risk: Any, log_prior: Any, n: int, delta: float = 0.05, loss_range: Range = (0.0, 1.0)
) -> Tensor:
    """The bound risk + (b − a) √((ln 1/P(h) + ln 1/δ)/2n) for a hypothesis h of a countable set.

    Args:
        risk: empirical risk of h, in [a, b].
        log_prior: ln P(h) ≤ 0, in nats; see `solomonoff`.
        n, delta, loss_range: number of observations, δ, (a, b).

    Raises:
        ValueError: an argument is out of range.

    Source: Wilson (2025), theorem 3.1; Lotfi et al. (2022).

    Example:
        >>> round(float(countable(0.05, solomonoff(1000.0), 50_000)), 4)
        0.1343
    """
    a, b = validation.interval(loss_range)
    paid = description(log_prior, delta)
    more = (b - a) * (paid / (2 * checks.whole("n", n))).sqrt()
    return _added(validation.risk(risk, loss_range), more)


def occam(risk: Any, log_prior: Any, n: int, delta: float = 0.05) -> Tensor:
    """The bound kl⁻¹(risk, (ln 1/P(h) + ln 1/δ)/n) for a loss in [0, 1]; at most `countable`.

    Args:
        risk: empirical risk of h, in [0, 1].
        log_prior: ln P(h) ≤ 0, in nats; see `solomonoff`.
        n, delta: number of observations, δ.

    Raises:
        ValueError: an argument is out of range.

    Source: Langford (2005), theorem 4.6, with Chernoff's bound for the binomial tail.

    Example:
        >>> round(float(occam(0.05, solomonoff(1000.0), 50_000)), 4)
        0.0954
    """
    return upper_risk(risk, outwards(description(log_prior, delta) / checks.whole("n", n)))


def solomonoff(code_length_bits: Any) -> Tensor:
    """Log prior ln P(h) = −(C ln 2 + 2 ln C) of a hypothesis with a self-delimiting code of C bits.

    Args:
        code_length_bits: code length C ≥ 1.

    Raises:
        ValueError: C is below 1 or not finite.

    Source: Lotfi et al. (2022), section 3; Wilson (2025), with P(h) ≥ 2^−K.
    """
    bits = validation.real("code_length_bits", code_length_bits)
    if not (torch.isfinite(bits) & (bits >= 1)).all():
        raise ValueError(f"code_length_bits must be finite and at least 1, got {bits}")
    return -outwards(bits * math.log(2) + 2 * bits.log())


def maurer(risk: Any, kl: Any, n: int, delta: float = 0.05) -> Tensor:
    """The PAC-Bayes-kl bound, for a loss in [0, 1].

    With probability at least 1 − δ over the data, for all Q at once,

        kl(risk ‖ true risk) ≤ (KL(Q ‖ P) + ln(2√n/δ))/n.

    The bound is the largest true risk that satisfies this inequality. It needs independent data and
    a prior P chosen before them.

    Args:
        risk: empirical Gibbs risk, in [0, 1], any shape.
        kl: KL(Q ‖ P) ≥ 0 in nats, broadcastable with the risk.
        n: number of observations, at least 1.
        delta: δ in (0, 1).

    Returns:
        The bound, in [risk, 1].

    Raises:
        ValueError: an argument is out of range.

    Source: Maurer (2004), theorem 5; Seeger (2002).

    Example:
        >>> round(float(maurer(0.1, 20.0, n=1000)), 4)
        0.1839
    """
    risk, kl = _pair(risk, kl)
    return upper_risk(risk, _budget(kl, n, delta))


def _pair(risk: Any, kl: Any, loss_range: Range = (0.0, 1.0)) -> tuple[Tensor, Tensor]:
    """Risk and divergence after checks, in float64, of shapes that broadcast."""
    risk, kl = validation.risk(risk, loss_range), validation.nats("kl", kl)
    validation.together(risk=risk, kl=kl)
    return risk, kl


def description(log_prior: Any, delta: float) -> Tensor:
    """Complexity ln 1/P(h) + ln 1/δ of a hypothesis, in nats."""
    logs = validation.real("log_prior", log_prior)
    if not (torch.isfinite(logs) & (logs <= 0)).all():
        raise ValueError(f"log_prior must be finite and at most 0, got {logs}")
    return -logs - validation.log_delta(delta)


def _budget(kl: Any, n: int, delta: float) -> Tensor:
    """Complexity term (KL + ln(2√n/δ))/n of the kl bound."""
    total = validation.nats("kl", kl) + math.log(2 * math.sqrt(checks.whole("n", n)))
    return outwards((total - validation.log_delta(delta)) / n)


def _catoni(spent: Tensor, constant: float) -> Tensor:
    """Catoni's function (1 − e^{−spent})/(1 − e^{−C})."""
    return outwards(torch.expm1(-spent) / math.expm1(-constant))


def _scaled(share: Tensor, loss_range: Range) -> Tensor:
    """The value a + (b − a)·share in the loss's own range, rounded upwards."""
    a, b = loss_range
    return _added(torch.full_like(share, a), (b - a) * share)


def _added(risk: Tensor, more: Tensor) -> Tensor:
    """The sum of a risk of any sign and a term that is not negative, rounded upwards."""
    return outwards(risk + more, risk.abs() + more.abs())
