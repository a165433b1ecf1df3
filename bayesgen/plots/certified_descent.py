"""Figures of double descent over the width of networks, beside bounds of the risk."""

from __future__ import annotations

import math

import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bayesgen.plots.legends import finish
from bayesgen.plots.style import BOUND, COLOURS, TEST, TRAINING, tidy


def certified_descent(result: xr.Dataset) -> Figure:
    """Plot errors, bounds and complexities against width: a row for each network.

    Lines are means over seeds, and bands are their range.

    Args:
        result: result of `bayesgen.experiments.certified_descent`.
    """
    nets, levels = result.network.values, result.level.values
    columns = len(levels) + 1
    figure = Figure(figsize=(0.6 + 4.1 * columns, 1.3 + 3.3 * len(nets)), layout="constrained")
    rows = figure.subplots(len(nets), columns, squeeze=False)
    for row, name in zip(rows, nets, strict=True):
        one = result.sel(network=name).dropna("width", how="all", subset=["test_error"])
        for axes, level in zip(row[:-1], levels, strict=True):
            descent_panel(axes, one.sel(level=level))
            axes.set_title(f"{name}, {level:.0%} of the labels redrawn", fontsize=9)
        row[0].set_ylabel("0–1 risk")
        _complexities(row[-1], one)
    handles, labels = rows[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False, fontsize=8.5)
    attrs = result.attrs
    figure.suptitle(
        f"{attrs['data']}, n = {attrs['n']:,}; every bound of a compressed network pays for "
        f"{attrs['candidates']:,} settings",
        fontsize=10,
    )
    return finish(figure)


def descent_panel(axes: Axes, one: xr.Dataset) -> None:
    """Draw the errors of trained and compressed networks, with their bounds, against width.

    Args:
        axes: axes to draw on.
        one: result of `bayesgen.experiments.certified_descent` for one network and level.
    """
    lines = (
        ("test_error", TEST, "-", "trained: test error, clean labels"),
        ("noisy_test_error", TEST, "--", "trained: test error, noisy labels"),
        ("train_error", TRAINING, "-", "trained: error on noisy training labels"),
        ("gibbs_bound", BOUND, ":", "trained, Gaussian weights: bound on noisy labels"),
        ("bound", BOUND, "-", "compressed: bound on noisy labels"),
        ("compressed_noisy_test_error", TEST, ":", "compressed: test error, noisy labels"),
        ("risk", TRAINING, ":", "compressed: error on noisy training labels"),
    )
    for name, colour, style, label in lines:
        _line(axes, one[name], colour, label, style)
    axes.set_ylim(0, 1.05)
    _finish(axes, one)


def _complexities(axes: Axes, one: xr.Dataset) -> None:
    """Draw the KL of the trained network and the code length of the compressed one, in nats."""
    for level, colour in zip(one.level.values, COLOURS, strict=False):
        at = one.sel(level=level)
        _line(axes, at.kl, colour, f"KL, trained, {level:.0%} redrawn", "-")
        _line(axes, at.bits * math.log(2), colour, f"code, {level:.0%} redrawn", ":")
    axes.set_yscale("log")
    axes.set_ylabel("nats")
    axes.set_title("complexity (solid: KL, dotted: code)", fontsize=9)
    axes.legend(frameon=False, fontsize=7)
    _finish(axes, one)


def _line(axes: Axes, values: xr.DataArray, colour: str, label: str, style: str) -> None:
    """Draw the mean over seeds, with their range as a band."""
    width = values.width.values
    axes.plot(width, values.mean("seed"), style, color=colour, label=label, marker="o", ms=2.5)
    low, high = values.min("seed"), values.max("seed")
    axes.fill_between(width, low, high, color=colour, alpha=0.12, lw=0)


def _finish(axes: Axes, one: xr.Dataset) -> None:
    tidy(axes)
    axes.set_xscale("log", base=2)
    axes.set_xlabel("width")
    width = one.width.values
    axes.set_xticks(width, [str(w) for w in width])
    axes.minorticks_off()
