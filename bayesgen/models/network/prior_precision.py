"""Maximise a network's Laplace evidence over its prior precisions and noise variance."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from bayesgen.curvature.curvature import Curvature, CurvatureTerms

# Largest distance of log α and log σ² from their starting values.
_REACH = 15.0
_FIXED_POINT_STEPS = 3
# Value of α_g q_g below which the prior does not pull at the weights of a group.
_LOOSE = 1e-6


@dataclass(frozen=True)
class PrecisionSetting:
    """Hyperparameters of a network's Laplace evidence.

    Attributes:
        precision: prior precision α of each group, (G,).
        noise: noise variance σ², (); 1 where the likelihood has none.
        at_bound: whether each group's precision lies on the edge of the searched range, (G,); where
            the noise variance was learnt, whether it does is the last entry of (G + 1,).
    """

    precision: Tensor
    noise: Tensor
    at_bound: Tensor


class NetworkEvidence:
    """Laplace's log p(D) as a function of (log α, log σ²), with its gradient.

        log p(D) = log p(D | θ*) − ½ Σ_g α_g q_g − ½ log|I + H/(σ²α)|
        ∂/∂ log α_g = ½ (N_g − α_g q_g),   ∂/∂ log σ² = ∂ log p(D | θ*)/∂ log σ² + ½ N_eff

    where q_g = Σ base·(θ − θ₀)² over the weights of the group, and N_g is the group's share of the
    effective parameters N_eff. At a maximum, N_g = α_g q_g for every group (MacKay).

    Args:
        curvature: the curvature H at unit noise variance.
        squares: the sums q, (G,).
        log_likelihood: function from σ² to log p(D | θ*) and its derivative in log σ².

    Source: MacKay (1992); Immer et al. (2021), eq. 5.
    """

    def __init__(
        self,
        curvature: Curvature,
        squares: Tensor,
        log_likelihood: Callable[[Tensor], tuple[Tensor, Tensor]],
    ) -> None:
        self.curvature, self.squares, self.log_likelihood = curvature, squares, log_likelihood

    def terms(self, precision: Tensor, noise: Tensor) -> CurvatureTerms:
        """Log-determinant and effective parameters of H/σ² under prior precisions α."""
        return self.curvature.terms(precision * noise)

    def value(self, precision: Tensor, noise: Tensor) -> tuple[float, Tensor, Tensor]:
        """The value log p(D) in nats, its gradient in log α, (G,), and in log σ², ()."""
        terms, (fit, slope) = self.terms(precision, noise), self.log_likelihood(noise)
        pull = precision * self.squares
        value = fit - 0.5 * pull.sum() - 0.5 * terms.logdet
        return (
            float(value),
            0.5 * (terms.effective_parameters - pull),
            slope + 0.5 * terms.effective_parameters.sum(),
        )


def search_precision(
    evidence: NetworkEvidence, start: PrecisionSetting, *, precision: bool, noise: bool
) -> PrecisionSetting:
    """Maximise the evidence over the free hyperparameters; the others are kept.

    With one precision and a fixed noise variance, the optimum is the one root of N_eff(α) = α q,
    whose left side decreases and whose right side increases in α. It is found to rounding.
    Otherwise L-BFGS runs on the exact gradient. It starts from the precisions times their best
    common factor, after a few of MacKay's steps α_g = N_g/q_g.

    Args:
        evidence: the function to maximise.
        start: hyperparameters to start from or to keep.
        precision: whether the precisions are free.
        noise: whether the noise variance is free.
    """
    count = len(start.precision)
    if precision:
        start = _shared(evidence, start)
        if count == 1 and not noise:
            return start
        if count > 1:
            start = fixed_point(evidence, start, _FIXED_POINT_STEPS)
    if not precision and not noise:
        return start
    return _ascend(evidence, start, precision, noise)


def fixed_point(evidence: NetworkEvidence, start: PrecisionSetting, steps: int) -> PrecisionSetting:
    """Take a number of MacKay's fixed-point steps α_g = N_g/q_g.

    Source: MacKay (1992), eq. 4.9; Bishop (2006), eq. 9.67.
    """
    precision = start.precision
    low, high = precision * math.exp(-_REACH), precision * math.exp(_REACH)
    for _ in range(steps):
        terms = evidence.terms(precision, start.noise)
        tiny = torch.finfo(precision.dtype).tiny
        precision = (terms.effective_parameters / evidence.squares.clamp(min=tiny)).clamp(low, high)
    return PrecisionSetting(precision, start.noise, start.at_bound)


def _shared(evidence: NetworkEvidence, start: PrecisionSetting) -> PrecisionSetting:
    """All precisions times the one common factor of largest evidence."""
    import scipy.optimize

    centre = start.precision.log()

    def gap(log_factor: float) -> float:
        precision = (centre + log_factor).exp()
        free = evidence.terms(precision, start.noise).effective_parameters.sum()
        return float(free - (precision * evidence.squares).sum())

    low, high = -30.0, 30.0
    at = high if gap(high) >= 0 else low if gap(low) <= 0 else 0.0
    if not at:
        tolerance = 1e-10 if len(centre) == 1 else 1e-2
        at = float(scipy.optimize.brentq(gap, low, high, xtol=tolerance))
    edge = torch.full_like(start.precision, abs(at) == high, dtype=torch.bool)
    return PrecisionSetting((centre + at).exp(), start.noise, edge)


def _ascend(
    evidence: NetworkEvidence, start: PrecisionSetting, precision: bool, noise: bool
) -> PrecisionSetting:
    import scipy.optimize

    centre = torch.cat([start.precision.log(), start.noise.log().reshape(1)])
    free = torch.tensor([precision] * len(start.precision) + [noise])

    def unpack(z: np.ndarray) -> tuple[Tensor, Tensor]:
        point = centre.clone()
        point[free] = torch.from_numpy(z).to(point)
        return point[:-1].exp(), point[-1].exp()

    def objective(z: np.ndarray) -> tuple[float, np.ndarray]:
        value, of_precision, of_noise = evidence.value(*unpack(z))
        gradient = torch.cat([of_precision, of_noise.reshape(1)])[free]
        return -value, -gradient.double().cpu().numpy()

    middle = centre[free].double().cpu().numpy()
    bounds = np.stack([middle - _REACH, middle + _REACH], 1)
    found = scipy.optimize.minimize(
        objective,
        middle,
        jac=True,
        method="L-BFGS-B",
        bounds=bounds,
        options={"maxiter": 200, "maxfun": 250, "ftol": 1e-12, "gtol": 1e-6},
    )
    best = (
        _without_pull(evidence, found.x, bounds[:, 1], objective, unpack) if precision else found.x
    )
    edge = np.abs(best - middle) > _REACH - 1e-6
    at_bound = torch.zeros_like(centre, dtype=torch.bool)
    at_bound[free] = torch.from_numpy(edge).to(at_bound)
    return PrecisionSetting(*unpack(best), at_bound if noise else at_bound[:-1])


def _without_pull(
    evidence: NetworkEvidence,
    z: np.ndarray,
    high: np.ndarray,
    objective: Callable[[np.ndarray], tuple[float, np.ndarray]],
    unpack: Callable[[np.ndarray], tuple[Tensor, Tensor]],
) -> np.ndarray:
    """The point with unbounded precisions moved to the bound, where no evidence is lost by it.

    The evidence rises without end in the precision of weights at their prior mean, but its slope
    vanishes, so that the ascent may end before the bound.
    """
    precision, _ = unpack(z)
    loose = (precision * evidence.squares < _LOOSE).cpu().numpy()
    ahead = z.copy()
    ahead[: len(loose)][loose] = high[: len(loose)][loose]
    return ahead if loose.any() and objective(ahead)[0] <= objective(z)[0] else z
