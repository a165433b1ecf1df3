"""Figures of polynomial regression under different priors."""

from __future__ import annotations

import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bayesgen.plots.legends import finish
from bayesgen.plots.style import BLUE, GREEN, GREY, ORANGE, VERMILION, tidy


def order_selection(result: xr.Dataset) -> Figure:
    """Plot the evidence against the order under both priors, in one panel for each basis.

    Args:
        result: result of `bayesgen.experiments.order_selection`.
    """
    figure = Figure(figsize=(9.0, 3.8), layout="constrained")
    panels = figure.subplots(1, result.sizes["basis"], sharey=True)
    for axes, basis in zip(panels, result.basis.values, strict=True):
        for prior, colour in zip(result.prior.values, (VERMILION, BLUE), strict=True):
            curve = result.log_marginal_likelihood.sel(basis=basis, prior=prior)
            axes.plot(result.order, curve, color=colour, label=prior)
            best = int(curve.values.argmax())
            axes.plot(result.order[best], curve[best], "o", color=colour, ms=5)
        axes.set_title(f"{basis} basis (dots: best order)", fontsize=10)
        axes.set_xlabel("order")
        tidy(axes)
    top = float(result.log_marginal_likelihood.max())
    # The lowest orders cannot fit the data and lie far below; the axis shows the others.
    low = float(result.log_marginal_likelihood.isel(order=slice(4, None)).min())
    panels[0].set_ylim(low - 0.1 * (top - low), top + 0.08 * (top - low))
    panels[0].set_ylabel("log p(D), nats")
    panels[0].legend(frameon=False, fontsize=9, title="prior variance", title_fontsize=9)
    figure.suptitle(f"y = x + cos πx + 0.1ε, n = {result.attrs['n']}", fontsize=10)
    return finish(figure)


def flexible_polynomial(result: xr.Dataset) -> Figure:
    """Plot data, truth and fit of one flexible model, in one panel for each data set.

    Args:
        result: result of `bayesgen.experiments.flexible_polynomial`.
    """
    figure = Figure(figsize=(10.5, 3.3), layout="constrained")
    for axes, name in zip(
        figure.subplots(1, result.sizes["function"]), result.function, strict=True
    ):
        one = result.sel(function=name)
        flexible_fit(axes, one)
        axes.set_title(f"{name.item()}: training RMSE {float(one.train_rmse):.1g}", fontsize=10)
    figure.axes[0].set_ylabel("y")
    figure.axes[0].legend(frameon=False, fontsize=8)
    figure.suptitle(f"Degree {result.attrs['degree']}, penalty on Σ 2ʲ wⱼ²", fontsize=10)
    return finish(figure)


def flexible_fit(axes: Axes, one: xr.Dataset) -> None:
    """Draw data, truth and fit for one function.

    Args:
        axes: where to draw.
        one: one function of the result of `bayesgen.experiments.flexible_polynomial`.
    """
    axes.plot(one.point, one.truth, color=GREY, ls="--", lw=1, label="truth")
    axes.plot(one.point, one.fitted, color=BLUE, label="fit")
    axes.plot(one.row, one.y, "o", color=VERMILION, ms=4, label="data")
    room = 0.35 * float(one.y.max() - one.y.min())
    axes.set_ylim(float(one.y.min()) - room, float(one.y.max()) + room)
    axes.set_xlabel("x")
    tidy(axes)


def soft_against_hard(result: xr.Dataset) -> Figure:
    """Plot test errors against n, relative to the best model at each n.

    Lines are medians over repetitions, and bands are quartiles. Models beyond four times the best
    leave the axis; a second row shows the errors themselves on a log axis.

    Args:
        result: result of `bayesgen.experiments.soft_against_hard`.
    """
    figure = Figure(figsize=(10.5, 6.4), layout="constrained")
    relative, absolute = figure.subplots(2, 3, sharex=True)
    colours = (ORANGE, VERMILION, GREY, GREEN, BLUE)
    for upper, lower, target in zip(relative, absolute, result.target.values, strict=True):
        one = result.test_rmse.sel(target=target)
        best = one.median("repetition").min("model")
        for model, colour in zip(result.model.values, colours, strict=True):
            errors = one.sel(model=model)
            for axes, values in ((upper, errors / best), (lower, errors)):
                low, high = (values.quantile(q, "repetition") for q in (0.25, 0.75))
                axes.plot(
                    result.n,
                    values.median("repetition"),
                    color=colour,
                    label=model,
                    marker="o",
                    ms=3.5,
                )
                axes.fill_between(result.n, low, high, color=colour, alpha=0.15, lw=0)
        upper.set_ylim(0.8, 4.0)
        lower.set_yscale("log")
        upper.set_title(f"data: {target}", fontsize=10)
        lower.set_xlabel("observations n")
        tidy(upper)
        tidy(lower)
    relative[0].set_ylabel("test RMSE / best median at this n")
    absolute[0].set_ylabel("test RMSE")
    handles, labels = relative[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False, fontsize=9)
    return finish(figure)
