"""The ladder of inverse temperatures of an annealing run, with frozen settings at each rung."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence

import numpy as np
import torch

from bayesgen.sampling.hmc import Kernel, Stage


def ladder(stages: Sequence[Stage], rungs: int, marked: float) -> list[Kernel]:
    """Kernels at inverse temperatures 0 = β₀ < … < β_T = 1, for the stages of a pilot run.

    The rungs are at equal distances in ∫ sd_β(log p(D | θ)) dβ, the thermodynamic length. The step
    sizes are geometric means of neighbouring stages, and the scales those of the nearest stage.

    Args:
        stages: stages of a pilot run.
        rungs: number T of steps in β, at least 2.
        marked: an inverse temperature that must be a rung; the nearest one is moved to it.

    Source: Gelman & Meng (1998), section 4.3, for the optimal path.
    """
    beta = np.array([stage.kernel.beta for stage in stages])
    deviation = np.array([stage.deviation for stage in stages])
    lengths = np.diff(beta) * 0.5 * (deviation[1:] + deviation[:-1])
    # A likelihood that does not vary leaves the rungs at equal distances in β.
    lengths = lengths + 1e-3 * (lengths.sum() + 1e-12) * np.diff(beta)
    along = np.concatenate([[0.0], np.cumsum(lengths)])
    found = np.interp(np.linspace(0, along[-1], rungs + 1), along, beta)
    found[0], found[-1] = 0.0, 1.0
    if not (marked == found).any():
        inner = 1 + int(np.argmin(np.abs(found[1:-1] - marked)))
        found[inner] = marked
        found.sort()
    logs = np.log([stage.kernel.step for stage in stages])
    smooth = np.array([logs[max(1, k - 2) : k + 3].mean() for k in range(len(logs))])
    steps = np.interp(found, beta, smooth)
    kernels = []
    for b, step in zip(found.tolist(), steps.tolist(), strict=True):
        above = min(bisect_right(beta.tolist(), b), len(stages) - 1)
        near = above if beta[above] - b < b - beta[above - 1] else above - 1
        kernels.append(Kernel(b, math.exp(step), stages[near].kernel.scale))
    return kernels


def index_of(kernels: Sequence[Kernel], beta: float) -> int:
    """Position of an inverse temperature in a ladder."""
    betas = torch.tensor([kernel.beta for kernel in kernels], dtype=torch.float64)
    return int((betas - beta).abs().argmin())
