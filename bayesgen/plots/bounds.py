"""Figures of PAC-Bayes bounds beside the risks that they bound."""

from __future__ import annotations

import xarray as xr
from matplotlib.figure import Figure

from bayesgen._internal.words import plural
from bayesgen.plots.legends import finish
from bayesgen.plots.style import (
    BLUE,
    BOUND,
    COMPLEXITY,
    EVIDENCE,
    GREEN,
    ORANGE,
    PURPLE,
    REFERENCE,
    TEST,
    TRAINING,
    curve,
    tidy,
)


def germain(result: xr.Dataset) -> Figure:
    """Plot the parts of the evidence against the degree, and four bounds against n.

    Args:
        result: result of `bayesgen.experiments.germain`.
    """
    figure = Figure(figsize=(10.0, 4.0), layout="constrained")
    parts, bounds = figure.subplots(1, 2, width_ratios=(2, 3))
    degree = result.degree
    parts.plot(degree, result.risk + result.kl, color=EVIDENCE, marker="o", label="−log p(D) / n")
    parts.plot(degree, result.kl, color=COMPLEXITY, marker="s", label="KL / n")
    parts.plot(degree, result.risk, color=TRAINING, marker="^", label="Gibbs risk, training")
    parts.plot(
        degree, result.test_risk, color=TEST, ls="--", marker="v", label="Gibbs risk, new data"
    )
    parts.set_title(f"Polynomials, {result.attrs['points']} points of sin x", fontsize=10)
    parts.set_xlabel("degree of the polynomial")
    parts.set_ylabel("nats per observation")
    parts.set_ylim(bottom=0)
    parts.legend(frameon=False, fontsize=8)

    lines = {
        "alquier_n": (ORANGE, "-", "Alquier, λ = n"),
        "catoni": (BLUE, "-", "Catoni (corollary 2)"),
        "alquier_sqrt": (GREEN, "-", "Alquier, λ = √n"),
        "subgamma": (PURPLE, "-", "sub-gamma (an oracle's)"),
        "expected_risk": (TEST, "--", "Gibbs risk, new data"),
        "train_risk": (TRAINING, ":", "Gibbs risk, training"),
    }
    for name, (colour, style, label) in lines.items():
        bounds.plot(result.n, result[name], color=colour, ls=style, label=label, lw=1.6)
    bounds.set_xscale("log")
    bounds.set_ylim(1.0, 6.5)
    bounds.set_title("Linear regression in 20 dimensions, δ = 0.05", fontsize=10)
    bounds.set_xlabel("observations n")
    bounds.set_ylabel("negative log-likelihood, nats")
    bounds.legend(frameon=False, fontsize=8)
    for axes in (parts, bounds):
        tidy(axes)
    return finish(figure)


def certify(result: xr.Dataset) -> Figure:
    """Plot bounds, risks, complexity and evidence against label corruption.

    Lines are means over seeds, and bands are their range.

    Args:
        result: result of `bayesgen.experiments.certify`.
    """
    n, C = result.attrs["n"], result.attrs["classes"]
    figure = Figure(figsize=(11.0, 4.0), layout="constrained")
    risks, paid, evidence = figure.subplots(1, 3, width_ratios=(4, 3, 3))
    curve(risks, result.rademacher, REFERENCE, "Rademacher bound", style="--")
    curve(risks, result.bound, BOUND, "PAC-Bayes certificate")
    curve(risks, result.test_gibbs_risk, TEST, "Gibbs risk, test")
    curve(risks, result.gibbs_risk, TRAINING, "Gibbs risk, training")
    risks.axhline(1 - 1 / C, color=REFERENCE, lw=0.8, ls=":", label="guessing")
    risks.set_ylim(0, 1.05)
    risks.set_ylabel("0–1 risk")
    risks.set_title(f"Bounds (δ = {result.attrs['delta']:g}) and risks", fontsize=10)
    risks.legend(frameon=False, fontsize=8, ncols=2)
    curve(paid, result.paid / n, COMPLEXITY, "KL and payments")
    paid.set_title("Complexity, (KL + payments) / n", fontsize=10)
    paid.set_ylabel("nats per observation")
    paid.set_ylim(bottom=0)
    curve(evidence, result.log_marginal_likelihood / n, EVIDENCE, "evidence")
    evidence.set_title("Evidence, log p(D) / n", fontsize=10)
    evidence.set_ylabel("nats per observation")
    for axes in (risks, paid, evidence):
        axes.set_xlabel("share of labels redrawn")
        tidy(axes)
    figure.suptitle(
        f"{result.attrs['data']}, n = {n:,}, {C} classes, {result.attrs['kernel']}, "
        f"{plural(result.attrs['priors'], 'prior')}, {plural(result.sizes['seed'], 'seed')}",
        fontsize=10,
    )
    return finish(figure)
