"""Figures of random networks that fit some points."""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bayesgen.plots.legends import finish
from bayesgen.plots.style import BLUE, GREEN, GREY, ORANGE, TEST, VERMILION, tidy

_MODELS = {"linear": GREY, "MLP": BLUE, "LeNet-like": GREEN}


def guess_and_check(result: xr.Dataset) -> Figure:
    """Plot shares of prior mass, and test errors of guessed and trained solutions.

    Args:
        result: result of `bayesgen.experiments.guess_and_check`.
    """
    count = result.sizes["problem"]
    figure = Figure(figsize=(12.0, 3.6 * count), layout="constrained")
    rows = figure.subplots(count, 3, squeeze=False)
    for row, problem in zip(rows, result.problem.values, strict=True):
        one = result.sel(problem=problem)
        accepted_share(row[0], one)
        row[0].set_title(f"{problem}: prior mass that fits", fontsize=10)
        error_by_loss(row[1], one)
        row[1].set_title("test error against normalised loss", fontsize=10)
        matched_errors(row[2], one)
        row[2].set_title("guessed against trained, by cell", fontsize=10)
    return finish(figure)


def accepted_share(axes: Axes, one: xr.Dataset) -> None:
    """Draw the share of prior mass that fits against n, with intervals, for each model.

    Args:
        axes: where to draw.
        one: one problem of the result of `bayesgen.experiments.guess_and_check`.
    """
    n = one.n.values
    shifts = np.linspace(-0.06, 0.06, one.sizes["model"] * one.sizes["draw"])
    number = 0
    for model in one.model.values:
        for draw in one.draw.values:
            cell = one.sel(model=model, draw=draw)
            share = cell.share.where(cell.share > 0)
            bars = np.abs(np.stack([share - cell.share_low, cell.share_high - share]))
            first = draw == one.draw.values[0] and bool(np.isfinite(share).any())
            axes.errorbar(
                n * 2 ** shifts[number],
                share,
                bars,
                fmt="o",
                ms=3.5,
                lw=1,
                color=_MODELS.get(str(model), ORANGE),
                label=str(model) if first else None,
            )
            number += 1
    axes.plot(n, 2.0**-n, color="black", lw=0.8, ls=":", label="2⁻ⁿ")
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    low = float(one.share.where(one.share > 0).min())
    axes.set_ylim(low / 5, 1.0)
    axes.set_xticks(n, [str(value) for value in n])
    axes.set_xlabel("training points n")
    axes.set_ylabel("share (log p(D), as a probability)")
    axes.legend(frameon=False, fontsize=8)
    tidy(axes)


def error_by_loss(axes: Axes, one: xr.Dataset) -> None:
    """Draw mean test errors in bins of the normalised loss, of guessed and of trained solutions.

    Args:
        axes: where to draw.
        one: one problem of the result of `bayesgen.experiments.guess_and_check`.
    """
    stacked = one[
        ["bin_loss", "guess_bin_error", "sgd_bin_error", "guess_bin_count", "sgd_bin_count"]
    ].stack(cell=("model", "n", "draw"))
    loss = np.log(2) - stacked.bin_loss.values
    kinds = (("guess", ORANGE, "guessed", "o"), ("sgd", BLUE, "trained", "x"))
    for name, colour, label, marker in kinds:
        error = stacked[f"{name}_bin_error"].where(stacked[f"{name}_bin_count"] >= 3).values
        axes.plot(loss, error, marker, ms=4, color=colour, alpha=0.5)
        axes.plot([], [], marker, ms=4, color=colour, label=label)
    axes.set_xscale("log")
    axes.axhline(0.5, color="black", lw=0.8, ls=":", label="chance")
    axes.set_xlabel("ln 2 − normalised training loss, nats")
    axes.set_ylabel("test error, mean of a bin")
    axes.legend(frameon=False, fontsize=8)
    tidy(axes)


def matched_errors(axes: Axes, one: xr.Dataset) -> None:
    """Draw the test error of guessed against trained solutions, matched and unmatched.

    Args:
        axes: where to draw.
        one: one problem of the result of `bayesgen.experiments.guess_and_check`.
    """
    pairs = (
        ("guess_error", "sgd_error", GREY, "x", "unmatched"),
        ("matched_guess_error", "matched_sgd_error", VERMILION, "o", "at the same loss"),
    )
    top = 0.05
    for guessed, trained, colour, marker, label in pairs:
        x, y = one[trained].values.ravel(), one[guessed].values.ravel()
        axes.plot(x, y, marker, ms=4, color=colour, label=label)
        top = max(top, float(np.nanmax(np.append(x, 0))), float(np.nanmax(np.append(y, 0))))
    axes.plot([0, 1.05 * top], [0, 1.05 * top], color="black", lw=0.8, ls=":")
    axes.set_xlabel("test error of trained solutions")
    axes.set_ylabel("test error of guessed solutions")
    axes.legend(frameon=False, fontsize=8)
    tidy(axes)


def prior_mass(result: xr.Dataset) -> Figure:
    """Plot shares of prior mass, and test errors of the solutions, against the width.

    Args:
        result: result of `bayesgen.experiments.prior_mass`.
    """
    shown = [
        (problem, family)
        for problem in result.problem.values
        for family in result.family.values
        if bool(np.isfinite(result.share.sel(problem=problem, family=family)).any())
    ]
    figure = Figure(figsize=(3.9 * len(shown), 6.4), layout="constrained")
    upper, lower = figure.subplots(2, len(shown), squeeze=False, sharey="row")
    for above, below, (problem, family) in zip(upper, lower, shown, strict=True):
        one = result.sel(problem=problem, family=family)
        mass_by_width(above, one, 2.0 ** -result.attrs["n"])
        above.set_title(f"{family} on {problem}, n = {result.attrs['n']}", fontsize=10)
        generalisation_by_width(below, one)
    upper[0].set_ylabel("share of prior mass that fits")
    lower[0].set_ylabel("share, or mean test error")
    upper[0].legend(frameon=False, fontsize=8)
    lower[0].legend(frameon=False, fontsize=8)
    return finish(figure)


def mass_by_width(axes: Axes, one: xr.Dataset, uniform: float) -> None:
    """Draw the share of prior mass that fits true and random labels against the width.

    Args:
        axes: where to draw.
        one: one problem and family of the result of `bayesgen.experiments.prior_mass`.
        uniform: the share of a model that prefers no labelling, 2⁻ⁿ.
    """
    for label, colour in (("true", BLUE), ("random", VERMILION)):
        own = one.sel(label=label)
        bars = np.abs(np.stack([own.share - own.share_low, own.share_high - own.share]))
        axes.errorbar(
            one.width, own.share, bars, fmt="o-", ms=4, color=colour, label=f"{label} labels"
        )
    axes.axhline(uniform, color="black", lw=0.8, ls=":", label="2⁻ⁿ")
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xticks(one.width.values, [str(width) for width in one.width.values])
    axes.set_xlabel("width")
    tidy(axes)


def generalisation_by_width(axes: Axes, one: xr.Dataset) -> None:
    """Draw, against the width, which part of the solutions generalises, and their mean error.

    Args:
        axes: where to draw.
        one: one problem and family of the result of `bayesgen.experiments.prior_mass`.
    """
    kinds = (("good", GREEN, "share with test error ≤ 0.1"), ("error", TEST, "mean test error"))
    for name, colour, label in kinds:
        values = one[name]
        axes.plot(one.width, values.mean("draw"), "o-", ms=4, color=colour, label=label)
        axes.fill_between(
            one.width, values.min("draw"), values.max("draw"), color=colour, alpha=0.15, lw=0
        )
    axes.set_xscale("log", base=2)
    axes.set_xticks(one.width.values, [str(width) for width in one.width.values])
    axes.set_xlabel("width")
    axes.set_ylim(0, 1.05)
    tidy(axes)
