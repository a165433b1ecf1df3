"""Tune the (s, σ²) of a Gaussian posterior Q to minimise a bound, where this costs nothing.

Under a prior N(offset, s₀K), the posteriors at all noise variances σ² are valid choices of Q. Where
the loss does not depend on the size of f, so are those at all outputscales s, because dividing
prior and posterior by √s changes neither risk nor KL. The minimum differs from that of the
evidence.

The 0–1 loss depends only on the differences of the outputs, C − 1 contrasts. Their sum, which is
independent of the contrasts, is dropped before prior and posterior are compared. This does not
change the risk, and it lowers the KL, by half for two classes coded one-hot.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from bayesgen.evidence import Evidence
from bayesgen.pacbayes.certificates.losses import Loss
from bayesgen.spectrum.spectrum import Spectrum

# (risk in [0, 1], KL + payments in nats) → bound in [0, 1], differentiable.
Theorem = Callable[[Tensor, Tensor], Tensor]

# Smallest ratio σ²/s on the coarse grid, as a fraction of the largest eigenvalue.
_LOWEST = 1e-6
# Mean margins on the coarse grid, in posterior standard deviations, where s is free.
_MARGINS = (0.5, 1.0, 2.0, 4.0)


@dataclass(frozen=True)
class TuningProblem:
    """The posteriors of one prior on one task, with the loss and bound to minimise.

    Attributes:
        spectrum: spectrum of K with the contrasts of the targets of one task minus the offset.
        contrasts: orthonormal columns, (C, C − 1), or (C, C) where the loss depends on all outputs.
        offset: mean of the prior, (n, C).
        loss: the loss.
        theorem: the bound.
        scale: outputscale s to keep, or None where it is free.
    """

    spectrum: Spectrum
    contrasts: Tensor
    offset: Tensor
    loss: Loss
    theorem: Theorem
    scale: float | None

    @classmethod
    def of(
        cls,
        spectrum: Spectrum,
        offset: Tensor,
        loss: Loss,
        theorem: Theorem,
        scale: float | None,
    ) -> TuningProblem:
        """Build the problem from a spectrum with the targets minus the offset."""
        C = spectrum.outputs
        if loss.labels is None or C == 1:
            return cls(spectrum, torch.eye(C).to(offset), offset, loss, theorem, scale)
        contrasts = _helmert(C).to(offset)
        assert spectrum.y is not None
        return cls(
            spectrum.load(spectrum.y[0] @ contrasts), contrasts, offset, loss, theorem, scale
        )

    def marginals(self, scale: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Posterior mean (n, C), up to the outputs' sum, and variance (n, 1) of f at (s, σ²)."""
        mean, variance = self.spectrum.marginals(scale, noise)
        return self.offset + mean[0] @ self.contrasts.mT, variance[0]

    def evidence(self, scale: Tensor, noise: Tensor) -> Evidence:
        """The Evidence of the contrasts, whose complexity is the KL in the bound."""
        evidence = self.spectrum.evidence(scale, noise)
        return evidence[0] if evidence.batch_shape else evidence

    def bound(self, scale: Tensor, noise: Tensor) -> Tensor:
        """The bound at (s, σ²), scaled to [0, 1]; differentiable."""
        risk = self.loss.expected(*self.marginals(scale, noise)).mean().clamp(0, 1)
        return self.theorem(risk, self.evidence(scale, noise).complexity.clamp(min=0))


@dataclass(frozen=True)
class TunedSetting:
    """An outputscale s, a noise variance σ², and the bound at them."""

    scale: float
    noise: float
    bound: float


def coarse(problem: TuningProblem) -> TunedSetting:
    """The best setting on a coarse grid, used to rank priors and to start `refine`."""
    best: TunedSetting | None = None
    with torch.no_grad():
        for ratio in _ratios(problem):
            for scale in _scales(problem, ratio):
                value = float(problem.bound(scale, ratio * scale))
                if best is None or value < best.bound:
                    best = TunedSetting(float(scale), float(ratio * scale), value)
    assert best is not None
    return best


def refine(problem: TuningProblem, start: TunedSetting, steps: int = 60) -> TunedSetting:
    """A local minimum of the bound, by L-BFGS with its exact gradient in (log s, log σ²/s).

    Args:
        problem: prior, task, loss and theorem.
        start: setting to start from; the result is never worse.
        steps: largest number of evaluations.
    """
    from scipy.optimize import minimize

    like = problem.spectrum.largest
    first = np.array([math.log(start.noise / start.scale), math.log(start.scale)])
    free = 2 if problem.scale is None else 1
    best = start

    def objective(point: np.ndarray) -> tuple[float, np.ndarray]:
        nonlocal best
        log_ratio, log_scale = (
            like.new_tensor(v, requires_grad=True) for v in (*point, *first[free:])
        )
        scale, noise = log_scale.exp(), (log_ratio + log_scale).exp()
        value = problem.bound(scale, noise)
        value.backward()
        if float(value.detach()) < best.bound:
            best = TunedSetting(float(scale.detach()), float(noise.detach()), float(value.detach()))
        gradient = [0.0 if v.grad is None else float(v.grad) for v in (log_ratio, log_scale)]
        return float(value.detach()), np.array(gradient[:free])

    box = [(first[i] - 12, first[i] + 12) for i in range(free)]
    minimize(
        objective,
        first[:free],
        jac=True,
        method="L-BFGS-B",
        bounds=box,
        options={"maxfun": steps, "ftol": 1e-9},
    )
    return best


def _ratios(problem: TuningProblem) -> Tensor:
    """Ratios σ²/s on the coarse grid, up to one where the posterior is almost the prior."""
    largest = problem.spectrum.largest
    highest = largest
    if problem.scale is not None:
        # The mean contributes at most ‖y‖² λ s/(2σ⁴) to the KL, which is 1/200 nats at this ratio.
        power = problem.spectrum.target_measure().weights.sum()
        highest = torch.maximum(largest, 10 * (power * largest / problem.scale).sqrt())
    decades = math.log10(float(highest / largest)) - math.log10(_LOWEST)
    steps = torch.linspace(0, decades, max(9, round(1.3 * decades)), dtype=torch.float64)
    return _LOWEST * largest * 10 ** steps.to(largest)


def _scales(problem: TuningProblem, ratio: Tensor) -> list[Tensor]:
    """Outputscales on the coarse grid at one ratio σ²/s."""
    if problem.scale is not None:
        return [ratio.new_tensor(problem.scale)]
    # With s the mean is unchanged and the standard deviation grows as √s: the margin falls as 1/√s.
    mean, variance = problem.marginals(ratio.new_ones(()), ratio)
    size = float(_margin(mean, problem.loss).mean().abs() / variance.mean().sqrt())
    return [ratio.new_tensor(max((size / margin) ** 2, 1e-12)) for margin in _MARGINS]


def _margin(mean: Tensor, loss: Loss) -> Tensor:
    """Margin of the observed class over the average of the others, (n,)."""
    labels = loss.labels
    if labels is None or mean.shape[-1] == 1:
        return mean.abs().sum(-1)
    own = mean.gather(-1, labels[:, None])[:, 0]
    return own - (mean.sum(-1) - own) / (mean.shape[-1] - 1)


def _helmert(C: int) -> Tensor:
    """Orthonormal columns that span the complement of (1, …, 1), (C, C − 1)."""
    rows = torch.arange(1, C, dtype=torch.float64)
    matrix = torch.ones(C, C - 1, dtype=torch.float64).triu()
    matrix[range(1, C), range(C - 1)] = -rows
    return matrix / (rows * (rows + 1)).sqrt()
