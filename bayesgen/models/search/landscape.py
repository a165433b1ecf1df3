"""What a search found: hyperparameters by name and unit, the modes, and what is on a bound."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from bayesgen.kernels.parameters import UNITS, VARIANCE, Coordinates
from bayesgen.models.log_evidence import LogEvidence
from bayesgen.models.search.multistart import LocalMaximum

if TYPE_CHECKING:
    import pandas as pd

SCALE, NOISE = "scale", "noise"


@dataclass(frozen=True)
class Landscape:
    """The local maxima of the evidence of one task.

    Attributes:
        modes: the modes, the best first; their points are (θ, log s[, log σ²]).
        at_bound: which entries of the best point lie on the edge of the searched range, (P,).
    """

    modes: Sequence[LocalMaximum]
    at_bound: np.ndarray


def landscape_of(point: np.ndarray, value: float) -> Landscape:
    """The landscape of one setting that was not searched for."""
    edge = np.zeros(len(point), dtype=bool)
    return Landscape([LocalMaximum(point, value, 1, math.nan)], edge)


def check_single(what: str, tasks: int) -> None:
    """Check that a posterior is of one task.

    Raises:
        ValueError: it is of several.
    """
    if tasks > 1:
        raise ValueError(
            f"{what} is of one task, and this posterior is of {tasks}: take "
            f"posterior.task(0).{what}"
        )


class Hyperparameters(dict[str, "float | Tensor"]):
    """Hyperparameters by name; parameters with several entries are tensors.

    Args:
        values: value by name, in the order of the kernel.
        units: unit by name; "" for a number without one.
        at_bound: by name, whether the value lies on the edge of the searched range.
        unidentified: sentences about what the data do not identify.

    Example:
        >>> found = Hyperparameters({"noise": 0.5}, {"noise": "units of y²"})
        >>> found["noise"]
        0.5
        >>> print(found)
        noise  0.5  units of y²
    """

    def __init__(
        self,
        values: Mapping[str, float | Tensor],
        units: Mapping[str, str] | None = None,
        at_bound: Mapping[str, bool] | None = None,
        unidentified: Sequence[str] = (),
    ) -> None:
        super().__init__(values)
        self.units = dict(units or {})
        self.at_bound = {name: bool((at_bound or {}).get(name, False)) for name in values}
        self.unidentified = tuple(unidentified)

    def extended(self, values: Mapping[str, Tensor]) -> Hyperparameters:
        """The same with further parameters, which have no unit and no bounds."""
        others = {k: float(v) if v.numel() == 1 else v.squeeze() for k, v in values.items()}
        return Hyperparameters({**self, **others}, self.units, self.at_bound, self.unidentified)

    def __repr__(self) -> str:
        rows = [
            (
                name,
                _shown(value),
                self.units.get(name, "") + (" (at bound)" if self.at_bound.get(name) else ""),
            )
            for name, value in self.items()
        ]
        widths = [max((len(row[k]) for row in rows), default=0) for k in (0, 1)]
        lines = [f"{a:<{widths[0]}}  {b:<{widths[1]}}  {c}".rstrip() for a, b, c in rows]
        return "\n".join([*lines, *(f"Note: {text}." for text in self.unidentified)])


def _shown(value: float | Tensor) -> str:
    if isinstance(value, Tensor):
        return "[" + ", ".join(f"{float(v):.4g}" for v in value.reshape(-1)) + "]"
    return f"{value:.6g}"


def named(
    coordinates: Coordinates | None,
    point: np.ndarray,
    landscape: Landscape | None,
    unidentified: Sequence[str] = (),
    variance_unit: str = UNITS[VARIANCE],
) -> Hyperparameters:
    """The hyperparameters at a point (θ, log s[, log σ²]), by name.

    Args:
        coordinates: search coordinates of the kernel, or None for a model without a kernel.
        point: the point, (P,).
        landscape: what the search found, or None where nothing was searched.
        unidentified: sentences about what the data do not identify.
        variance_unit: unit of the variances; "" for latent functions of labels or counts.
    """
    values: dict[str, float | Tensor] = {}
    units: dict[str, str] = {}
    bounds: dict[str, bool] = {}
    p = 0 if coordinates is None else len(coordinates)
    edge = np.zeros(len(point), dtype=bool) if landscape is None else landscape.at_bound
    carries = coordinates is not None and coordinates.rescaled() is not None
    for parameter in [] if coordinates is None else coordinates.parameters:
        value = parameter.natural(torch.as_tensor(point[:p], dtype=torch.float64))
        name, where = parameter.name, parameter.where
        values[name] = float(value) if value.numel() == 1 else value.squeeze()
        unit = UNITS[parameter.role]
        if parameter.role == VARIANCE:
            unit = variance_unit if carries else "times scale"
        units[name], bounds[name] = unit, bool(edge[where].any())
    for k, name in ((p, SCALE), (p + 1, NOISE)):
        if k < len(point) and math.isfinite(point[k]):
            values[name], units[name] = math.exp(point[k]), variance_unit
            bounds[name] = bool(edge[k])
    return Hyperparameters(values, units, bounds, unidentified)


def local_evidence(
    coordinates: Coordinates | None,
    point: np.ndarray,
    gradient: Callable[[np.ndarray], np.ndarray],
    learnt: frozenset[str],
    landscape: Landscape | None,
) -> LogEvidence:
    """The evidence of one task around a point (θ, log s[, log σ²]), for standard errors.

    Args:
        coordinates: search coordinates of the kernel, or None for a model without a kernel.
        point: the point, (P,).
        gradient: function from points to derivatives in nats, (P,).
        learnt: names of what was learnt: "kernel", "scale", "noise".
        landscape: what the search found, or None where nothing was searched.
    """
    p = 0 if coordinates is None else len(coordinates)
    parameters = [] if coordinates is None else coordinates.parameters
    entries = {of.name: list(range(of.where.start, of.where.stop)) for of in parameters}
    log, free = np.ones(len(point), dtype=bool), np.zeros(len(point), dtype=bool)
    for of in parameters:
        log[of.where] = of.log
    free[:p] = "kernel" in learnt
    for k, name in ((p, SCALE), (p + 1, NOISE)):
        if k < len(point):
            entries[name], free[k] = [k], name in learnt
    if landscape is not None:
        free &= ~landscape.at_bound[: len(point)]
    return LogEvidence(point, gradient, entries, log, free & np.isfinite(point))


def table(coordinates: Coordinates | None, landscape: Landscape) -> pd.DataFrame:
    """The modes as a table, the best first: evidence in nats, starts, gradient and parameters."""
    import pandas as pd

    rows = []
    for mode in landscape.modes:
        row: dict[str, float] = {
            "log_marginal_likelihood": mode.value,
            "starts": mode.starts,
            "gradient": mode.steepest,
        }
        for name, value in named(coordinates, mode.point, None).items():
            if isinstance(value, Tensor):
                flat = value.reshape(-1).tolist()
                row.update({f"{name}[{i}]": v for i, v in enumerate(flat)})
            else:
                row[name] = value
        rows.append(row)
    return pd.DataFrame(rows)
