"""Figures of experiments' results: a Dataset in, a matplotlib Figure out, no global state."""

from __future__ import annotations

import math

import pandas as pd
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

# Okabe & Ito (2008): told apart under every common colour blindness.
BLUE, ORANGE, GREEN, VERMILION, GREY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#666666"


def tidy(axes: Axes) -> None:
    """The look that all figures share: a light grid, no box."""
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)


def _curve(axes: Axes, values: xr.DataArray, colour: str, label: str, *, style: str = "-") -> None:
    """Mean over seeds as a line, their range as a band."""
    level = values.level.values
    mean = values.mean("seed").values
    axes.plot(level, mean, style, color=colour, label=label, marker="o", markersize=3.5)
    axes.fill_between(
        level, values.min("seed").values, values.max("seed").values, color=colour, alpha=0.2, lw=0
    )


def corruption(result: xr.Dataset) -> Figure:
    """Evidence, its two parts, effective dimension and errors against label corruption.

    Lines are means over seeds, bands their range.

    Args:
        result: what `bayesgen.experiments.corruption` returned.

    Raises:
        ValueError: a Dataset without that experiment's dims and variables.

    Example:
        >>> from bayesgen.experiments import corruption as run
        >>> result = run("digits", train=60, test=50, levels=[0.0, 1.0], seeds=1)
        >>> len(corruption(result).axes)
        4
    """
    needed = {"log_marginal_likelihood", "fit", "complexity", "train_error", "test_error"}
    missing = sorted(needed - set(result.data_vars))
    if missing or set(result.dims) != {"level", "seed"}:
        raise ValueError(
            "result must be what experiments.corruption returns, with dims (level, seed); "
            f"got dims {tuple(result.sizes)}, without {', '.join(missing) or 'nothing missing'}"
        )
    n, C = result.attrs["n"], result.attrs["classes"]
    figure = Figure(figsize=(9.0, 6.4), layout="constrained")
    (evidence, parts), (dimension, errors) = figure.subplots(2, 2, sharex=True)

    _curve(evidence, result.log_marginal_likelihood / n, BLUE, "noise of maximum evidence")
    twin = "train_error_interpolating" in result  # not at a size where nothing is factorised
    if twin:
        _curve(
            evidence,
            result.log_marginal_likelihood_interpolating / n,
            GREY,
            "interpolating (tiny fixed noise)",
            style="--",
        )
    evidence.set_title("Evidence, log p(D) / n")
    evidence.set_ylabel("nats per observation")

    _curve(parts, result.fit / n, GREEN, "fit")
    _curve(parts, result.complexity / n, ORANGE, "complexity (KL)")
    if max(abs(float(result.fit.max())), float(result.complexity.max())) > 20 * n:
        parts.set_yscale("symlog", linthresh=1.0)  # noise learnt to be zero: both parts diverge
    parts.set_title("fit − complexity = evidence")
    parts.set_ylabel("nats per observation")

    _curve(dimension, result.effective_dimension / C, BLUE, "effective dimension")
    dimension.set_title("Effective dimension per output")
    dimension.set_ylabel(f"of at most n = {n:,}")
    dimension.set_ylim(bottom=0)

    _curve(errors, result.test_error, VERMILION, "test (clean labels)")
    _curve(errors, result.train_error, BLUE, "train (corrupted labels)")
    if twin:
        _curve(errors, result.train_error_interpolating, GREY, "train, interpolating", style="--")
    errors.axhline(1 - 1 / C, color="black", lw=0.8, ls=":", label="guessing")
    errors.set_title("Errors")
    errors.set_ylabel("share of labels")
    errors.set_ylim(-0.03, 1.3)  # room for the legend above the curves
    errors.set_yticks([0, 0.2, 0.4, 0.6, 0.8, 1.0])

    for axes in (evidence, parts):
        axes.legend(frameon=False, fontsize=8)
    errors.legend(frameon=False, fontsize=8, loc="upper left", ncols=2)
    for axes in (dimension, errors):
        axes.set_xlabel("share of labels redrawn")
    for axes in (evidence, parts, dimension, errors):
        tidy(axes)
    figure.suptitle(
        f"{result.attrs['data']}, n = {n:,}, {result.attrs['kernel']} kernel, "
        f"{result.attrs['targets']} targets, {result.sizes['seed']} seed(s)",
        fontsize=10,
    )
    return figure


def comparison(table: pd.DataFrame) -> Figure:
    """Evidence of each model against the best, and what it is made of.

    Left: log evidence per observation, best at the top, the null model as a dashed line. Right:
    fit and complexity per observation, whose difference it is.

    Args:
        table: what `bayesgen.compare` returned.

    Raises:
        ValueError: another table.

    Example:
        >>> import torch, bayesgen as bg
        >>> x = torch.linspace(-1, 1, 30, dtype=torch.float64)
        >>> len(comparison(bg.compare({"line": bg.Polynomial(1).fit(x, 2 * x + x**2)})).axes)
        2
    """
    needed = {"log_evidence", "per_observation", "fit", "complexity", "probability"}
    if missing := sorted(needed - set(table.columns)):
        raise ValueError(f"table must be what compare returns, it lacks {', '.join(missing)}")
    shown = table[::-1]
    figure = Figure(figsize=(9.0, 1.6 + 0.42 * len(table)), layout="constrained")
    total, parts = figure.subplots(1, 2, sharey=True)
    rows = range(len(shown))
    n = shown.log_evidence / shown.per_observation
    is_null = [name == "null" for name in shown.index]
    total.scatter(shown.per_observation, rows, c=[GREY if b else BLUE for b in is_null], zorder=3)
    spread = shown.per_observation.max() - shown.per_observation.min()
    for row, (value, chance) in enumerate(
        zip(shown.per_observation, shown.probability, strict=True)
    ):
        if chance == chance:
            text = f"{chance:.2g}" if chance > 1e-3 else "< 0.001"
            total.annotate(text, (value, row), (7, 5), textcoords="offset points", fontsize=8)
    if any(is_null):
        value = shown.per_observation.iloc[is_null.index(True)]
        total.axvline(value, color=GREY, ls="--", lw=1, zorder=1)
    total.margins(x=0.12 if spread else 0.5)
    total.set_yticks(list(rows), list(shown.index))
    total.set_xlabel("log p(D) / n, nats per observation")
    total.set_title("Evidence (number: posterior probability)", fontsize=10)
    parts.scatter(shown.fit / n, rows, color=GREEN, label="fit", zorder=3)
    parts.scatter(
        shown.complexity / n, rows, color=ORANGE, marker="s", label="complexity", zorder=3
    )
    parts.set_xlabel("nats per observation")
    parts.set_title("fit − complexity = evidence", fontsize=10)
    parts.legend(frameon=False, fontsize=8)
    for axes in (total, parts):
        tidy(axes)
    return figure


def order_selection(result: xr.Dataset) -> Figure:
    """Evidence against order, isotropic against order-dependent, one panel a basis.

    Args:
        result: what `bayesgen.experiments.order_selection` returned.
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
    # Orders that cannot follow the data at all lie far below; what matters is the other end.
    low = float(result.log_marginal_likelihood.isel(order=slice(4, None)).min())
    panels[0].set_ylim(low - 0.1 * (top - low), top + 0.08 * (top - low))
    panels[0].set_ylabel("log p(D), nats")
    panels[0].legend(frameon=False, fontsize=9, title="prior variance", title_fontsize=9)
    figure.suptitle(f"y = x + cos πx + 0.1ε, n = {result.attrs['n']}", fontsize=10)
    return figure


def flexible_polynomial(result: xr.Dataset) -> Figure:
    """Data, truth and fit of one flexible model, one panel a data set.

    Args:
        result: what `bayesgen.experiments.flexible_polynomial` returned.
    """
    figure = Figure(figsize=(10.5, 3.3), layout="constrained")
    for axes, name in zip(
        figure.subplots(1, result.sizes["function"]), result.function, strict=True
    ):
        one = result.sel(function=name)
        axes.plot(result.point, one.truth, color=GREY, ls="--", lw=1, label="truth")
        axes.plot(result.point, one.fitted, color=BLUE, label="fit")
        axes.plot(result.row, one.y, "o", color=VERMILION, ms=4, label="data")
        room = 0.35 * float(one.y.max() - one.y.min())
        axes.set_ylim(float(one.y.min()) - room, float(one.y.max()) + room)
        axes.set_title(f"{name.item()}: training RMSE {float(one.train_rmse):.1g}", fontsize=10)
        axes.set_xlabel("x")
        tidy(axes)
    figure.axes[0].legend(frameon=False, fontsize=8)
    figure.suptitle(f"Degree {result.attrs['degree']}, penalty on Σ 2ʲ wⱼ²", fontsize=10)
    return figure


def soft_against_hard(result: xr.Dataset) -> Figure:
    """Test error against n: mean over repetitions ± 1 standard deviation, on a log axis.

    Args:
        result: what `bayesgen.experiments.soft_against_hard` returned.
    """
    figure = Figure(figsize=(10.5, 3.5), layout="constrained")
    for axes, target in zip(figure.subplots(1, 3), result.target.values, strict=True):
        for model, colour in zip(result.model.values, (ORANGE, VERMILION, BLUE), strict=True):
            one = result.test_rmse.sel(model=model, target=target)
            mean, sd = one.mean("repetition"), one.std("repetition")
            low = (mean - sd).clip(min=one.min("repetition"))  # a log axis has no zero
            axes.plot(result.n, mean, color=colour, marker="o", ms=3.5, label=model)
            axes.fill_between(result.n, low, mean + sd, color=colour, alpha=0.15, lw=0)
        axes.set_yscale("log")
        axes.set_title(f"data: {target}", fontsize=10)
        axes.set_xlabel("n")
        tidy(axes)
    figure.axes[0].set_ylabel("test RMSE, mean ± 1 sd")
    figure.axes[0].legend(frameon=False, fontsize=8)
    return figure


def germain(result: xr.Dataset) -> Figure:
    """Parts of the evidence against the degree, and four bounds against n.

    Args:
        result: what `bayesgen.experiments.germain` returned.
    """
    figure = Figure(figsize=(10.0, 4.0), layout="constrained")
    parts, bounds = figure.subplots(1, 2, width_ratios=(2, 3))
    degree = result.degree
    parts.plot(degree, result.risk + result.kl, color=BLUE, marker="o", label="−log p(D) / n")
    parts.plot(degree, result.kl, color=ORANGE, marker="s", label="KL / n")
    parts.plot(degree, result.risk, color=GREEN, marker="^", label="Gibbs risk, training")
    parts.plot(degree, result.test_risk, color=VERMILION, ls="--", marker="v", label="new data")
    parts.set_title(f"Polynomials, {result.attrs['points']} points of sin x", fontsize=10)
    parts.set_xlabel("degree")
    parts.set_ylabel("nats per observation")
    parts.set_ylim(bottom=0)
    parts.legend(frameon=False, fontsize=8, loc=(0.02, 0.36))

    lines = {
        "alquier_n": (ORANGE, "-", "Alquier, λ = n"),
        "catoni": (BLUE, "-", "Catoni (corollary 2)"),
        "alquier_sqrt": (GREEN, "-", "Alquier, λ = √n"),
        "subgamma": (VERMILION, "-", "sub-gamma (an oracle's)"),
        "expected_risk": ("black", "--", "Gibbs risk, new data"),
        "train_risk": (GREY, ":", "Gibbs risk, training"),
    }
    for name, (colour, style, label) in lines.items():
        bounds.plot(result.n, result[name], color=colour, ls=style, label=label, lw=1.6)
    bounds.set_xscale("log")
    bounds.set_ylim(1.0, 6.5)
    bounds.set_title("Linear regression in 20 dimensions, δ = 0.05", fontsize=10)
    bounds.set_xlabel("n")
    bounds.set_ylabel("negative log-likelihood, nats")
    bounds.legend(frameon=False, fontsize=8)
    for axes in (parts, bounds):
        tidy(axes)
    return figure


def corruption_models(result: xr.Dataset) -> Figure:
    """Evidence of labels, evidence of their codes, and errors, of several models.

    Lines are means over seeds, bands their range.

    Args:
        result: what `bayesgen.experiments.corruption_models` returned.
    """
    n, C = result.attrs["n"], result.attrs["classes"]
    figure = Figure(figsize=(10.0, 7.0), layout="constrained")
    (labels, density), (training, testing) = figure.subplots(2, 2, sharex=True)
    colours = (BLUE, ORANGE, GREEN, VERMILION, GREY, "#CC79A7")
    for name, colour in zip(result.model.values, colours, strict=False):
        one = result.sel(model=name)
        place = labels if one.kind.item() == "labels" else density
        unpaid = f"{name} ({one.excludes.item()} unpaid)" if one.excludes.item() else str(name)
        _curve(place, one.log_marginal_likelihood / n, colour, unpaid)
        _curve(training, one.train_error, colour, str(name))
        _curve(testing, one.test_error, colour, str(name))
    labels.axhline(-math.log(C), color="black", lw=0.8, ls=":", label="guessing")
    labels.set_title("Evidence of the labels, log p(D) / n", fontsize=10)
    density.set_title("Evidence (a density) of their one-hot codes, log p(D) / n", fontsize=10)
    labels.set_ylabel("nats per observation")
    training.set_title("Training error, of labels as corrupted", fontsize=10)
    testing.set_title("Test error, of clean labels", fontsize=10)
    training.set_ylabel("share of labels")
    for axes in (training, testing):
        axes.axhline(1 - 1 / C, color="black", lw=0.8, ls=":", label="guessing")
        axes.set_xlabel("share of labels redrawn")
        axes.set_ylim(-0.03, 1.03)
    for axes in (labels, density, training, testing):
        if axes.get_legend_handles_labels()[0]:
            axes.legend(frameon=False, fontsize=8)
        tidy(axes)
    figure.suptitle(
        f"{result.attrs['data']}, n = {n:,}, {result.sizes['seed']} seed(s)", fontsize=10
    )
    return figure


def rotation(result: xr.Dataset) -> Figure:
    """Predicted against true angle, and which images each prior takes for similar.

    Args:
        result: what `bayesgen.experiments.rotation` returned.
    """
    figure = Figure(figsize=(8.6, 7.2), layout="constrained")
    widest = result.attrs["widest"]
    above, below = figure.subplots(2, 2)
    colours = (ORANGE, BLUE)
    for axes, name, colour in zip(above, result.model.values, colours, strict=True):
        one = result.sel(model=name)
        axes.plot([-widest, widest], [-widest, widest], color="black", lw=0.8, ls=":")
        axes.errorbar(
            one.angle, one.predicted, one.sd, fmt="o", ms=3, color=colour, alpha=0.4, elinewidth=0.5
        )
        axes.set_title(f"{name}: test RMSE {float(one.test_rmse):.1f}°", fontsize=10)
        axes.set_xlabel("true angle, degrees")
        axes.set_ylim(-1.6 * widest, 1.6 * widest)
        tidy(axes)
    above[0].set_ylabel("predicted, ± 1 sd, degrees")
    for axes, name in zip(below, result.model.values, strict=True):
        one = result.correlation.sel(model=name)
        image = axes.imshow(
            one, vmin=0, vmax=1, cmap="cividis", extent=(-widest, widest, widest, -widest)
        )
        axes.set_title(f"{name}: prior correlation of test images", fontsize=10)
        axes.set_xlabel("angle, degrees")
    below[0].set_ylabel("angle, degrees")
    figure.colorbar(image, ax=list(below), shrink=0.8)
    figure.suptitle(f"Rotated digits, n = {result.attrs['n']:,}", fontsize=10)
    return figure


def certify(result: xr.Dataset) -> Figure:
    """Bounds and risks, what is paid, and the evidence, against label corruption.

    Lines are means over seeds, bands their range.

    Args:
        result: what `bayesgen.experiments.certify` returned.
    """
    n, C = result.attrs["n"], result.attrs["classes"]
    figure = Figure(figsize=(11.0, 4.0), layout="constrained")
    risks, paid, evidence = figure.subplots(1, 3, width_ratios=(4, 3, 3))
    _curve(risks, result.rademacher, GREY, "Rademacher bound", style="--")
    _curve(risks, result.bound, BLUE, "PAC-Bayes certificate")
    _curve(risks, result.test_gibbs_risk, VERMILION, "Gibbs risk, test")
    _curve(risks, result.gibbs_risk, GREEN, "Gibbs risk, training")
    risks.axhline(1 - 1 / C, color="black", lw=0.8, ls=":", label="guessing")
    risks.set_ylim(0, 1.35)  # room for the legend above the curves
    risks.set_yticks([0, 0.2, 0.4, 0.6, 0.8, 1.0])
    risks.set_ylabel("0–1 risk")
    risks.set_title(f"Bounds (δ = {result.attrs['delta']:g}) and risks", fontsize=10)
    risks.legend(frameon=False, fontsize=8, loc="upper left", ncols=2)
    _curve(paid, result.paid / n, ORANGE, "KL and payments")
    paid.set_title("Complexity, (KL + payments) / n", fontsize=10)
    paid.set_ylabel("nats per observation")
    paid.set_ylim(bottom=0)
    _curve(evidence, result.log_marginal_likelihood / n, BLUE, "evidence")
    evidence.set_title("Evidence, log p(D) / n", fontsize=10)
    evidence.set_ylabel("nats per observation")
    for axes in (risks, paid, evidence):
        axes.set_xlabel("share of labels redrawn")
        tidy(axes)
    figure.suptitle(
        f"{result.attrs['data']}, n = {n:,}, {C} classes, {result.attrs['kernel']}, "
        f"{result.attrs['priors']} prior(s), {result.sizes['seed']} seed(s)",
        fontsize=10,
    )
    return figure
