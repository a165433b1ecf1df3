"""Figures of the smaller claims of Wilson (2025), one for each experiment."""

from __future__ import annotations

import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bayesgen.plots.legends import finish
from bayesgen.plots.style import (
    BLUE,
    COLOURS,
    GREEN,
    GREY,
    ORANGE,
    REFERENCE,
    TEST,
    TRAINING,
    VERMILION,
    log_if_wide,
    tidy,
)


def bumps(result: xr.Dataset) -> Figure:
    """Plot the evidence against the number of radial basis functions, and the covariance's error.

    Args:
        result: result of `bayesgen.experiments.bumps`.
    """
    figure = Figure(figsize=(9.5, 3.8), layout="constrained")
    evidence, error = figure.subplots(1, 2, width_ratios=(1.6, 1))
    evidence_against_bumps(evidence, result)
    error.plot(result.k, result.kernel_error, "o-", color=REFERENCE, ms=3.5)
    error.set_xscale("log")
    error.set_yscale("log")
    error.set_xlabel("number of bumps k")
    error.set_ylabel("largest error of k(x, x')")
    error.set_title("prior covariance against RBF kernel", fontsize=10)
    tidy(error)
    figure.suptitle(f"y = sin 3πx/2 + x/2 + ε, n = {result.attrs['n']}", fontsize=10)
    return finish(figure)


def evidence_against_bumps(axes: Axes, result: xr.Dataset) -> None:
    """Draw the evidence against the number of bumps, with that of the limit.

    Lines are means over draws of the noise.

    Args:
        axes: where to draw.
        result: result of `bayesgen.experiments.bumps`.
    """
    mean = result.mean("repetition")
    low = float("inf")
    for prior, colour in zip(result.prior.values, (BLUE, GREEN, VERMILION), strict=True):
        one = mean.sel(prior=prior)
        values = one.log_marginal_likelihood
        axes.plot(result.k, values, "o-", color=colour, ms=3.5, label=f"prior variance {prior}")
        low = min(low, float(values[-1]))
        if result.gp_log_marginal_likelihood.sel(prior=prior).notnull().any():
            axes.axhline(float(one.gp_log_marginal_likelihood), color=colour, ls=":", lw=1)
    top = float(mean.log_marginal_likelihood.max())
    room = max(top - low, 1.0)
    axes.set_ylim(low - 2.2 * room, top + 0.2 * room)
    axes.set_xscale("log")
    axes.set_xlabel("number of bumps k")
    axes.set_ylabel("log p(D), nats")
    axes.set_title("evidence (dotted: Gaussian process)", fontsize=10)
    axes.legend(frameon=False, fontsize=8, loc="lower right")
    tidy(axes)


def textbook(result: xr.Dataset) -> Figure:
    """Plot the evidence against order in the settings of two textbook figures.

    Lines are means over draws of the noise, and dots mark the best order.

    Args:
        result: result of `bayesgen.experiments.textbook_orders`.
    """
    figure = Figure(figsize=(9.5, 3.8), layout="constrained")
    bishop, fourier = figure.subplots(1, 2)
    values = result.polynomial_log_marginal_likelihood
    bishop.plot(result.degree, values, color=GREY, lw=0.5, alpha=0.25)
    _with_best(bishop, result.degree, values.mean("repetition"), VERMILION, "mean")
    middle = values.quantile([0.1, 0.9], ["degree", "repetition"]).values
    bishop.set_ylim(middle[0] - 4, middle[1] + 3)
    bishop.set_title("polynomials, fixed prior (Bishop); thin: draws", fontsize=10)
    bishop.set_xlabel("order")
    bishop.set_ylabel("log p(D), nats")
    bishop.legend(frameon=False, fontsize=9, loc="lower right")
    mean = result.fourier_log_marginal_likelihood.mean("repetition")
    colours = (VERMILION, ORANGE, GREEN, BLUE, GREY, *COLOURS[5:])
    for gamma, colour in zip(result.scaling.values, colours, strict=False):
        _with_best(fourier, result.order, mean.sel(scaling=gamma), colour, f"γ = {gamma:g}")
    top, low = float(mean.max()), float(mean.isel(order=slice(1, None)).min())
    fourier.set_ylim(low - 0.1 * (top - low), top + 0.1 * (top - low))
    fourier.set_title("Fourier series, prior variance $S\\,d^{-\\gamma}$", fontsize=10)
    fourier.set_xlabel("order D")
    fourier.set_ylabel("log p(D), nats")
    fourier.legend(frameon=False, fontsize=8, ncols=2, loc="lower left", bbox_to_anchor=(0.08, 0))
    for axes in (bishop, fourier):
        tidy(axes)
    return finish(figure)


def _with_best(
    axes: Axes, order: xr.DataArray, values: xr.DataArray, colour: str, label: str
) -> None:
    """Draw a curve with a dot at its maximum."""
    axes.plot(order, values, color=colour, label=label)
    best = int(values.values.argmax())
    axes.plot(order[best], values[best], "o", color=colour, ms=5)


def contraction(result: xr.Dataset) -> Figure:
    """Plot effective dimension, posterior volume and generalisation gap against n.

    Lines are means over draws, and bands are quartiles.

    Args:
        result: result of `bayesgen.experiments.posterior_contraction`.
    """
    figure = Figure(figsize=(10.5, 3.5), layout="constrained")
    panels = figure.subplots(1, 3)
    gap = result.test_mse - result.train_mse
    shown = (result.effective_dimension, result.log_volume, gap)
    titles = ("effective dimension N_eff", "log volume, posterior/prior", "generalisation gap")
    units = ("N_eff", "nats", "test MSE − training MSE")
    for axes, values, title, unit in zip(panels, shown, titles, units, strict=True):
        for model, colour in zip(result.model.values, (BLUE, VERMILION), strict=True):
            one = values.sel(model=model)
            axes.plot(
                result.n, one.mean("repetition"), "o-", color=colour, ms=3.5, label=str(model)
            )
            low, high = (one.quantile(q, "repetition") for q in (0.25, 0.75))
            axes.fill_between(result.n, low, high, color=colour, alpha=0.2, lw=0)
        axes.set_xscale("log")
        axes.set_xlabel("observations n")
        axes.set_ylabel(unit)
        axes.set_title(title, fontsize=10)
        tidy(axes)
    panels[0].axhline(result.attrs["features"], color="black", lw=0.8, ls=":", label="weights p")
    panels[0].legend(frameon=False, fontsize=8)
    panels[0].set_ylim(top=1.45 * result.attrs["features"])
    for model, colour in zip(result.model.values, (BLUE, VERMILION), strict=True):
        panels[2].plot(
            result.n, result.optimism.sel(model=model).mean("repetition"), "--", color=colour, lw=1
        )
    panels[2].set_yscale("log")
    panels[2].set_title("gap (dashed: 2σ²N_eff/n)", fontsize=10)
    return finish(figure)


def bias_variance(result: xr.Dataset) -> Figure:
    """Plot bias² and variance of each model, in one panel for each function.

    Args:
        result: result of `bayesgen.experiments.bias_variance`.
    """
    figure = Figure(figsize=(11.0, 3.6), layout="constrained")
    panels = figure.subplots(1, result.sizes["function"], sharey=True)
    rows = range(result.sizes["model"])
    for axes, name in zip(panels, result.function.values, strict=True):
        one = result.sel(function=name)
        for values, colour, label, shift in (
            (one.bias2, BLUE, "bias²", -0.18),
            (one.variance, ORANGE, "variance", 0.18),
        ):
            places = [row + shift for row in rows]
            axes.barh(places, values.clip(min=0), 0.34, color=colour, label=label)
        axes.plot(one.error, rows, "|", color="black", ms=14, mew=1.5, label="sum (error)")
        axes.axvline(result.attrs["noise"], color=GREY, lw=0.8, ls=":", label="noise variance")
        axes.set_xscale("log")
        axes.set_xlim(2e-5, 3.0)
        axes.set_xlabel("mean square")
        axes.set_title(str(name), fontsize=10)
        tidy(axes)
        axes.set_axisbelow(True)
    panels[0].set_ylabel("model")
    panels[0].set_yticks(rows, result.model.values)
    panels[0].invert_yaxis()
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False, fontsize=9)
    return finish(figure)


def forests(result: xr.Dataset) -> Figure:
    """Plot errors of one growing tree and of growing forests, in one panel for each task.

    Lines are means over seeds, and bands are their range.

    Args:
        result: result of `bayesgen.experiments.random_forests`.
    """
    figure = Figure(figsize=(11.0, 3.7), layout="constrained")
    panels = figure.subplots(1, result.sizes["task"])
    growing = int((result.leaves > 0).sum())
    step = range(result.sizes["step"])
    names = [str(n) for n in result.leaves.values[:growing]]
    names += [str(n) for n in result.trees.values[growing:]]
    for axes, task in zip(panels, result.task.values, strict=True):
        one = result.sel(task=task)
        for values, colour, label in (
            (one.test_error, TEST, "test"),
            (one.train_error, TRAINING, "training"),
        ):
            axes.plot(step, values.mean("seed"), "o-", color=colour, ms=3, label=label)
            low, high = values.min("seed"), values.max("seed")
            axes.fill_between(step, low, high, color=colour, alpha=0.2, lw=0)
        axes.axvline(growing - 0.5, color="black", lw=0.8, ls=":")
        axes.set_xticks(step, names, rotation=90, fontsize=7)
        top = max(float(one.test_error.max()), float(one.train_error.max()))
        axes.set_ylim(0, max(1.02, 1.05 * top))
        axes.set_xlabel("leaves of one tree  |  number of full trees")
        axes.set_title(str(task), fontsize=10)
        tidy(axes)
    panels[0].set_ylabel("share of wrong labels")
    panels[-1].set_ylabel("MSE / variance of f")
    panels[0].legend(frameon=False, fontsize=9)
    return finish(figure)


def full_batch(result: xr.Dataset) -> Figure:
    """Plot test errors and losses of every seed against the batch size.

    Args:
        result: result of `bayesgen.experiments.full_batch`.
    """
    figure = Figure(figsize=(9.5, 3.6), layout="constrained")
    panels = figure.subplots(1, 3)
    names = [str(int(b)) if b else f"all {result.attrs['n']}" for b in result.batch.values]
    places = range(len(names))
    shown = (
        (100 * result.test_error, "test error, %"),
        (result.test_loss, "test loss, nats per observation"),
        (result.steps, "steps"),
    )
    for axes, (values, label) in zip(panels, shown, strict=True):
        for network, colour in zip(result.network.values, (BLUE, VERMILION), strict=False):
            one = values.sel(network=network)
            axes.plot(places, one.mean("seed"), "o-", color=colour, label=str(network))
            for seed in result.seed.values:
                axes.plot(places, one.sel(seed=seed), color=colour, lw=0.6, alpha=0.35)
        axes.set_xticks(places, names)
        axes.set_xlabel("observations in a batch")
        axes.set_ylabel(label)
        tidy(axes)
    for axes in panels[:2]:
        axes.set_ylim(bottom=0)
    log_if_wide(panels[2].set_yscale, result.steps)
    panels[0].legend(frameon=False, fontsize=9, loc="lower right")
    figure.suptitle(
        f"Digits, training loss {result.attrs['loss']:g} nats (thin lines: seeds)", fontsize=10
    )
    return finish(figure)


def equivariance(result: xr.Dataset) -> Figure:
    """Plot errors of invariance and test errors against the number of training images.

    Lines are means over seeds, and bands are their range.

    Args:
        result: result of `bayesgen.experiments.equivariance`.
    """
    figure = Figure(figsize=(10.5, 3.6), layout="constrained")
    panels = figure.subplots(1, 3)
    places = range(result.sizes["n"])
    names = ["untrained", *(str(n) for n in result.n.values[1:])]
    shown = (
        (result.logits_error, "error of invariance", "logits"),
        (result.softmax_error, "error of invariance", "softmax outputs"),
        (result.test_error, "share of wrong labels", "test error"),
    )
    for axes, (values, label, title) in zip(panels, shown, strict=True):
        for network, colour in zip(result.network.values, (BLUE, GREEN, VERMILION), strict=True):
            one = values.sel(network=network)
            axes.plot(places, one.mean("seed"), "o-", color=colour, ms=4, label=str(network))
            axes.fill_between(
                places, one.min("seed"), one.max("seed"), color=colour, alpha=0.15, lw=0
            )
        axes.set_xticks(places, names)
        axes.set_xlabel("training images")
        axes.set_ylabel(label)
        axes.set_title(title, fontsize=10)
        axes.set_ylim(bottom=0)
        tidy(axes)
    panels[0].legend(frameon=False, fontsize=9)
    figure.suptitle("Shifts of displaced digits by one pixel", fontsize=10)
    return finish(figure)
