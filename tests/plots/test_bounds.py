"""Tests of `bayesgen.plots.bounds`."""

import numpy as np
import xarray as xr

from bayesgen import plots


def lines(axes):
    return {line.get_label(): line.get_ydata() for line in axes.lines}


def test_certify_shows_risks_payments_and_evidence():
    rng = np.random.default_rng(0)
    names = ["rademacher", "bound", "test_gibbs_risk", "gibbs_risk", "paid",
             "log_marginal_likelihood"]  # fmt: skip
    values = {name: (("level", "seed"), rng.uniform(0, 1, (2, 3))) for name in names}
    attrs = {"n": 10, "classes": 5, "delta": 0.05, "data": "d", "kernel": "k", "priors": 2}
    result = xr.Dataset(values, {"level": [0.0, 1.0], "seed": [0, 1, 2]}, attrs)
    risks, paid, evidence = plots.certify(result).axes
    mean = result.mean("seed")
    np.testing.assert_allclose(lines(risks)["PAC-Bayes certificate"], mean.bound)
    np.testing.assert_allclose(lines(risks)["Rademacher bound"], mean.rademacher)
    assert lines(risks)["guessing"][0] == 0.8
    np.testing.assert_allclose(lines(paid)["KL and payments"], mean.paid / 10)
    np.testing.assert_allclose(lines(evidence)["evidence"], mean.log_marginal_likelihood / 10)


def test_germain_shows_parts_by_degree_and_bounds_by_size():
    rng = np.random.default_rng(0)
    by_n = ["alquier_n", "catoni", "alquier_sqrt", "subgamma", "expected_risk", "train_risk"]
    values = {name: ("degree", rng.uniform(0, 1, 4)) for name in ("risk", "kl", "test_risk")}
    values |= {name: ("n", rng.uniform(1, 6, 3)) for name in by_n}
    coords = {"degree": [1, 2, 3, 4], "n": [10, 100, 1000]}
    result = xr.Dataset(values, coords, {"points": 9})
    parts, bounds = plots.germain(result).axes
    np.testing.assert_allclose(lines(parts)["−log p(D) / n"], result.risk + result.kl)
    np.testing.assert_allclose(lines(parts)["KL / n"], result.kl)
    np.testing.assert_allclose(lines(bounds)["Catoni (corollary 2)"], result.catoni)
    assert len(bounds.lines) == 6
    assert bounds.get_xscale() == "log"
