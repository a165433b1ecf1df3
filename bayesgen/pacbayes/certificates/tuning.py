"""The posterior of smallest bound: the (s, σ²) of a Gaussian model that shape Q and cost nothing.

Under a prior N(offset, s₀K) the posteriors at all noises σ² are fair choices of Q, and where the
loss does not change with the size of f those at all outputscales s are too: dividing prior and
posterior by √s changes neither risk nor KL. Neither minimum is the evidence's.

The 0–1 loss also knows only the differences of the outputs, C − 1 contrasts. Their sum, which is
independent of them, is dropped before prior and posterior are compared: no risk changes, and the
KL falls, by half for two classes coded one-hot.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor

from bayesgen.evidence import Evidence
from bayesgen.pacbayes.certificates.losses import Loss
from bayesgen.spectrum.spectrum import Spectrum

# (risk in [0, 1], KL + payments in nats) → bound in [0, 1], differentiable.
Theorem = Callable[[Tensor, Tensor], Tensor]

# Ratios σ²/s are tried from this share of the largest eigenvalue on, before anything is refined.
_LOWEST = 1e-6
# Mean margins tried, in posterior standard deviations, where s is free.
_MARGINS = (0.5, 1.0, 2.0, 4.0)


@dataclass(frozen=True)
class TuningProblem:
    """Posteriors of one prior on one task, and what they are judged by.

    Attributes:
        spectrum: of K, with the contrasts of the targets less the offset, of one task.
        contrasts: orthonormal columns, (C, C − 1), or (C, C) where the loss knows every output.
        offset: the prior's mean, (n, C).
        loss: the loss.
        theorem: the bound.
        scale: s to keep; None where it is free.
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
        """From a spectrum with the targets less the offset."""
        C = spectrum.outputs
        if loss.labels is None or C == 1:
            return cls(spectrum, torch.eye(C).to(offset), offset, loss, theorem, scale)
        contrasts = _helmert(C).to(offset)
        assert spectrum.y is not None
        return cls(
            spectrum.load(spectrum.y[0] @ contrasts), contrasts, offset, loss, theorem, scale
        )

    def marginals(self, scale: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Mean (n, C) and variance (n, 1) of f under the posterior at (s, σ²); up to its sum."""
        mean, variance = self.spectrum.marginals(scale, noise)
        return self.offset + mean[0] @ self.contrasts.mT, variance[0]

    def evidence(self, scale: Tensor, noise: Tensor) -> Evidence:
        """Of the contrasts; its complexity is the KL that is paid."""
        evidence = self.spectrum.evidence(scale, noise)
        return evidence[0] if evidence.batch_shape else evidence

    def bound(self, scale: Tensor, noise: Tensor) -> Tensor:
        """The bound there, scaled to [0, 1]; differentiable."""
        risk = self.loss.expected(*self.marginals(scale, noise)).mean().clamp(0, 1)
        return self.theorem(risk, self.evidence(scale, noise).complexity.clamp(min=0))


@dataclass(frozen=True)
class TunedSetting:
    """An outputscale s, a noise σ², and the bound there."""

    scale: float
    noise: float
    bound: float


def coarse(problem: TuningProblem) -> TunedSetting:
    """The best of a coarse grid: a start for `refine`, and enough to rank priors by."""
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
    """A local minimum of the bound, by L-BFGS on its exact gradient in (log s, log σ²/s).

    Args:
        problem: prior, task, loss and theorem.
        start: where from; never worse than it.
        steps: evaluations at most.
    """
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
    """Ratios σ²/s to try, up to where the posterior is the prior in all but name."""
    largest = problem.spectrum.largest
    highest = largest
    if problem.scale is not None:
        # The mean's share of the KL is at most ‖y‖² λ s/(2σ⁴): there it is 1/200 nats.
        power = problem.spectrum.target_measure().weights.sum()
        highest = torch.maximum(largest, 10 * (power * largest / problem.scale).sqrt())
    decades = math.log10(float(highest / largest)) - math.log10(_LOWEST)
    steps = torch.linspace(0, decades, max(9, round(1.3 * decades)), dtype=torch.float64)
    return _LOWEST * largest * 10 ** steps.to(largest)


def _scales(problem: TuningProblem, ratio: Tensor) -> list[Tensor]:
    """Outputscales to try at one ratio σ²/s."""
    if problem.scale is not None:
        return [ratio.new_tensor(problem.scale)]
    # At s the mean stays and the standard deviation grows as √s: the margin falls as 1/√s.
    mean, variance = problem.marginals(ratio.new_ones(()), ratio)
    size = float(_margin(mean, problem.loss).mean().abs() / variance.mean().sqrt())
    return [ratio.new_tensor(max((size / margin) ** 2, 1e-12)) for margin in _MARGINS]


def _margin(mean: Tensor, loss: Loss) -> Tensor:
    """How far the observed class leads the average of the others, (n,)."""
    labels = loss.labels
    if labels is None or mean.shape[-1] == 1:
        return mean.abs().sum(-1)
    own = mean.gather(-1, labels[:, None])[:, 0]
    return own - (mean.sum(-1) - own) / (mean.shape[-1] - 1)


def _helmert(C: int) -> Tensor:
    """Orthonormal columns that span what is orthogonal to (1, …, 1), (C, C − 1)."""
    rows = torch.arange(1, C, dtype=torch.float64)
    matrix = torch.ones(C, C - 1, dtype=torch.float64).triu()
    matrix[range(1, C), range(C - 1)] = -rows
    return matrix / (rows * (rows + 1)).sqrt()
