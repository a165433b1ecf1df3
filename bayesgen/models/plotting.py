"""Plots of a posterior along its inputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from bayesgen._internal import checks
from bayesgen.data.columns import Column
from bayesgen.plots.slices import Slice, probability_slice, regression_slice

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Number of points of a grid, that for predictions by integration, and the grid's room beyond the
# data as a share of their range.
_POINTS, _FEW_POINTS, _ROOM = 200, 60, 0.05
# Largest number of inputs that are drawn without being asked for.
_MOST = 9
# Largest number of classes in a legend, and of held values in a title.
_LISTED, _TOLD = 12, 3


def plot(
    posterior: Any,
    *,
    column: Any,
    at: Any,
    ax: Axes | Sequence[Axes] | None,
    level: float,
    draws: int,
    seed: int,
) -> Any:
    """Draw predictions along one input or several; see `Reporting.plot`."""
    x = posterior._axis_inputs()
    if not isinstance(x, Tensor) or x.ndim != 2 or not x.is_floating_point():
        raise ValueError(
            "plot needs a posterior of inputs (n, d) that were kept, so that there is an axis to "
            "draw along"
        )
    if posterior.observed.batched:
        raise ValueError("plot is of one task: take posterior.task(0).plot()")
    level = checks.share("level", level)
    if not 0 < level < 1:
        raise ValueError(f"level must lie between 0 and 1, got {level}")
    draws, seed = checks.whole("draws", draws, 0), checks.seed(seed)
    if draws and not hasattr(posterior, "covariance"):
        raise ValueError("draws must be 0 for a posterior that has no covariance of new points")
    every = _inputs_of(posterior, x)
    which = _chosen(column, [each.column.name for each in every])
    centre = _held(at, x, every)
    panels = _panels(ax, len(which))
    for axes, k in zip(panels, which, strict=True):
        part = _slice(posterior, x, every[k], centre, every, (level, draws, seed))
        if posterior.observed.likelihood.labels:
            probability_slice(axes, part, posterior.classes or range(part.mean.shape[1]))
        else:
            regression_slice(axes, part, level, posterior.target or "y")
    handles, labels = panels[0].get_legend_handles_labels()
    if len(labels) <= _LISTED:
        own: Any = panels[0] if ax is not None else panels[0].figure
        wide = 2 if len(panels) == 1 else 4
        where = "best" if ax is not None else "outside upper center"
        own.legend(handles, labels, frameon=False, fontsize=8, loc=where, ncols=wide)
    return panels[0] if len(which) == 1 else np.array(panels, dtype=object)


class _Input(NamedTuple):
    """An input as the user knows it, and its places among the numbers of a row.

    Attributes:
        column: its name and kind.
        where: its places.
    """

    column: Column
    where: slice


def _inputs_of(posterior: Any, x: Tensor) -> list[_Input]:
    if posterior.columns is not None:
        columns: Sequence[Column] = posterior.columns.each
    else:
        names = ["x"] if x.shape[1] == 1 else [f"x{i}" for i in range(x.shape[1])]
        columns = [Column(name, "number") for name in names]
    found, start = [], 0
    for column in columns:
        found.append(_Input(column, slice(start, start + len(column.coded))))
        start += len(column.coded)
    return found


def _chosen(column: Any, names: list[str]) -> list[int]:
    """The inputs to draw along, by name or number."""
    if column is None:
        if len(names) > _MOST:
            raise ValueError(
                f"column must be given for {len(names)} inputs, by name or number, or several in a "
                "list"
            )
        return list(range(len(names)))
    found = []
    for each in column if isinstance(column, list | tuple) else [column]:
        if isinstance(each, str):
            found.append(names.index(checks.one_of("column", each, tuple(names))))
        else:
            found.append(checks.index("column", each, len(names)))
    if not found:
        raise ValueError("column must name an input, got none")
    return found


def _held(at: Any, x: Tensor, every: list[_Input]) -> Tensor:
    """The point at which inputs are held, (d,): medians, and of texts the most frequent."""
    centre = x.median(0).values
    for each in every:
        if each.column.values:
            centre[each.where] = _indicator(x, each, int(x[:, each.where].sum(0).argmax()))
    if at is None:
        return centre
    if not isinstance(at, Mapping):
        given = checks.real("at", at).reshape(-1).to(x)
        if len(given) != x.shape[1]:
            raise ValueError(
                f"at must have {x.shape[1]} values, one for each input, got {len(given)}"
            )
        return given
    names = [each.column.name for each in every]
    for name, value in at.items():
        each = every[names.index(checks.one_of("at", name, tuple(names)))]
        if each.column.values:
            text = checks.one_of(f"at[{name!r}]", value, each.column.values)
            centre[each.where] = _indicator(x, each, each.column.values.index(text))
        else:
            centre[each.where] = checks.number(f"at[{name!r}]", value)
    return centre


def _indicator(x: Tensor, each: _Input, k: int) -> Tensor:
    return torch.eye(len(each.column.values), dtype=x.dtype, device=x.device)[k]


def _panels(ax: Any, count: int) -> list[Axes]:
    if ax is not None:
        given = list(np.ravel(np.asarray(ax, dtype=object)))
        if len(given) != count:
            raise ValueError(
                f"ax must hold {count} axes, one for each input drawn, got {len(given)}"
            )
        wrong = [each for each in given if not hasattr(each, "plot")]
        if wrong:
            raise TypeError(f"ax must hold axes of matplotlib, got {type(wrong[0]).__name__}")
        return given
    from matplotlib.figure import Figure

    columns = min(count, 3)
    rows = -(-count // columns)
    figure = Figure(figsize=(max(5.0, 3.6 * columns), 3.4 * rows), layout="constrained")
    every = list(figure.subplots(rows, columns, squeeze=False).ravel())
    for extra in every[count:]:
        extra.remove()
    return every[:count]


def _slice(
    posterior: Any,
    x: Tensor,
    along: _Input,
    centre: Tensor,
    every: list[_Input],
    setting: tuple[float, int, int],
) -> Slice:
    """Predictions along one input."""
    level, draws, seed = setting
    texts, where = along.column.values, along.where
    if texts:
        grid = torch.arange(len(texts), dtype=x.dtype, device=x.device)
        moved = torch.eye(len(texts), dtype=x.dtype, device=x.device)
    else:
        low, high = float(x[:, where].min()), float(x[:, where].max())
        room = _ROOM * (high - low) or 0.5
        exact = posterior.observed.likelihood.gaussian_noise
        points = _POINTS if exact else _FEW_POINTS
        grid = torch.linspace(low - room, high + room, points, dtype=x.dtype, device=x.device)
        moved = grid[:, None]
    rows = centre.repeat(len(grid), 1)
    rows[:, where] = moved
    found: Any = posterior.predict(rows)
    empty = np.zeros(0)
    ends: Any = (None, None)
    if posterior.observed.likelihood.labels:
        p = found.probs.detach()
        p = p if p.ndim == 2 else torch.stack([1 - p, p], 1)
        drawn, seen = np.zeros((0, len(grid))), (empty, empty)
        mean = _numpy(p)
    else:
        ends = tuple(map(_numpy, posterior.interval(rows, level)))
        drawn = _draws(posterior, rows, 0 if texts else draws, seed)
        mean = _numpy(found.mean)
        only = len(every) == 1 and not texts
        seen = (_numpy(x[:, 0]), _numpy(posterior.observed.y[0])) if only else (empty, empty)
    others = [each for each in every if each is not along]
    held = ", ".join(f"{each.column.name} = {_word(each, centre)}" for each in others)
    if len(others) > _TOLD:
        texts_too = any(each.column.values for each in others)
        held = "their medians" + (" and most frequent values" if texts_too else "")
    name, (lower, upper) = along.column.name, ends
    return Slice(_numpy(grid), name, held, mean, lower, upper, drawn, *seen, texts)


def _word(each: _Input, centre: Tensor) -> str:
    """The value at which an input is held."""
    if each.column.values:
        return each.column.values[int(centre[each.where].argmax())]
    return f"{float(centre[each.where]):.{6 if each.column.kind == 'date' else 3}g}"


def _numpy(values: Tensor) -> np.ndarray:
    found: np.ndarray = values.detach().double().cpu().numpy()
    return found


def _draws(posterior: Any, rows: Tensor, count: int, seed: int) -> np.ndarray:
    """Draws of the latent function of the first output at new points, (count, m)."""
    if not count:
        return np.zeros((0, len(rows)))
    own: Any = posterior
    values, vectors = torch.linalg.eigh(own.covariance(rows, rows).double())
    generator = torch.Generator().manual_seed(seed)
    z = torch.randn(len(rows), count, generator=generator, dtype=torch.float64).to(values)
    mean = own.mean(rows).double().reshape(len(rows), -1)[:, :1]
    return _numpy((mean + vectors @ (values.clamp(min=0).sqrt()[:, None] * z)).T)
