"""Colours and elements that all figures share."""

from __future__ import annotations

import xarray as xr
from matplotlib.axes import Axes

# Okabe & Ito (2008): distinguishable under every common colour blindness.
BLUE, ORANGE, GREEN, VERMILION, GREY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#666666"
COLOURS = (BLUE, ORANGE, GREEN, VERMILION, GREY, "#CC79A7", "#56B4E9", "black", "#8C6D31")


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
