"""Figures of networks against their width."""

from __future__ import annotations

from typing import Any

import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bayesgen.plots.legends import finish
from bayesgen.plots.style import (
    BOUND,
    DIMENSION,
    EVIDENCE,
    GREY,
    ORANGE,
    REFERENCE,
    TEST,
    TRAINING,
    tidy,
)


def widths(result: xr.Dataset) -> Figure:
    """Plot losses, effective dimensions, evidence and sizes against width, a row for each network.

    Lines are means over seeds, and bands are their range.

    Args:
        result: result of `bayesgen.experiments.widths`.
    """
    nets = result.network.values
    figure = Figure(figsize=(13.0, 0.6 + 3.6 * len(nets)), layout="constrained")
    # Legends below the axes are not counted in the layout, which needs some room at the sides.
    figure.set_layout_engine("constrained", rect=(0.012, 0.0, 0.976, 1.0))
    rows = figure.subplots(len(nets), 4, squeeze=False)
    for row, name in zip(rows, nets, strict=True):
        one = result.sel(network=name).dropna("width", how="all", subset=["test_loss"])
        descent(row[0], one)
        _errors(row[1], one)
        _dimensions(row[2], one)
        _evidence(row[3], one)
        row[0].set_title(f"{name}: loss and N_eff", fontsize=9)
    figure.suptitle(
        f"{result.attrs['data']}, {result.attrs['level']:.0%} of the training labels redrawn",
        fontsize=10,
    )
    return finish(figure)


def descent(axes: Axes, one: xr.Dataset, *, alpha: float = 1.0, exact: bool = True) -> Axes:
    """Draw test and training loss against width, and N_eff on a second axis.

    Args:
        axes: axes to draw on.
        one: result of `bayesgen.experiments.widths` for one network.
        alpha: ridge α of the effective dimension; the nearest one of the result is taken.
        exact: True for N_eff of all eigenvalues of the GGN, False for the sum over Ritz values.

    Returns:
        The second axis.
    """
    lines = [
        _line(axes, one.test_loss, TEST, "test loss"),
        _line(axes, one.train_loss, TRAINING, "training loss"),
    ]
    other = axes.twinx()
    assert isinstance(other, Axes)
    values = one.ggn_dimension if exact else one.ritz_dimension
    values = values.sel(alpha=alpha, method="nearest")
    label = "N_eff (GGN)" if exact else "N_eff (Ritz values)"
    lines.append(_line(other, values, DIMENSION, label, style="--"))
    other.set_ylabel(f"N_eff, α = {float(values.alpha):g}")
    other.spines["top"].set_visible(False)
    other.set_ylim(bottom=0)
    axes.set_ylabel("mean loss, nats")
    axes.set_ylim(bottom=0)
    _finish(axes, one)
    _legend(axes, lines)
    return other


def _errors(axes: Axes, one: xr.Dataset) -> None:
    _line(axes, one.test_error, TEST, "test error")
    _line(axes, one.train_error, TRAINING, "training error")
    _line(axes, one.bound, BOUND, "PAC-Bayes bound", style=":")
    _line(axes, one.compressed_bound, BOUND, "bound, compressed", style="--")
    axes.set_ylim(0, 1.05)
    axes.set_title("0–1 errors and bounds", fontsize=9)
    axes.set_ylabel("share of labels")
    _finish(axes, one)
    _legend(axes)


def _dimensions(axes: Axes, one: xr.Dataset) -> None:
    styles = ("-", "--", ":", "-.")
    for alpha, style in zip(one.alpha.values, styles, strict=False):
        at = one.sel(alpha=alpha)
        _line(axes, at.ggn_dimension, DIMENSION, f"GGN, α = {alpha:g}", style=style)
        _line(axes, at.ritz_dimension, REFERENCE, f"Ritz, α = {alpha:g}", style=style)
    axes.set_yscale("log")
    axes.set_title("effective dimension", fontsize=9)
    axes.set_ylabel("N_eff")
    _finish(axes, one)
    _legend(axes)


def _evidence(axes: Axes, one: xr.Dataset) -> None:
    lines = [_line(axes, one.log_marginal_likelihood, EVIDENCE, "Laplace evidence")]
    axes.set_ylabel("log p(D), nats")
    other = axes.twinx()
    assert isinstance(other, Axes)
    lines.append(_line(other, one.description_bytes, ORANGE, "network and wrong labels"))
    lines.append(_line(other, one.compressed_bytes, GREY, "network alone"))
    other.set_ylabel("compressed size, bytes")
    other.set_ylim(bottom=0)
    other.spines["top"].set_visible(False)
    axes.set_title("evidence and compressed size", fontsize=9)
    _finish(axes, one)
    _legend(axes, lines)


def _line(axes: Axes, values: xr.DataArray, colour: str, label: str, style: str = "-") -> Any:
    """Draw the mean over seeds, with their range as a band; return the line."""
    values = values.dropna("width", how="all")
    mean = values.mean("seed")
    (line,) = axes.plot(values.width, mean, style, color=colour, label=label, marker="o", ms=2.5)
    low, high = values.min("seed"), values.max("seed")
    axes.fill_between(values.width, low, high, color=colour, alpha=0.15, lw=0)
    return line


def _finish(axes: Axes, one: xr.Dataset) -> None:
    tidy(axes)
    axes.set_xscale("log", base=2)
    axes.set_xlabel("width k")
    shown = [int(one.width[0])]
    for width in one.width.values[1:]:
        if width >= 1.6 * shown[-1]:
            shown.append(int(width))
    axes.set_xticks(shown, [str(width) for width in shown])
    axes.minorticks_off()


def _legend(axes: Axes, lines: list[Any] | None = None) -> None:
    """Draw the legend below the axes, where it hides no line."""
    handles = axes.get_legend_handles_labels()[0] if lines is None else lines
    axes.legend(
        handles=handles,
        frameon=False,
        fontsize=7.5,
        loc="upper center",
        bbox_to_anchor=(0.5, -0.17),
        ncols=2,
    )
