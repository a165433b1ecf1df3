"""Figures of deep kernels and of Laplace approximations of networks."""

from __future__ import annotations

import math

import xarray as xr
from matplotlib.figure import Figure

from bayesgen.plots.legends import finish
from bayesgen.plots.style import (
    BLUE,
    COMPLEXITY,
    EVIDENCE,
    FIT,
    ORANGE,
    PURPLE,
    REFERENCE,
    TEST,
    tidy,
)


def rotation(result: xr.Dataset) -> Figure:
    """Plot predicted against true angles, and the prior correlations of the test images.

    Args:
        result: result of `bayesgen.experiments.rotation`.
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
    figure.colorbar(image, ax=list(below), shrink=0.8, label="correlation")
    figure.suptitle(f"Rotated digits, n = {result.attrs['n']:,}", fontsize=10)
    return finish(figure)


def laplace(result: xr.Dataset) -> Figure:
    """Plot the evidence and its two parts, and the scores of predictions, for each curvature.

    Args:
        result: result of `bayesgen.experiments.laplace`.
    """
    unpaid = [f"\n({what} unpaid)" if what else "" for what in result.excludes.values]
    names = [f"{name}{end}" for name, end in zip(result.curvature.values, unpaid, strict=True)]
    n, attrs = result.attrs["n"], result.attrs
    figure = Figure(figsize=(10.0, 1.8 + 0.55 * (len(names) + 1)), layout="constrained")
    evidence, score = figure.subplots(1, 2)
    rows = range(len(names))
    for shift, (values, colour, label) in enumerate(
        [
            (result.fit, FIT, "fit"),
            (-result.complexity, COMPLEXITY, "−complexity"),
            (result.log_marginal_likelihood, EVIDENCE, "log p(D)"),
        ]
    ):
        error = result.evidence_error / n if shift == 2 else None
        places = [row + 0.27 * (shift - 1) for row in rows]
        evidence.barh(places, values / n, 0.25, color=colour, label=label, xerr=error)
    evidence.axvline(-math.log(attrs["classes"]), color=REFERENCE, lw=0.8, ls=":", label="guessing")
    evidence.set_ylabel("curvature")
    evidence.set_yticks(rows, names)
    evidence.set_xlabel("nats per observation")
    evidence.set_title("Laplace evidence", fontsize=10)
    rows = range(len(names) + 1)
    for shift, (name, colour, label) in enumerate(
        [
            ("nll", TEST, "negative log-likelihood, nats per observation"),
            ("ece", PURPLE, "calibration error, share of labels"),
        ]
    ):
        values = [*result[f"test_{name}"].values, float(result[f"mode_test_{name}"])]
        score.barh([row + 0.36 * (shift - 0.5) for row in rows], values, 0.34, color=colour,
                   label=label)  # fmt: skip
    score.set_yticks(rows, [*names, "the mode"])
    score.set_title("Test labels", fontsize=10)
    score.set_xlabel("nats per observation, or share of labels")
    for axes in (evidence, score):
        axes.invert_yaxis()
        axes.legend(frameon=False, fontsize=8)
        tidy(axes)
        axes.set_axisbelow(True)
    figure.suptitle(
        f"{attrs['network']} on {attrs['data']}, n = {n:,}, {attrs['level']:.0%} of labels redrawn",
        fontsize=10,
    )
    return finish(figure)
