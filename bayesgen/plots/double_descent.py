"""Figures of double descent of linear models."""

from __future__ import annotations

import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bayesgen.plots.legends import finish
from bayesgen.plots.style import BROWN, DIMENSION, EVIDENCE, ORANGE, TEST, tidy


def linear_double_descent(axes: Axes, result: xr.Dataset) -> None:
    """Draw test error and two effective dimensions against d, as in Wilson (2025), figure 1 (g).

    Lines are medians over seeds, and bands are quartiles.

    Args:
        axes: where to draw; a second axis for the dimensions is added on the right.
        result: result of `bayesgen.experiments.double_descent`.
    """
    _band(axes, result.relative_error, TEST, "test error, least squares")
    _band(axes, result.ridge_relative_error, BROWN, "test error, ridge of maximum evidence")
    axes.set_yscale("log")
    axes.set_xlabel("columns d")
    axes.set_ylabel("‖Xw − y‖/‖y‖ on new data")
    right = axes.twinx()
    right.plot(
        result.d,
        result.notebook_dimension.median("seed"),
        color=DIMENSION,
        ls="--",
        label="min(n, d) − Σ λ/(λ + 0.2)",
    )
    right.set_ylabel("min(n, d) − Σ λ/(λ + 0.2)", color=DIMENSION)
    right.set_ylim(0, 1.05 * float(result.notebook_dimension.median("seed").max()))
    right.spines["top"].set_visible(False)
    axes.axvline(result.attrs["n"], color="black", lw=0.6, ls=":")
    axes.legend(frameon=False, fontsize=7.5)
    tidy(axes)


def double_descent(result: xr.Dataset) -> Figure:
    """Plot errors, evidence and dimensions of linear models, and of random features of images.

    Args:
        result: result of `bayesgen.experiments.double_descent`.
    """
    pairs = [
        (d, a)
        for d in result.coords.get("data", xr.DataArray([])).values
        for a in result.activation.values
    ]
    figure = Figure(figsize=(11.0, 7.0 if pairs else 3.8), layout="constrained")
    grid = figure.add_gridspec(2 if pairs else 1, 1)
    upper = figure.add_subfigure(grid[0])
    errors, evidence, ranks = upper.subplots(1, 3)
    linear_double_descent(errors, result)
    errors.set_title(f"linear model, n = {result.attrs['n']} (dashed: right axis)", fontsize=10)
    _band(evidence, -result.log_marginal_likelihood_per_observation, EVIDENCE, "")
    evidence.set_title("−log p(D)/n with the ridge of maximum evidence", fontsize=10)
    evidence.set_ylabel("nats per observation")
    _band(ranks, result.effective_dimension, DIMENSION, "N_eff(XᵀX; 1)")
    _band(ranks, result.rank_square, ORANGE, "(Σλ)²/Σλ²")
    _band(ranks, result.rank_ratio, BROWN, "Σλ/λ_max")
    ranks.set_yscale("log")
    ranks.set_title("effective dimension and effective ranks", fontsize=10)
    ranks.legend(frameon=False, fontsize=8)
    for axes in (evidence, ranks):
        axes.set_xlabel("columns d")
        tidy(axes)
    if pairs:
        lower = figure.add_subfigure(grid[1])
        for axes, (data, activation) in zip(lower.subplots(1, len(pairs)), pairs, strict=True):
            _feature_panel(axes, result.sel(data=data, activation=activation))
            axes.set_title(f"{data}: {activation}", fontsize=9)
    return finish(figure)


def _feature_panel(axes: Axes, one: xr.Dataset) -> None:
    middle = one.mean("draw")
    axes.plot(one.share, middle.feature_mse, color=TEST, label="test MSE, least squares")
    axes.plot(one.share, middle.ridge_feature_mse, color=BROWN, label="test MSE, ridge")
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("features per observation")
    axes.set_ylabel("test MSE of one-hot labels")
    right = axes.twinx()
    right.plot(one.share, -middle.feature_evidence_per_observation, color=EVIDENCE, ls="--")
    right.set_ylabel("−log p(D)/n, nats (dashed)", color=EVIDENCE)
    right.spines["top"].set_visible(False)
    axes.axvline(1.0, color="black", lw=0.6, ls=":")
    axes.legend(frameon=False, fontsize=7)
    tidy(axes)


def _band(axes: Axes, values: xr.DataArray, colour: str, label: str) -> None:
    axes.plot(values.d, values.median("seed"), color=colour, label=label)
    low, high = values.quantile(0.25, "seed"), values.quantile(0.75, "seed")
    axes.fill_between(values.d, low, high, color=colour, alpha=0.2, lw=0)
