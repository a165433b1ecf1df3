"""Figures of bounds on language models against their size and the length of their code."""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bayesgen.plots.legends import finish
from bayesgen.plots.model_size import size_panel
from bayesgen.plots.style import COLOURS, REFERENCE, log_if_wide, tidy


def language_models(result: xr.Dataset) -> Figure:
    """Plot risk and bound against the number of weights, and against the length of the code.

    Args:
        result: result of `bayesgen.experiments.language_models`.
    """
    figure = Figure(figsize=(11.0, 4.6), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    language_panel(left, result)
    left.set_ylabel("bits per character")
    left.set_title("least bound of each architecture", fontsize=10)
    _code_panel(right, result)
    right.set_ylabel("bits per character")
    right.set_title("all settings", fontsize=10)
    attrs = result.attrs
    figure.suptitle(
        f"{attrs['data']}, n = {attrs['n']:,} characters, δ = {attrs['delta']:g}; "
        f"{float(result.payments[0]):.1f} nats paid beside the code",
        fontsize=10,
    )
    return finish(figure)


def language_panel(axes: Axes, result: xr.Dataset, *, legend: bool = True) -> None:
    """Draw risk and bound of the best setting of each architecture against the number of weights.

    Args:
        axes: axes to draw on.
        result: result of `bayesgen.experiments.language_models`.
        legend: whether to draw a legend.
    """
    names = dict.fromkeys(str(name) for name in result.architecture.values)
    places = [
        min(
            np.flatnonzero(result.architecture.values == name),
            key=lambda i: float(result.freedman[i]),
        )
        for name in names
    ]
    best = result.isel(model=places).sortby("parameters")
    one = best.rename(freedman="bound", model="width")
    size_panel(axes, one, legend=False, numbers=False)
    axes.plot(
        one.parameters, one.hoeffding, "--", color=REFERENCE, lw=1.2, label="Hoeffding's bound"
    )
    _marks(axes, result)
    axes.set_ylim(0, 1.12 * max(result.attrs["guessing"], float(one.hoeffding.max())))
    if legend:
        axes.legend(frameon=False, fontsize=8, loc="lower left", ncols=2)


def _marks(axes: Axes, result: xr.Dataset) -> None:
    """Horizontal lines at guessing and at the bounds of the tables."""
    heights = {"guessing": result.attrs["guessing"]}
    for name, value in zip(result.table.values, result.table_freedman.values, strict=True):
        heights[f"table of {name}"] = float(value)
    for words, height in heights.items():
        axes.axhline(height, color=REFERENCE, lw=0.9, ls=":")
        axes.annotate(
            words,
            (1.01, height),
            xycoords=("axes fraction", "data"),
            va="center",
            fontsize=7,
            color=REFERENCE,
        )


def _code_panel(axes: Axes, result: xr.Dataset) -> None:
    """Bounds and risks of all settings against the length of the code."""
    for number, name in enumerate(dict.fromkeys(result.architecture.values)):
        one = result.isel(model=np.flatnonzero(result.architecture.values == name)).sortby("bits")
        colour = COLOURS[number % len(COLOURS)]
        axes.plot(one.bits, one.freedman, "o-", color=colour, lw=1.4, ms=4, label=f"{name}: bound")
        axes.plot(one.bits, one.risk, "o:", color=colour, lw=1.0, ms=3, label=f"{name}: risk")
    log_if_wide(axes.set_xscale, result.bits)
    axes.set_xlabel("length of the code, bits")
    _marks(axes, result)
    tidy(axes)
    axes.legend(frameon=False, fontsize=8, loc="lower left", ncols=2)
