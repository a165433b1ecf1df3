"""Figure of the best models of a table, with their predictive bands."""

from __future__ import annotations

from matplotlib.figure import Figure

from bayesgen.plots.style import BLUE, GREEN, GREY, VERMILION, tidy
from bayesgen.select.table import Selection, profile

_BEST = 3
_COLUMNS = 4


def figure(selection: Selection) -> Figure:
    """Plot the best three models along each of the first four inputs: mean ± 2 sd of observations.

    Args:
        selection: result of `select`.

    Example:
        >>> from bayesgen.select.table import bishop, select
        >>> len(figure(select(bishop(n=20))).axes)
        3
    """
    table = selection.table
    names = [name for name in selection.ranking.index if name != "null"][:_BEST]
    columns = min(len(table.inputs), _COLUMNS)
    result = Figure(figsize=(3.6 * len(names), 3.1 * columns), layout="constrained")
    panels = result.subplots(columns, len(names), sharey=True, squeeze=False)
    observed = table.y * table.target_size + table.target_centre
    for i, row in enumerate(panels):
        inputs = table.x[:, i] * table.size[i] + table.centre[i]
        for name, axes, colour in zip(names, row, (BLUE, GREEN, VERMILION), strict=False):
            curve = profile(selection, name, i)
            axes.plot(inputs, observed, "o", color=GREY, ms=3, alpha=0.6)
            axes.plot(curve.x, curve["mean"], color=colour)
            axes.fill_between(curve.x, curve.low, curve.high, color=colour, alpha=0.18, lw=0)
            axes.set_xlabel(table.inputs[i])
            tidy(axes)
            if i == 0:
                value = selection.ranking.log_evidence[name]
                axes.set_title(f"{name}\nlog p(D) = {value:.1f}", fontsize=9)
        row[0].set_ylabel(table.target)
    return result
