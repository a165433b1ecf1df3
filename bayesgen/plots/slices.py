"""Draw predictions of one posterior along one input."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes

from bayesgen.plots.style import BLUE, COLOURS, GREY, literal, tidy


@dataclass(frozen=True)
class Slice:
    """Predictions along one input, with the others held at some values.

    Attributes:
        grid: values of the input, (m,).
        name: name of the input.
        held: the values at which other inputs are held, in words; "" where there are none.
        mean: predictive mean, (m,) or (m, C); for labels the probabilities of the classes.
        lower, upper: ends of the predictive intervals, of the shape of the mean; None for labels.
        draws: draws of the latent function, (k, m).
        x, y: observations, (n,) and (n,) or (n, C); empty where they do not lie on the slice.
        ticks: the values of an input of texts, which lie at 0, 1, …; empty for numbers.
    """

    grid: np.ndarray
    name: str
    held: str
    mean: np.ndarray
    lower: np.ndarray | None
    upper: np.ndarray | None
    draws: np.ndarray
    x: np.ndarray
    y: np.ndarray
    ticks: tuple[str, ...] = ()


def regression_slice(axes: Axes, part: Slice, level: float, target: str = "y") -> Axes:
    """Draw the mean, the interval, draws and observations of real targets or counts.

    Args:
        axes: where to draw.
        part: the predictions.
        level: probability of the intervals, for the legend.
        target: name of the target.

    Returns:
        The axes.
    """
    columns = part.mean.reshape(len(part.grid), -1).shape[1]
    for k in range(columns):
        colour = BLUE if columns == 1 else COLOURS[k % len(COLOURS)]
        mean = part.mean.reshape(len(part.grid), -1)[:, k]
        label: str | None = "mean" if columns == 1 else f"output {k}"
        style = "o" if part.ticks else "-"
        axes.plot(part.grid, mean, style, color=colour, label=label, zorder=3)
        if part.lower is not None and part.upper is not None:
            low = part.lower.reshape(len(part.grid), -1)[:, k]
            high = part.upper.reshape(len(part.grid), -1)[:, k]
            band = f"{100 * level:g} % interval of observations" if k == 0 else ""
            if part.ticks:
                axes.vlines(part.grid, low, high, color=colour, alpha=0.3, lw=6, label=band)
            else:
                axes.fill_between(part.grid, low, high, color=colour, alpha=0.2, lw=0, label=band)
        if len(part.y):
            y = part.y.reshape(len(part.x), -1)[:, k]
            dot = GREY if columns == 1 else colour
            label = "observations" if k == 0 else None
            axes.plot(part.x, y, ".", color=dot, ms=5, zorder=2, label=label)
    for i, draw in enumerate(part.draws):
        name = "draws of the function" if i == 0 else None
        axes.plot(part.grid, draw, color=BLUE, lw=0.7, alpha=0.5, label=name, zorder=1)
    axes.set_ylabel(literal(target))
    return _finished(axes, part)


def probability_slice(axes: Axes, part: Slice, classes: Sequence[object]) -> Axes:
    """Draw the probability of each class.

    Args:
        axes: where to draw.
        part: the predictions.
        classes: labels of the classes, in the order of the probabilities.

    Returns:
        The axes.
    """
    for k, label in enumerate(classes):
        style, colour = "o" if part.ticks else "-", COLOURS[k % len(COLOURS)]
        axes.plot(part.grid, part.mean[:, k], style, color=colour, label=literal(label))
    axes.set_ylim(-0.02, 1.02)
    axes.set_ylabel("probability of the class")
    return _finished(axes, part)


def _finished(axes: Axes, part: Slice) -> Axes:
    axes.set_xlabel(literal(part.name))
    if part.held:
        axes.set_title(literal(textwrap.fill(f"other inputs at {part.held}", 34)), fontsize=9)
    axes.margins(x=0.15 if part.ticks else 0.01)
    if part.ticks:
        axes.set_xticks(part.grid, [literal(tick) for tick in part.ticks])
    else:
        axes.ticklabel_format(axis="x", useOffset=False)
    tidy(axes)
    return axes
