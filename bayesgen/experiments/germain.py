"""Experiment: the evidence as a PAC-Bayes bound, as in section 6 of Germain et al. (2016)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import xarray as xr
from torch import Tensor

from bayesgen import pacbayes, plots
from bayesgen._internal import checks
from bayesgen.experiments.experiment import claim, experiment, provenance
from bayesgen.models import LinearModel, LinearPosterior, Polynomial
from bayesgen.pacbayes import expected_losses
from bayesgen.pacbayes.certificates.losses import expected_nll

# Part one, polynomials: y = sin x + ε on [0, 2π].
DEGREES = tuple(range(1, 8))
_POINTS, _TRUE_NOISE, _PRIOR, _NOISE = 100, 1 / 4, 1 / 0.005, 1 / 2

# Part two, bounds: y = wᵀx + ε, x ~ N(0, I).
SIZES = (10, 30, 100, 300, 1_000, 3_000, 10_000, 30_000, 100_000, 300_000, 1_000_000)
_D, _NORM, _SD_NOISE, _SD_PRIOR, _SD_MODEL = 20, 0.5, 1 / 3, 0.1, math.sqrt(2.0)
_RANGE, _DELTA = (1.0, 4.0), 0.05
_TEST = 200_000


def subgamma_constants() -> tuple[float, float]:
    """The constants (s², c) of the regression's loss under its prior, from the true parameters.

    c = σ_x² σ_π²/σ², s² = [σ_x² (d σ_π² + ‖w‖²) + (1 − c) σ_ε²]/σ²

    Source: Germain et al. (2016), section 5 and appendix A.4.
    """
    c = _SD_PRIOR**2 / _SD_MODEL**2
    s2 = (_D * _SD_PRIOR**2 + _NORM**2 + (1 - c) * _SD_NOISE**2) / _SD_MODEL**2
    return s2, c


@experiment(plot=plots.germain)
def germain(
    *, sizes: Sequence[int] = SIZES, seed: int = 0, command: str | None = None
) -> xr.Dataset:
    """Model selection by the evidence, with its two parts, and four bounds against n.

    Part one fits polynomials of degree 1 … 7 with w ~ N(0, 200 I) and noise variance ½ to 100
    points of y = sin x + ε with ε ~ N(0, ¼). It records the two parts of −log p(D)/n and the risk
    on new data. Degree 3 has the largest evidence; with fewer than about 60 points, under this wide
    prior, it would be degree 1.

    Part two is Bayesian linear regression in 20 dimensions with w ~ N(0, I/100) and noise variance
    2, on data with ‖w*‖ = ½ and noise of standard deviation ⅓. At δ = 0.05 it computes Catoni's
    bound (corollary 2) and Alquier's at λ = n and λ = √n, for the negative log-likelihood clipped
    to [1, 4], and the sub-gamma oracle bound (corollary 5) for the unclipped one.

    Args:
        sizes: numbers of observations n of part two, each a prefix of one sample.
        seed: seed of the data.
        command: command to record in the result; None records this call.

    Returns:
        Dataset with `risk`, `kl` (both per observation) and `test_risk` over `degree`, and
        `train_risk`, `expected_risk`, their clipped versions and the four bounds over `n`, in nats.

    Source: Germain et al. (2016), section 6, figure 1.

    Example:
        >>> result = germain(sizes=(10, 100))
        >>> int(result.degree[(result.risk + result.kl).values.argmin()])
        3
    """
    result = xr.Dataset(
        {**_selection(seed), **_bounds(list(sizes), seed)},
        coords={"degree": list(DEGREES), "n": list(sizes)},
        attrs={
            "title": "The evidence as a PAC-Bayes bound",
            "delta": _DELTA,
            "points": _POINTS,
            **provenance(command or f"germain(sizes={tuple(sizes)}, seed={seed})"),
        },
    )
    result.attrs |= _claim(result)
    return result


def _claim(result: xr.Dataset) -> dict[str, str]:
    """Attributes with the source's claim and this result."""
    best = int(result.degree[int((result.risk + result.kl).argmin("degree"))])
    gap = result.catoni - result.clipped_expected_risk
    oracle = result.subgamma - result.expected_risk
    return claim(
        "Minus the log evidence is empirical risk plus KL divergence, so that maximising the "
        "evidence minimises a PAC-Bayes bound; it selects degree 3 for a sine.",
        f"The evidence selects degree {best}. Catoni's bound exceeds the expected risk by "
        f"{float(gap[-1]):.2g} nats at n = {int(result.n[-1]):,}, and the sub-gamma bound by "
        f"{float(oracle[-1]):.2g}; neither is below the risk at any n.",
        "yes" if best == 3 and bool((gap > 0).all() and (oracle > 0).all()) else "no",
    )


def _selection(seed: int) -> dict[str, tuple[str, list[float], dict[str, str]]]:
    x, y = _wave(_POINTS, seed)
    x_new, y_new = _wave(1000, seed + 1)
    rows = []
    for degree in DEGREES:
        model = Polynomial(degree, _PRIOR, _NOISE, hyperparameters="fixed")
        posterior: LinearPosterior = model.fit(x, y)
        evidence = posterior.evidence
        test = _nll(posterior, x_new, y_new)
        rows.append(
            (-float(evidence.fit) / _POINTS, float(evidence.complexity) / _POINTS, float(test))
        )
    risk, kl, test_risk = (list(column) for column in zip(*rows, strict=True))
    words = {
        "risk": "empirical Gibbs risk, −E_Q[log p(D|w)]/n",
        "kl": "KL(Q‖P)/n",
        "test_risk": "Gibbs risk on 1,000 new points",
    }
    return {
        name: ("degree", values, {"units": "nats", "long_name": words[name]})
        for name, values in (("risk", risk), ("kl", kl), ("test_risk", test_risk))
    }


def _bounds(sizes: list[int], seed: int) -> dict[str, tuple[str, list[float], dict[str, str]]]:
    generator = torch.Generator().manual_seed(checks.seed(seed))
    direction = torch.randn(_D, generator=generator, dtype=torch.float64)
    w = _NORM * direction / direction.norm()
    x, y = _linear(max(sizes), w, generator)
    x_new, y_new = _linear(_TEST, w, generator)
    s2, c = subgamma_constants()
    model = LinearModel(None, _SD_PRIOR**2, _SD_MODEL**2, hyperparameters="fixed")
    columns: dict[str, list[float]] = {}
    for n in sizes:
        posterior: LinearPosterior = model.fit(x[:n], y[:n])
        kl = float(posterior.evidence.complexity.clamp(min=0))
        train = -float(posterior.evidence.fit) / n
        clipped = float(_clipped(posterior, x[:n], y[:n]))
        row = {
            "train_risk": train,
            "expected_risk": _nll(posterior, x_new, y_new),
            "clipped_train_risk": clipped,
            "clipped_expected_risk": float(_clipped(posterior, x_new, y_new)),
            "catoni": float(pacbayes.catoni(clipped, kl, n, _RANGE, _DELTA)),
            "alquier_n": float(pacbayes.alquier(clipped, kl, n, _RANGE, _DELTA, form="n")),
            "alquier_sqrt": float(pacbayes.alquier(clipped, kl, n, _RANGE, _DELTA)),
            "subgamma": float(pacbayes.subgamma(train, kl, n, s2, c, _DELTA)),
        }
        for name, value in row.items():
            columns.setdefault(name, []).append(value)
    return {name: ("n", values, {"units": "nats"}) for name, values in columns.items()}


def _marginals(posterior: LinearPosterior, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    latent = posterior.predict(x, latent=True)
    return latent.mean[:, None], latent.variance[:, None], y[:, None]


def _nll(posterior: LinearPosterior, x: Tensor, y: Tensor) -> float:
    """Gibbs risk E_Q[−log p(y|f)], averaged over points."""
    return expected_nll(*_marginals(posterior, x, y), posterior.noise)


def _clipped(posterior: LinearPosterior, x: Tensor, y: Tensor) -> Tensor:
    mean, variance, y = _marginals(posterior, x, y)
    return expected_losses.clipped_nll(mean, variance, y, posterior.noise, _RANGE).mean()


def _wave(n: int, seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(checks.seed(seed))
    x = 2 * math.pi * torch.rand(n, generator=generator, dtype=torch.float64)
    noise = torch.randn(n, generator=generator, dtype=torch.float64)
    return x, torch.sin(x) + math.sqrt(_TRUE_NOISE) * noise


def _linear(n: int, w: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    x = torch.randn(n, len(w), generator=generator, dtype=torch.float64)
    return x, x @ w + _SD_NOISE * torch.randn(n, generator=generator, dtype=torch.float64)
