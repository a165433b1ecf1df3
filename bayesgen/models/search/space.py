"""The space in which hyperparameters are searched: z = (θ, log s, log σ²) within a box."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from bayesgen.kernels.parameters import (
    BANDWIDTH,
    FREQUENCY,
    LENGTH,
    PERIOD,
    VARIANCE,
    Coordinates,
)
from bayesgen.models.search.inputs import InputScales

# Width of the box of logarithms: factors that no data could tell apart from 0 or ∞.
_FAR = 14.0
# Range of log σ² about the log mean square of the targets.
_NOISE = (-23.0, 7.0)


@dataclass(frozen=True)
class Space:
    """The parameters z = (θ, log s[, log σ²]) of a search.

    Attributes:
        learn: which entries are learnt, booleans (P,).
        low, high: ends of the box, (P,).
        rescaled: entries that multiply the whole prior covariance by c when log c is added to them,
            or None where the scale is not free.
        size: number of entries of θ.
    """

    learn: np.ndarray
    low: np.ndarray
    high: np.ndarray
    rescaled: list[int] | None
    size: int

    def clip(self, z: np.ndarray) -> np.ndarray:
        """Points (..., P) moved into the box; entries that are not learnt are kept."""
        return np.where(self.learn, np.clip(z, self.low, self.high), z)

    def at_bound(self, z: np.ndarray) -> np.ndarray:
        """Which learnt entries lie on the edge of the box, booleans (P,)."""
        return self.learn & ((z <= self.low) | (z >= self.high))


def kernel_box(
    coordinates: Coordinates, inputs: InputScales, variance: float
) -> tuple[np.ndarray, np.ndarray]:
    """The box of θ: the kernel's constraints, and finite ends where a constraint has none.

    Args:
        coordinates: search coordinates of the kernel.
        inputs: scales of the inputs.
        variance: typical variance of the kernel, in the unit of its outputscales.
    """
    low, high = coordinates.low.numpy().copy(), coordinates.high.numpy().copy()
    for p in coordinates.parameters:
        where = p.where
        if not p.log:
            continue
        # With one entry for each column, each is limited by the distances in its own column.
        columns, count = p.part.columns, where.stop - where.start
        apart = count > 1 and count % len(columns) == 0
        for k in range(count):
            own = (columns[k % len(columns)],) if apart else columns
            a, b = _limits(p.role, inputs, own, variance)
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
        spread = abs(math.log(inputs.mean_square(columns)))
        return unit - 2 * _FAR - spread, unit + 2 * _FAR + spread
    return -_FAR, _FAR


def noise_box(mean_square: float) -> tuple[float, float]:
    """Ends of log σ², about the log mean square of the targets."""
    centre = math.log(mean_square)
    return centre + _NOISE[0], centre + _NOISE[1]


def scale_box(mean_square: float, diagonal: float) -> tuple[float, float]:
    """Ends of log s, about the mean square of the targets over the kernel's mean variance."""
    centre = math.log(mean_square) - math.log(diagonal)
    return centre - 2 * _FAR, centre + 2 * _FAR


def positive_mean_square(y: Tensor) -> float:
    """Mean square of the targets, at least the smallest normal number."""
    return max(float(y.double().square().mean()), 1e-290)
