"""Figure of several estimates of the same log evidence against label corruption."""

from __future__ import annotations

import math
from itertools import cycle

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bayesgen.plots.style import COLOURS, canvas, literal, tidy

_COLUMNS = ("estimate", "level", "value", "lower", "upper")


def evidence_estimates(
    table: pd.DataFrame, *, n: int, classes: int, title: str = "", ax: Axes | None = None
) -> Figure:
    """Plot estimates of log p(D) per observation against label corruption.

    The first estimate of the table is drawn thick, as the reference of the others. An estimate with
    an interval has a band.

    Args:
        table: one row for each estimate and level: estimate (a name), level, value, and lower and
            upper, the ends of an interval or nan, all in nats.
        n: number of observations.
        classes: number of classes C; guessing has −log C nats for each observation.
        title: title of the panel.
        ax: axes to draw in; None makes a figure.

    Raises:
        ValueError: a column is missing, or there are no rows.

    Example:
        >>> table = pd.DataFrame({
        ...     "estimate": ["annealed"] * 2, "level": [0.0, 1.0], "value": [-100.0, -250.0],
        ...     "lower": [-105.0, -256.0], "upper": [-95.0, -246.0]})
        >>> len(evidence_estimates(table, n=100, classes=10).axes)
        1
    """
    missing = [name for name in _COLUMNS if name not in table]
    if missing or table.empty:
        raise ValueError(
            f"table must have rows and the columns {', '.join(_COLUMNS)}, got {len(table)} rows "
            f"without {', '.join(missing) or 'a missing column'}"
        )
    figure, axes = canvas(ax, (8.4, 4.4))
    names = list(dict.fromkeys(table.estimate))
    for name, colour in zip(names, cycle(COLOURS), strict=False):
        one = table[table.estimate == name].sort_values("level")
        first = name == names[0]
        axes.plot(
            one.level,
            one.value / n,
            "-" if first else "--",
            color=colour,
            label=literal(name),
            lw=2.6 if first else 1.3,
            marker="o",
            markersize=4,
        )
        if one.lower.notna().all():
            axes.fill_between(
                one.level, one.lower / n, one.upper / n, color=colour, alpha=0.25, lw=0
            )
    axes.axhline(-math.log(classes), color="black", lw=0.8, ls=":", label="guessing")
    axes.set_xlabel("share of labels redrawn")
    axes.set_ylabel("log p(D) / n, nats per observation")
    axes.set_title(literal(title), fontsize=10)
    # The estimates fill the panel, so that the legend stands beside it.
    axes.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    tidy(axes)
    return figure
