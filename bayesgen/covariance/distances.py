"""Squared distances between rows of inputs."""

from __future__ import annotations

import math

import torch
from torch import Tensor

# Rows processed at a time; keeps the temporaries of an elementwise sweep over (n, n) small.
BLOCK = 512
# Smallest decay of a covariance, as a power of the rounding unit. Smaller values change no result,
# but processors compute with denormal numbers up to a hundred times more slowly.
_NEGLIGIBLE = 2.5


def least_exponent(dtype: torch.dtype) -> float:
    """Exponent at which a decay exp(·) from 1 is far below rounding."""
    return _NEGLIGIBLE * math.log(torch.finfo(dtype).eps)


def decay_(exponent: Tensor) -> Tensor:
    """exp(exponent) in place, without values so small that they would be denormal numbers."""
    return exponent.clamp_(min=least_exponent(exponent.dtype)).exp_()


def decay(exponent: Tensor) -> Tensor:
    """exp(exponent) as `decay_`; differentiable."""
    return exponent.clamp(min=least_exponent(exponent.dtype)).exp()


def squared_distances(x1: Tensor, x2: Tensor | None = None) -> Tensor:
    """Squared distances ‖x1ᵢ − x2ⱼ‖², (n1, n2), by matrix products of centred inputs.

    x2 = None means x2 = x1.
    """
    centre = x1.mean(0)
    a = x1 - centre
    norms = a.square().sum(1)
    if x2 is not None:
        b = x2 - centre
        result = torch.addmm(b.square().sum(1).expand(len(a), -1), a, b.mT, alpha=-2)
        return result.add_(norms[:, None]).clamp_(min=0)
    n = len(a)
    result = a.new_empty(n, n)
    for start in range(0, n, 2 * BLOCK):  # compute the upper triangle and mirror it
        stop = min(n, start + 2 * BLOCK)
        part = a[start:stop]
        rows = torch.addmm(norms[start:].expand(len(part), -1), part, a[start:].mT, alpha=-2)
        rows.add_(norms[start:stop, None]).clamp_(min=0)
        corner = rows[:, : stop - start]
        corner.copy_(0.5 * (corner + corner.mT))
        result[start:stop, start:] = rows
        result[start:, start:stop] = rows.mT
    result.fill_diagonal_(0)
    return result
