"""Figures of bounds against the size of the model: empirical risk plus compressibility."""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from bayesgen.plots.legends import finish
from bayesgen.plots.style import BOUND, COMPLEXITY, TEST, TRAINING, tidy

_TITLES = {"mlp": "two-layer networks", "convnet": "three convolutions"}


def model_size(result: xr.Dataset) -> Figure:
    """Plot empirical risk and compressibility against the number of weights, for each network.

    Args:
        result: result of `bayesgen.experiments.model_size`.
    """
    nets = result.network.values
    figure = Figure(figsize=(0.8 + 4.6 * len(nets), 4.2), layout="constrained")
    panels = figure.subplots(1, len(nets), squeeze=False, sharey=True)[0]
    for axes, name in zip(panels, nets, strict=True):
        one = result.sel(network=name).dropna("width", how="all", subset=["bound"])
        size_panel(axes, one, legend=axes is panels[0])
        axes.set_title(_TITLES.get(str(name), str(name)), fontsize=10)
    panels[0].set_ylabel("0–1 risk")
    attrs = result.attrs
    figure.suptitle(
        f"{attrs['data']}, n = {attrs['n']:,}, δ = {attrs['delta']:g}; every bound pays for "
        f"{attrs['candidates']:,} settings",
        fontsize=10,
    )
    return finish(figure)


def size_panel(axes: Axes, one: xr.Dataset, *, legend: bool = True, numbers: bool = True) -> None:
    """Draw the empirical risk and the rest of the bound on top of it, against the model's size.

    Args:
        axes: axes to draw on.
        one: Dataset over `width` with bound and risk in the same units and `parameters`. If it has
            `test_error`, those are drawn as points; if it has `bits`, the code lengths are written
            above the bounds.
        legend: whether to draw a legend.
        numbers: whether to write the code lengths.
    """
    size, risk, bound = (one[name].values for name in ("parameters", "risk", "bound"))
    axes.fill_between(size, 0, risk, color=TRAINING, alpha=0.35, lw=0, label="empirical risk")
    axes.fill_between(
        size, risk, bound, color=COMPLEXITY, alpha=0.45, lw=0, label="compressibility"
    )
    axes.plot(size, risk, color=TRAINING, lw=1.2, marker="o", ms=3)
    axes.plot(size, bound, color=BOUND, lw=1.6, marker="o", ms=3.5, label="bound")
    least = int(np.argmin(bound))
    axes.plot(size[least], bound[least], "*", color=BOUND, ms=11, label="least bound")
    if "test_error" in one:
        axes.plot(size, one.test_error, "v", color=TEST, ms=5, label="test error")
    if numbers and "bits" in one:
        for at, top, bits in zip(size, bound, one.bits.values, strict=True):
            axes.annotate(
                f"{bits:,.0f} bits",
                (at, top),
                xytext=(0, 7),
                textcoords="offset points",
                ha="left",
                fontsize=7,
            )
    axes.set_xscale("log")
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.margins(x=0.12)
    axes.set_ylim(0, max(1.0, 1.1 * float(bound.max())))
    axes.set_xlabel("number of weights")
    tidy(axes)
    if legend:
        axes.legend(frameon=False, fontsize=8, loc="upper right")
