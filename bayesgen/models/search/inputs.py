"""Length scales of the inputs: distances between neighbours, ranges and periods."""

from __future__ import annotations

from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from bayesgen.covariance.distances import squared_distances
from bayesgen.models.search.periodogram import periods

# Number of points between which distances are computed.
_SOME = 500


class InputScales:
    """The lengths that a search over kernels of some inputs needs.

    Args:
        x: inputs, (n, d).
        y: targets, (B, n, C), whose periods are looked for, or None.

    Example:
        >>> scales = InputScales(torch.linspace(0, 1, 11, dtype=torch.float64)[:, None])
        >>> round(scales.nearest((0,)), 3), round(scales.diameter((0,)), 3)
        (0.1, 1.0)
    """

    def __init__(self, x: Tensor, y: Tensor | None = None) -> None:
        self.x = x.detach().double().cpu()
        self._y = None if y is None else y.detach().double().cpu()
        self._kept: dict[tuple[str, tuple[int, ...]], float] = {}
        self._periods: dict[int, tuple[np.ndarray, np.ndarray]] = {}

    @cached_property
    def ranges(self) -> np.ndarray:
        """Range of each column, (d,); 1 for a constant column."""
        gaps = (self.x.amax(0) - self.x.amin(0)).numpy()
        return np.where(gaps > 0, gaps, 1.0)

    def nearest(self, columns: tuple[int, ...]) -> float:
        """Median distance to the nearest distinct point over some columns."""
        return self._get("nearest", columns)

    def diameter(self, columns: tuple[int, ...]) -> float:
        """Root of the sum of squared ranges of some columns."""
        return float(np.sqrt(np.square(self.ranges[list(columns)]).sum()))

    def mean_square(self, columns: tuple[int, ...]) -> float:
        """Mean of ‖x‖² over some columns; 1 where all are zero."""
        return self._get("mean_square", columns)

    def nearest_in_ranges(self, columns: tuple[int, ...]) -> float:
        """Median distance to the nearest distinct point, with each column divided by its range."""
        return self._get("nearest_in_ranges", columns)

    def periods(self, column: int) -> tuple[np.ndarray, np.ndarray]:
        """Periods that the targets show along a column, with weights; see `periodogram.periods`."""
        if column not in self._periods:
            y = self.x.new_zeros(len(self.x), 1) if self._y is None else self._y
            flat = y if y.ndim == 2 else y.movedim(0, 1).reshape(len(self.x), -1)
            self._periods[column] = periods(self.x[:, column].numpy(), flat.numpy())
        return self._periods[column]

    def _get(self, what: str, columns: tuple[int, ...]) -> float:
        key = (what, columns)
        if key not in self._kept:
            x = self.x[:, list(columns)]
            if what == "mean_square":
                self._kept[key] = float(x.square().sum(1).mean()) or 1.0
            elif what == "nearest":
                self._kept[key] = nearest_distance(x, self.diameter(columns))
            else:
                scaled = x / torch.from_numpy(self.ranges[list(columns)])
                self._kept[key] = nearest_distance(scaled, 1.0)
        return self._kept[key]


def nearest_distance(x: Tensor, otherwise: float) -> float:
    """Median distance to the nearest distinct point, over at least 500 evenly chosen points.

    Args:
        x: inputs, (n, d).
        otherwise: the result where all points coincide.
    """
    if x.shape[1] == 1:
        gaps = torch.unique(x[:, 0]).diff()
        if not len(gaps):
            return otherwise
        edge = gaps.new_full((1,), torch.inf)
        return float(torch.minimum(torch.cat([edge, gaps]), torch.cat([gaps, edge])).median())
    some = x[:: max(1, len(x) // _SOME)]
    distances = squared_distances(some, x)
    # Points that coincide up to the rounding of the inputs are ignored.
    apart = distances > (10 * torch.finfo(x.dtype).eps) ** 2 * distances.max()
    nearest = torch.where(apart, distances, torch.inf).amin(1)
    nearest = nearest[nearest < torch.inf]
    return float(nearest.median().sqrt()) if nearest.numel() else otherwise
