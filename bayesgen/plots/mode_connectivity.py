"""Figures of curves and planes between solutions."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from bayesgen.plots.legends import finish
from bayesgen.plots.style import BLUE, GREEN, GREY, ORANGE, VERMILION, tidy

_COLOURS = {
    "line": VERMILION,
    "line to matched units": ORANGE,
    "Bézier curve": BLUE,
    "polygonal chain": GREEN,
}
_SHOWN = (
    ("train_loss", "training loss, nats"),
    ("test_error", "test error"),
    ("effective_dimension", "N_eff (linearised)"),
    ("log_marginal_likelihood", "log p(D) (linearised), nats"),
)


def mode_connectivity(result: xr.Dataset) -> Figure:
    """Plot, for each network, values along the paths, and the loss on the planes below them.

    Args:
        result: result of `bayesgen.experiments.mode_connectivity`.
    """
    count = result.sizes["network"]
    figure = Figure(figsize=(13.0, 6.4 * count), layout="constrained")
    blocks = np.atleast_1d(np.asarray(figure.subfigures(2 * count, 1)))
    for number, network in enumerate(result.network.values):
        one = result.sel(network=network)
        upper, lower = blocks[2 * number], blocks[2 * number + 1]
        for axes, (name, words) in zip(upper.subplots(1, 4), _SHOWN, strict=True):
            along_paths(axes, one[name])
            axes.set_ylabel(words)
        handles, labels = upper.axes[0].get_legend_handles_labels()
        upper.legend(
            handles, labels, loc="outside lower center", ncols=4, frameon=False, fontsize=9
        )
        upper.suptitle(
            f"{network} on {result.attrs['data']}, n = {result.attrs['n']:,}; N_eff and log p(D) "
            f"of {result.attrs['evidence_images']} images",
            fontsize=10,
        )
        panels = lower.subplots(1, one.sizes["plane"])
        low = float(one.plane_train_loss.min())
        norm = LogNorm(max(low, 1e-4), float(one.plane_train_loss.max()))
        assert norm.vmin is not None
        assert norm.vmax is not None
        for axes, plane in zip(panels, one.plane.values, strict=True):
            drawn = loss_plane(axes, one.sel(plane=plane), norm)
        decades = 10.0 ** np.arange(np.ceil(np.log10(norm.vmin)), np.log10(norm.vmax) + 1e-9)
        bar = lower.colorbar(drawn, ax=list(panels), label="training loss, nats", ticks=decades)
        bar.ax.set_yticklabels([f"{decade:g}" for decade in decades])
    return finish(figure)


def along_paths(axes: Axes, values: xr.DataArray) -> None:
    """Draw one quantity along each path against t; losses, which span decades, on a log axis.

    Args:
        axes: where to draw.
        values: a variable (path, point) of one network.
    """
    for path, colour in _COLOURS.items():
        one = values.sel(path=path).dropna("point")
        few = one.size < 20
        if one.size:
            axes.plot(one.point, one, color=colour, label=path, marker="o" if few else "", ms=4)
    if values.name == "train_loss":
        axes.set_yscale("log")
    axes.set_xlabel("position t on the path")
    tidy(axes)


def loss_plane(axes: Axes, one: xr.Dataset, norm: LogNorm) -> Any:
    """Draw contours of the training loss on a plane, with the solutions and the curve on it.

    Args:
        axes: where to draw.
        one: one network and plane of the result.
        norm: scale of the colours.

    Returns:
        The filled contours, for a colour bar.
    """
    loss = np.clip(one.plane_train_loss.values, norm.vmin, norm.vmax)
    assert norm.vmin is not None
    assert norm.vmax is not None
    levels = np.geomspace(norm.vmin, norm.vmax * 1.001, 16)
    drawn = axes.contourf(one.plane_x, one.plane_y, loss, levels=levels, norm=norm, cmap="viridis")
    start, end, third = one.corners.values
    name = str(one.plane.values)
    if name == "three solutions":
        axes.plot(*third, "o", color="white", mec="black", ms=6)
    else:
        t = np.linspace(0, 1, 101)[:, None]
        bezier = (1 - t) ** 2 * start + 2 * t * (1 - t) * third + t**2 * end
        path = bezier if name == "Bézier curve" else np.stack([start, third, end])
        axes.plot(*path.T, color="white", lw=1.5)
        axes.plot(*third, "s", color=GREY, mec="black", ms=5)
    axes.plot(*np.stack([start, end]).T, "o", color="white", mec="black", ms=6)
    axes.set_title(f"plane: {name}", fontsize=10)
    axes.set_xlabel("distance of weights, along the ends")
    axes.set_ylabel("distance, at right angles")
    return drawn
