"""Figures of errors and evidence of one model against label noise."""

from __future__ import annotations

import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bayesgen._internal.words import plural
from bayesgen.plots.legends import finish
from bayesgen.plots.style import EVIDENCE, REFERENCE, TEST, TRAINING, canvas, curve, tidy


def label_noise_panel(axes: Axes, result: xr.Dataset) -> None:
    """Draw errors, and on a second axis the evidence, against the share of labels redrawn.

    Lines are means over seeds, and bands are their range.

    Args:
        axes: where to draw.
        result: a result with dims (level, seed).
    """
    n, C = result.attrs["n"], result.attrs["classes"]
    curve(axes, result.test_error, TEST, "test error (clean labels)")
    if "train_error_interpolating" in result:
        name = "training error, small fixed noise"
        curve(axes, result.train_error_interpolating, REFERENCE, name, style="--")
        curve(axes, result.train_error, TRAINING, "training error, learnt noise")
    else:
        curve(axes, result.train_error, TRAINING, "training error")
    axes.axhline(1 - 1 / C, color=REFERENCE, lw=0.8, ls=":", label="guessing")
    axes.set_ylim(-0.03, 1.03)
    axes.set_xlabel("share of labels redrawn")
    axes.set_ylabel("share of wrong labels")
    right = axes.twinx()
    curve(right, result.log_marginal_likelihood / n, EVIDENCE, "evidence (right)", style="--")
    right.set_ylabel("log p(D)/n, nats", color=EVIDENCE)
    right.spines["top"].set_visible(False)
    (lines, words), (more, others) = (a.get_legend_handles_labels() for a in (axes, right))
    axes.legend(lines + more, words + others, frameon=False, fontsize=7.5)
    tidy(axes)


def label_noise(result: xr.Dataset, ax: Axes | None = None) -> Figure:
    """Plot errors and evidence of one model against the share of labels redrawn.

    Args:
        result: result of `bayesgen.experiments.gaussian_process_label_noise` or
            `resnet_label_noise`.
        ax: axes to draw on; None makes a figure.
    """
    figure, axes = canvas(ax, (6.0, 4.2))
    label_noise_panel(axes, result)
    seeds = result.sizes["seed"]
    axes.set_title(
        f"{result.attrs['data']}, n = {result.attrs['n']:,}, {plural(seeds, 'seed')}", fontsize=10
    )
    return finish(figure, [axes])
