"""Figures of evidence and errors against label corruption."""

from __future__ import annotations

import math
from itertools import cycle

import xarray as xr
from matplotlib.figure import Figure

from bayesgen._internal.words import plural
from bayesgen.plots.legends import finish
from bayesgen.plots.style import (
    COLOURS,
    COMPLEXITY,
    DIMENSION,
    EVIDENCE,
    FIT,
    REFERENCE,
    TEST,
    TRAINING,
    curve,
    tidy,
)


def corruption(result: xr.Dataset) -> Figure:
    """Plot evidence, its two parts, effective dimension and errors against label corruption.

    Lines are means over seeds, and bands are their range.

    Args:
        result: result of `bayesgen.experiments.corruption`.

    Raises:
        ValueError: the Dataset lacks dims or variables of that experiment.

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

    curve(evidence, result.log_marginal_likelihood / n, EVIDENCE, "noise of maximum evidence")
    twin = "train_error_interpolating" in result  # absent where block Lanczos was used
    if twin:
        curve(
            evidence,
            result.log_marginal_likelihood_interpolating / n,
            REFERENCE,
            "interpolating (tiny fixed noise)",
            style="--",
        )
    evidence.set_title("Evidence, log p(D) / n", fontsize=10)
    evidence.set_ylabel("nats per observation")

    curve(parts, result.fit / n, FIT, "fit")
    curve(parts, result.complexity / n, COMPLEXITY, "complexity (KL)")
    if max(abs(float(result.fit.max())), float(result.complexity.max())) > 20 * n:
        parts.set_yscale("symlog", linthresh=1.0)  # both parts diverge if the learnt noise is 0
    parts.set_title("fit − complexity = evidence", fontsize=10)
    parts.set_ylabel("nats per observation")

    curve(dimension, result.effective_dimension / C, DIMENSION, "effective dimension")
    dimension.set_title("Effective dimension per output", fontsize=10)
    dimension.set_ylabel(f"N_eff / C, of at most n = {n:,}")
    dimension.set_ylim(bottom=0)

    curve(errors, result.test_error, TEST, "test (clean labels)")
    curve(errors, result.train_error, TRAINING, "train (corrupted labels)")
    if twin:
        curve(
            errors, result.train_error_interpolating, REFERENCE, "train, interpolating", style="--"
        )
    errors.axhline(1 - 1 / C, color=REFERENCE, lw=0.8, ls=":", label="guessing")
    errors.set_title("Errors", fontsize=10)
    errors.set_ylabel("share of labels")
    errors.set_ylim(-0.03, 1.03)

    for axes in (evidence, parts):
        axes.legend(frameon=False, fontsize=8)
    errors.legend(frameon=False, fontsize=8, ncols=2)
    for axes in (dimension, errors):
        axes.set_xlabel("share of labels redrawn")
    for axes in (evidence, parts, dimension, errors):
        tidy(axes)
    figure.suptitle(
        f"{result.attrs['data']}, n = {n:,}, {result.attrs['kernel']} kernel, "
        f"{result.attrs['targets']} targets, {plural(result.sizes['seed'], 'seed')}",
        fontsize=10,
    )
    return finish(figure)


def corruption_models(result: xr.Dataset) -> Figure:
    """Plot evidence and errors of several models against label corruption.

    Lines are means over seeds, and bands are their range. The evidence of labels and the evidence
    of their codes have a panel each; where all models are of one kind there is one panel of
    evidence.

    Args:
        result: result of `bayesgen.experiments.corruption_models`.
    """
    n, C = result.attrs["n"], result.attrs["classes"]
    kinds = [kind for kind in ("labels", "density") if (result.kind == kind).any()]
    if len(kinds) == 2:
        figure = Figure(figsize=(10.0, 7.0), layout="constrained")
        panels = figure.subplots(2, 2, sharex=True).ravel()
    else:
        figure = Figure(figsize=(12.0, 4.0), layout="constrained")
        panels = figure.subplots(1, 3)
    places, (training, testing) = dict(zip(kinds, panels, strict=False)), panels[-2:]
    for name, colour in zip(result.model.values, cycle(COLOURS), strict=False):
        one = result.sel(model=name)
        unpaid = f"{name} ({one.excludes.item()} unpaid)" if one.excludes.item() else str(name)
        curve(places[one.kind.item()], one.log_marginal_likelihood / n, colour, unpaid)
        curve(training, one.train_error, colour, str(name))
        curve(testing, one.test_error, colour, str(name))
    titles = {
        "labels": "Evidence of the labels, log p(D) / n",
        "density": "Evidence (a density) of their one-hot codes, log p(D) / n",
    }
    for kind, axes in places.items():
        axes.set_title(titles[kind], fontsize=10)
        axes.set_ylabel("nats per observation")
    if "labels" in places:
        places["labels"].axhline(-math.log(C), color="black", lw=0.8, ls=":", label="guessing")
    training.set_title("Training error, of labels as corrupted", fontsize=10)
    testing.set_title("Test error, of clean labels", fontsize=10)
    training.set_ylabel("share of labels")
    for axes in (training, testing):
        axes.axhline(1 - 1 / C, color="black", lw=0.8, ls=":", label="guessing")
        axes.set_ylim(-0.03, 1.03)
    for axes in panels:
        axes.legend(frameon=False, fontsize=8)
        tidy(axes)
    for axes in panels[-2 if len(kinds) == 2 else 0 :]:
        axes.set_xlabel("share of labels redrawn")
    figure.suptitle(
        f"{result.attrs['data']}, n = {n:,}, {plural(result.sizes['seed'], 'seed')}", fontsize=10
    )
    return finish(figure)
