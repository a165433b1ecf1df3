"""Figure of the best models of a table, with their predictive bands."""

from __future__ import annotations

from itertools import cycle
from typing import Any

from matplotlib.figure import Figure

from bayesgen.plots.legends import finish
from bayesgen.plots.style import BLUE, COLOURS, GREEN, GREY, VERMILION, literal, tidy
from bayesgen.select.compare import NULL
from bayesgen.select.table import Selection, profile

_BEST = 3
_COLUMNS = 4


def figure(selection: Selection) -> Figure:
    """Plot the best three models along each of the first four inputs.

    The lines are the mean ± 2 sd of observations, or the probability of each class.

    Args:
        selection: result of `select`.

    Example:
        >>> from bayesgen.select.table import bishop, select
        >>> len(figure(select(bishop(n=20))).axes)
        3
    """
    table = selection.table
    ranked = [str(name) for name in selection.ranking.index]
    names = [name for name in ranked if name != NULL and name in selection.posteriors][:_BEST]
    columns = min(len(table.inputs), _COLUMNS)
    result = Figure(figsize=(3.6 * len(names), 3.1 * columns), layout="constrained")
    panels = result.subplots(columns, len(names), sharey=True, squeeze=False)
    for i, row in enumerate(panels):
        for name, axes, colour in zip(names, row, (BLUE, GREEN, VERMILION), strict=False):
            (_classes if table.classes else _band)(axes, selection, name, i, colour)
            axes.set_xlabel(literal(table.inputs[i]))
            tidy(axes)
            if i == 0:
                value = selection.ranking.log_evidence[name]
                axes.set_title(f"{name}\nlog p(D) = {value:.1f}", fontsize=9)
        target = literal(table.target)
        row[0].set_ylabel(f"probability of {target}" if table.classes else target)
    if table.classes and len(table.classes) <= 10:
        panels[0][-1].legend(frameon=False, fontsize=7)
    return finish(result)


def _band(axes: Any, selection: Selection, name: str, column: int, colour: str) -> None:
    """Observations and the predictive band along one input."""
    table, curve = selection.table, profile(selection, name, column)
    axes.plot(table.input(column), table.observed, "o", color=GREY, ms=3, alpha=0.6)
    axes.plot(curve.x, curve["mean"], color=colour)
    axes.fill_between(curve.x, curve.low, curve.high, color=colour, alpha=0.18, lw=0)


def _classes(axes: Any, selection: Selection, name: str, column: int, _: str) -> None:
    """Probability of each class along one input."""
    curve = profile(selection, name, column)
    for label, colour in zip(selection.table.classes, cycle(COLOURS), strict=False):
        axes.plot(curve.x, curve[f"p({label})"], color=colour, label=literal(label))
    axes.set_ylim(-0.03, 1.03)
