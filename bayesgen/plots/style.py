"""Colours and elements that all figures share.

A quantity has the same colour in every figure: `EVIDENCE`, `FIT`, `COMPLEXITY`, `TRAINING`, `TEST`,
`BOUND`, `DIMENSION`. Lines of one figure that stand for models, groups or paths take colours of
`COLOURS`.
"""

from __future__ import annotations

from collections.abc import Callable

import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

# Okabe & Ito (2008): distinguishable under every common colour blindness.
BLUE, ORANGE, GREEN, VERMILION, GREY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#666666"
SKY, PURPLE, BLACK, BROWN = "#56B4E9", "#CC79A7", "#000000", "#8C6D31"
COLOURS = (BLUE, ORANGE, GREEN, VERMILION, GREY, PURPLE, SKY, BLACK, BROWN)

# log p(D) and its parts, fit − complexity.
EVIDENCE, FIT, COMPLEXITY = BLUE, GREEN, ORANGE
# Errors and losses of training and of test data, and bounds of them.
TRAINING, TEST, BOUND = SKY, VERMILION, BLACK
# Effective dimension N_eff.
DIMENSION = PURPLE
# What a line is compared with: guessing, the truth, a second method.
REFERENCE = GREY


def canvas(ax: Axes | None, size: tuple[float, float]) -> tuple[Figure, Axes]:
    """The axes of a figure of one panel: those that were given, or those of a new figure.

    Args:
        ax: axes, or None.
        size: width and height of a new figure, in inches.

    Returns:
        The figure and the axes.
    """
    if ax is None:
        made = Figure(figsize=size, layout="constrained")
        return made, made.subplots()
    figure = ax.get_figure(root=True)
    assert figure is not None
    return figure, ax


def literal(text: object) -> str:
    """A text of the user as matplotlib draws it: dollars do not begin a formula.

    Example:
        >>> literal("price in $, cost in $")
        'price in \\\\$, cost in \\\\$'
    """
    return str(text).replace("$", r"\$")


def log_if_wide(set_scale: Callable[[str], None], values: xr.DataArray) -> None:
    """Set a logarithmic scale where the values span a factor of ten.

    The ticks of a logarithmic axis of less than a decade are crowded and hard to read.
    """
    if 0 < 10 * float(values.min()) <= float(values.max()):
        set_scale("log")


def tidy(axes: Axes) -> None:
    """Apply the common style to axes: a light grid and no box."""
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)


def curve(axes: Axes, values: xr.DataArray, colour: str, label: str, *, style: str = "-") -> None:
    """Draw the mean over seeds as a line and their range as a band."""
    level = values.level.values
    mean = values.mean("seed").values
    axes.plot(level, mean, style, color=colour, label=label, marker="o", markersize=3.5)
    axes.fill_between(
        level, values.min("seed").values, values.max("seed").values, color=colour, alpha=0.2, lw=0
    )
