"""Figures of measures of flatness against the generalisation gap."""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from bayesgen.plots.legends import finish
from bayesgen.plots.style import COLOURS, GREY, tidy


def flatness(result: xr.Dataset) -> Figure:
    """Plot each measure against the generalisation gap, the rank correlations and Dinh's change.

    Args:
        result: result of `bayesgen.experiments.flatness`.
    """
    names = result.measure.values
    figure = Figure(figsize=(12.0, 8.0), layout="constrained")
    grid = figure.add_gridspec(3, 6)
    for number, name in enumerate(names):
        row, column = divmod(number, 3)
        axes = figure.add_subplot(grid[row, 2 * column : 2 * column + 2])
        scatter(axes, result, name)
        if column == 0:
            axes.set_ylabel("generalisation gap")
    figure.axes[0].legend(frameon=False, fontsize=7, loc="best")
    correlations(figure.add_subplot(grid[2, :4]), result)
    reparametrisation(figure.add_subplot(grid[2, 4:]), result)
    attrs = result.attrs
    figure.suptitle(f"{attrs['says']}; {attrs['data']}, n = {attrs['n']:,}", fontsize=10)
    return finish(figure)


def scatter(axes: Axes, result: xr.Dataset, name: str) -> None:
    """Draw one measure against the gap: colours are levels of corruption, sizes are widths.

    Args:
        axes: axes to draw on.
        result: result of `bayesgen.experiments.flatness`.
        name: name of the measure.
    """
    one = result.sel(measure=name)
    sizes = np.linspace(12, 60, result.sizes["width"])
    for level, colour in zip(result.level.values, COLOURS, strict=False):
        for width, size in zip(result.width.values, sizes, strict=True):
            at = one.sel(level=level, width=width)
            label = f"{level:.0%} redrawn" if width == result.width.values[-1] else None
            axes.scatter(at.value, at.gap, s=size, color=colour, alpha=0.7, lw=0, label=label)
    if float(one.value.min()) > 0 and float(one.value.max()) > 10 * float(one.value.min()):
        axes.set_xscale("log")
        axes.xaxis.set_minor_formatter(NullFormatter())
    tau, low, high = (float(one[v].sel(scope="all")) for v in ("tau", "tau_low", "tau_high"))
    axes.set_title(f"τ = {tau:.2f} [{low:.2f}, {high:.2f}]", fontsize=9)
    unit = str(one.unit.values)
    axes.set_xlabel(name if unit == "1" else f"{name}, {unit}")
    tidy(axes)


def correlations(axes: Axes, result: xr.Dataset) -> None:
    """Draw Kendall's τ of each measure with the gap, over all cells and within each level.

    Args:
        axes: axes to draw on.
        result: result of `bayesgen.experiments.flatness`.
    """
    count = result.sizes["scope"]
    for number, scope in enumerate(result.scope.values):
        at = result.sel(scope=scope)
        places = np.arange(result.sizes["measure"]) + 0.7 * (number / max(count - 1, 1) - 0.5)
        colour = GREY if number == 0 else COLOURS[number - 1]
        axes.plot(places, at.tau, "o", ms=4, color=colour, label=str(scope))
        axes.vlines(places, at.tau_low, at.tau_high, color=colour, lw=1.2)
    axes.axhline(0, color="black", lw=0.8, ls=":")
    axes.set_xticks(range(result.sizes["measure"]), result.measure.values, fontsize=8)
    axes.set_ylim(-1.05, 1.05)
    axes.set_xlabel("measure")
    axes.set_ylabel("Kendall's τ, 90 % interval")
    axes.legend(frameon=False, fontsize=7, ncols=count, loc="lower center")
    tidy(axes)


def reparametrisation(axes: Axes, result: xr.Dataset) -> None:
    """Draw the factor by which the reparametrisation changes each measure.

    Args:
        axes: axes to draw on.
        result: result of `bayesgen.experiments.flatness`.
    """
    moved = result.reparametrised
    ratio = moved.sel(state="after") / moved.sel(state="before")
    places = np.arange(result.sizes["measure"])
    axes.barh(places, np.log10(ratio.clip(min=1e-12)), color=COLOURS[0])
    for place, value in zip(places, ratio.values, strict=True):
        words = f" ×{value:.3g}" if value > 0 else " (sign changes)"
        axes.text(
            max(np.log10(max(value, 1e-12)), 0.0), float(place), words, fontsize=7.5, va="center"
        )
    axes.set_yticks(places, result.measure.values, fontsize=8)
    axes.invert_yaxis()
    axes.margins(x=0.25)
    axes.set_xlabel("log₁₀ (after / before)")
    axes.set_title(f"same function, layers × and ÷ {result.attrs['factor']:g}", fontsize=9)
    tidy(axes)
