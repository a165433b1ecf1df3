"""Figures of PAC-Bayes bounds beside the risks that they bound."""

from __future__ import annotations

import xarray as xr
from matplotlib.figure import Figure

from bayesgen.plots.style import BLUE, GREEN, GREY, ORANGE, VERMILION, curve, tidy


def germain(result: xr.Dataset) -> Figure:
    """Plot the parts of the evidence against the degree, and four bounds against n.

    Args:
        result: result of `bayesgen.experiments.germain`.
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


def certify(result: xr.Dataset) -> Figure:
    """Plot bounds, risks, complexity and evidence against label corruption.

    Lines are means over seeds, and bands are their range.

    Args:
        result: result of `bayesgen.experiments.certify`.
    """
    n, C = result.attrs["n"], result.attrs["classes"]
    figure = Figure(figsize=(11.0, 4.0), layout="constrained")
    risks, paid, evidence = figure.subplots(1, 3, width_ratios=(4, 3, 3))
    curve(risks, result.rademacher, GREY, "Rademacher bound", style="--")
    curve(risks, result.bound, BLUE, "PAC-Bayes certificate")
    curve(risks, result.test_gibbs_risk, VERMILION, "Gibbs risk, test")
    curve(risks, result.gibbs_risk, GREEN, "Gibbs risk, training")
    risks.axhline(1 - 1 / C, color="black", lw=0.8, ls=":", label="guessing")
    risks.set_ylim(0, 1.35)  # leave room for the legend above the curves
    risks.set_yticks([0, 0.2, 0.4, 0.6, 0.8, 1.0])
    risks.set_ylabel("0–1 risk")
    risks.set_title(f"Bounds (δ = {result.attrs['delta']:g}) and risks", fontsize=10)
    risks.legend(frameon=False, fontsize=8, loc="upper left", ncols=2)
    curve(paid, result.paid / n, ORANGE, "KL and payments")
    paid.set_title("Complexity, (KL + payments) / n", fontsize=10)
    paid.set_ylabel("nats per observation")
    paid.set_ylim(bottom=0)
    curve(evidence, result.log_marginal_likelihood / n, BLUE, "evidence")
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
