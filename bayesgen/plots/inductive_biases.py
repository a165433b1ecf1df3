"""Figures of one family of functions under different preferences."""

from __future__ import annotations

import xarray as xr
from matplotlib.figure import Figure

from bayesgen.plots.legends import finish
from bayesgen.plots.style import BLUE, GREY, ORANGE, VERMILION, tidy


def inductive_biases(result: xr.Dataset) -> Figure:
    """Plot posterior draws for each target and bias, and evidence and error against n.

    Args:
        result: result of `bayesgen.experiments.inductive_biases`.
    """
    colours = dict(zip(result.bias.values, (ORANGE, BLUE, VERMILION), strict=True))
    figure = Figure(figsize=(14.0, 7.6), layout="constrained")
    rows = figure.subplots(result.sizes["target"], result.sizes["bias"] + 2)
    for row, target in zip(rows, result.target.values, strict=True):
        one = result.sel(target=target)
        room = 0.5 * float(one.y.max() - one.y.min())
        for axes, (bias, colour) in zip(row[:-2], colours.items(), strict=True):
            axes.plot(result.point, one.draws.sel(bias=bias).T, color=colour, lw=0.5, alpha=0.4)
            axes.plot(result.point, one.truth, color="black", ls="--", lw=1)
            axes.plot(one.x, one.y, "o", color=GREY, ms=3)
            axes.set_ylim(float(one.y.min()) - room, float(one.y.max()) + room)
            tidy(axes)
        for bias, colour in colours.items():
            own = one.sel(bias=bias)
            each = own.log_marginal_likelihood.median("repetition") / result.n
            row[-2].plot(result.n, each, color=colour, marker="o", ms=3.5, label=bias)
            row[-1].plot(result.n, own.rmse.median("repetition"), color=colour, marker="o", ms=3.5)
        row[0].set_ylabel(f"{target}\ny")
        row[-2].set_ylabel("log p(D)/n, nats")
        row[-1].set_ylabel("test RMSE")
        row[-1].set_yscale("log")
        for axes in row[-2:]:
            axes.set_xscale("log")
            tidy(axes)
    for axes, title in zip(rows[0], [*result.bias.values, "evidence", "error"], strict=True):
        axes.set_title(title, fontsize=10)
    rows[0][-2].legend(frameon=False, fontsize=8)
    for axes, word in zip(
        rows[-1], [*("x" for _ in result.bias), "observations n", "observations n"], strict=True
    ):
        axes.set_xlabel(word)
    figure.suptitle(
        f"Polynomials of degree {result.attrs['degree']} (hard restriction: degree 2), posterior "
        f"draws given n = {result.attrs['shown']}",
        fontsize=10,
    )
    return finish(figure)
