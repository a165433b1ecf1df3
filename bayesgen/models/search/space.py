"""The space in which hyperparameters are searched: z = (θ, log s, log σ²) within a box."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from bayesgen.covariance.gram import Gram, KernelGram
from bayesgen.kernels.parameters import (
    BANDWIDTH,
    FREQUENCY,
    LENGTH,
    PERIOD,
    SQUARE,
    VARIANCE,
    Coordinates,
)
from bayesgen.kernels.structure import multiplied
from bayesgen.models.search.ascent import Box
from bayesgen.models.search.inputs import InputScales

# Width of the box of logarithms: factors that no data could tell apart from 0 or ∞.
_FAR = 14.0
# Range of log σ² about the log mean square of the targets.
_NOISE = (-27.0, 7.0)


@dataclass(frozen=True)
class Space:
    """The parameters z = (θ, log s, log σ²) of a search.

    Attributes:
        box: which entries are learnt, and where.
        rescaled: entries that multiply the whole prior covariance by c when log c is added to them,
            or None where the scale is not free.
        size: number of entries of θ.
    """

    box: Box
    rescaled: list[int] | None
    size: int


def kernel_box(
    coordinates: Coordinates, inputs: InputScales, variance: float
) -> tuple[np.ndarray, np.ndarray]:
    """The box of θ: the kernel's constraints, and finite ends where a constraint has none.

    Args:
        coordinates: search coordinates of the kernel.
        inputs: scales of the inputs.
        variance: typical variance of the kernel, in the unit of its outputscales: that of the
            targets where the kernel sets the size of the prior, and 1 where an outputscale does.
    """
    low, high = coordinates.low.numpy().copy(), coordinates.high.numpy().copy()
    inner = multiplied(coordinates.kernel)
    for p in coordinates.parameters:
        where = p.where
        if not p.log:
            continue
        # With one entry for each column, each is limited by the distances in its own column.
        columns, count = p.part.columns, where.stop - where.start
        apart = count > 1 and count % len(columns) == 0
        for k in range(count):
            own = (columns[k % len(columns)],) if apart else columns
            unit = 1.0 if id(p.part.kernel) in inner else variance
            a, b = _limits(p.role, inputs, own, unit)
            at = where.start + k
            low[at] = low[at] if np.isfinite(low[at]) else min(a, high[at])
            high[at] = high[at] if np.isfinite(high[at]) else max(b, low[at])
    return low, high


def _limits(
    role: str, inputs: InputScales, columns: tuple[int, ...], variance: float
) -> tuple[float, float]:
    near, far = math.log(inputs.nearest(columns)), math.log(inputs.diameter(columns))
    if role == LENGTH:
        return near - _FAR / 2, far + _FAR
    if role == PERIOD:
        return near - _FAR / 4, far + _FAR
    if role in (FREQUENCY, BANDWIDTH):
        return -far - _FAR, -near + _FAR / 4
    if role == VARIANCE:
        # A variance of a linear kernel is per unit of x².
        unit = math.log(variance)
        spread = 3 * abs(math.log(inputs.mean_square(columns)))
        return unit - 2 * _FAR - spread, unit + 2 * _FAR + spread
    if role == SQUARE:
        square = math.log(inputs.mean_square(columns))
        return square - _FAR, square + _FAR
    return -_FAR, _FAR


def mean_diagonal(gram: Gram) -> float:
    """Mean prior variance at the given parameters, over some of the inputs; at least positive."""
    some = gram.x[:: max(1, len(gram.x) // 200)]
    mean = float(gram.diagonal(gram.start(), some).double().mean())
    return mean if math.isfinite(mean) and mean > 0 else 1.0


def log_variances(gram: Gram, theta: np.ndarray) -> np.ndarray:
    """Logarithm of the mean variance k(x, x) over some inputs at settings θ (N, p), (N,).

    Outputscales are drawn relative to it, so that a draw of the kernel says nothing about the size
    of the prior.
    """
    x, settings = gram.x, gram.x.new_tensor(theta)
    some = x[:: max(1, len(x) // 20)]
    if isinstance(gram, KernelGram):
        matrices = gram.on(some).lower_matrices(settings)
        means = matrices.diagonal(dim1=-2, dim2=-1).mean(-1)
    else:
        means = torch.stack([gram.diagonal(one, some).mean() for one in settings])
    return np.nan_to_num(means.double().clamp(min=1e-290).log().cpu().numpy())


def noise_box(mean_square: float) -> tuple[float, float]:
    """Ends of log σ², about the log mean square of the targets."""
    centre = math.log(mean_square)
    return centre + _NOISE[0], centre + _NOISE[1]


def scale_box(mean_square: float, diagonal: float, inputs: InputScales) -> tuple[float, float]:
    """Ends of log s, about the mean square of the targets over the kernel's mean variance.

    The variance of a kernel that grows with the inputs changes with their unit.
    """
    centre = math.log(mean_square) - math.log(diagonal)
    spread = 3 * abs(math.log(inputs.mean_square(tuple(range(inputs.x.shape[1])))))
    return centre - 2 * _FAR - spread, centre + 2 * _FAR + spread


def positive_mean_square(y: Tensor) -> float:
    """Mean square of the targets, at least the smallest normal number."""
    return max(float(y.double().square().mean()), 1e-290)
