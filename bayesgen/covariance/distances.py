"""Squared distances between rows of inputs."""

from __future__ import annotations

import math
from functools import reduce
from operator import add

import torch
from torch import Tensor

# Rows processed at a time; keeps the temporaries of an elementwise sweep over (n, n) small.
BLOCK = 512
# Smallest decay of a covariance, as a power of the rounding unit. Smaller values change no result,
# but processors compute with denormal numbers up to a hundred times more slowly.
_NEGLIGIBLE = 2.5
# Up to this number of columns, differences are as fast as a matrix product.
_FEW_COLUMNS = 4
# Pairs whose squared distance is below this fraction of their squared distances from the centre
# lose digits in a matrix product.
_NEAR = 1 / 32
# Fraction of near pairs in a block of rows from which on all of its pairs are computed again.
_MANY = 1 / 16


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
    """Squared distances ‖x1ᵢ − x2ⱼ‖², (n1, n2), each to a relative error of about 100 eps.

    With more than four columns they are ‖a‖² + ‖b‖² − 2aᵀb for centred inputs a and b. This loses
    digits for pairs that are much nearer to each other than to the centre. Those are computed again
    from differences.

    Args:
        x1: inputs, (n1, d).
        x2: inputs, (n2, d); None means x1.

    Example:
        >>> far = torch.tensor([[1e8], [1e8 + 1], [-1e8]], dtype=torch.float64)
        >>> squared_distances(far)[0, 1]
        tensor(1., dtype=torch.float64)
    """
    same, right = x2 is None, x1 if x2 is None else x2
    n, result = len(right), x1.new_empty(len(x1), len(right))
    few = x1.shape[1] <= _FEW_COLUMNS
    if not few:
        centre = x1.mean(0)
        a = x1 - centre
        b = a if same else right - centre
        squares_a = a.square().sum(1)
        squares_b = squares_a if same else b.square().sum(1)
    for start in range(0, len(x1), BLOCK):
        stop = min(len(x1), start + BLOCK)
        first = start if same else 0  # compute the upper triangle and mirror it
        part, others = x1[start:stop], right[first:]
        rows = result[start:stop, first:]
        if few:
            rows.zero_()
            for c in range(x1.shape[1]):
                rows.add_((part[:, c : c + 1] - others[:, c]).square_())
        else:
            sums = squares_a[start:stop, None] + squares_b[first:]
            torch.addmm(sums, a[start:stop], b[first:].mT, alpha=-2, out=rows)
            _repair(rows, sums.mul_(_NEAR), part, others)
        if same:
            corner = rows[:, : stop - start]
            corner.copy_(0.5 * (corner + corner.mT))
            corner.fill_diagonal_(0)
            result[stop:, start:stop] = rows[:, stop - start : n - start].mT
    return result


def scaled_squared_distances(a: Tensor, b: Tensor, lengthscale: Tensor) -> Tensor:
    """Squared distances ‖(aᵢ − bⱼ)/ℓ‖², (..., m, n), as accurate as `squared_distances`.

    Differentiable in the length-scales.

    Args:
        a: inputs, (m, d).
        b: inputs, (n, d).
        lengthscale: a length-scale for each column, (..., 1, d).
    """
    if a.shape[1] <= _FEW_COLUMNS:
        weights = (lengthscale**-2)[..., None, :]
        columns = [(a[:, c : c + 1] - b[:, c]).square() for c in range(a.shape[1])]
        return reduce(add, (weights[..., c] * square for c, square in enumerate(columns)))
    centre = b.mean(0)
    left, right = (a - centre) / lengthscale, (b - centre) / lengthscale
    sums = left.square().sum(-1)[..., :, None] + right.square().sum(-1)[..., None, :]
    result = sums - 2 * left @ right.mT
    near = ~(result.detach() >= _NEAR * sums.detach())
    if not near.any():
        return result
    # The same pairs are computed again for every setting of the length-scales.
    again = near.reshape(-1, *near.shape[-2:]).any(0)
    i, j = again.nonzero().unbind(1)
    direct = lengthscale**-2 @ (a[i] - b[j]).square().mT  # (..., 1, pairs)
    return result.masked_scatter(again, direct.expand(*result.shape[:-2], 1, len(i)))


def _repair(rows: Tensor, limits: Tensor, a: Tensor, b: Tensor) -> None:
    """Replace the squared distances below some limits by those from differences."""
    at = (~(rows >= limits)).nonzero()  # also where large inputs overflow
    if len(at) > _MANY * rows.numel():
        direct = torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist")
        rows.copy_(direct.square_())
        return
    for some in at.split(max(1, 2**20 // a.shape[1])):
        i, j = some.unbind(1)
        rows[i, j] = (a[i] - b[j]).square().sum(1)
