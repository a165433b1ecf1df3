"""Tests of `bayesgen.select.compare` and `bayesgen.select.null`."""

import math
from dataclasses import replace

import gpytorch
import numpy as np
import pytest
import torch

import bayesgen as bg
from bayesgen.pacbayes import maurer
from tests.helpers import noisy_cosine


def test_table_ranks_models_and_states_probabilities():
    x, y = noisy_cosine()
    models = {
        "line": bg.Polynomial(1).fit(x, y),
        "order-dependent": bg.Polynomial(20, bg.priors.geometric(2.0)).fit(x, y),
        "gp": bg.GaussianProcess(gpytorch.kernels.RBFKernel()).fit(x, y),
    }
    table = bg.compare(models)
    assert set(table.index) == {*models, "null"}
    assert table.log_evidence.is_monotonic_decreasing
    assert table.delta.iloc[0] == 0
    np.testing.assert_allclose(table.fit - table.complexity, table.log_evidence, rtol=1e-9)
    assert table.probability.sum() == pytest.approx(1)
    odds = table.probability["line"] / table.probability["gp"]
    factor = models["line"].evidence.log_bayes_factor(models["gp"].evidence)
    assert odds == pytest.approx(math.exp(float(factor)), rel=1e-6)
    sure = bg.compare(models, prior={"line": 1, "order-dependent": 0, "gp": 0})
    assert sure.probability["line"] == 1
    lines = repr(table).splitlines()
    assert len(lines) == 5
    assert "bound" in lines[0]
    assert all(len(line) < 110 for line in lines)
    assert table.bound.isna().all()  # Everything was learnt on the data.


def test_model_worse_than_null_ranks_below_it():
    x, y = noisy_cosine()
    bad = bg.Polynomial(3, 1e-6, 1e-4, hyperparameters="fixed").fit(x, y)
    assert list(bg.compare({"bad": bad}).index) == ["null", "bad"]
    labels = torch.randint(0, 3, (30,), generator=torch.Generator().manual_seed(0))
    gp = bg.GaussianProcess(
        gpytorch.kernels.RBFKernel(), likelihood="softmax", hyperparameters="fixed"
    ).fit(x[:30], labels)
    table = bg.compare({"gp": gp})
    assert table.log_evidence["null"] == pytest.approx(-30 * math.log(3))
    assert table.complexity["null"] == 0


def test_bound_is_maurer_of_gibbs_risk_for_fixed_prior():
    x, y = noisy_cosine()
    posterior = bg.Polynomial(5, noise=0.05, hyperparameters=("noise",)).fit(x, y)
    bound = bg.compare({"a": posterior}, tolerance=1.0).bound["a"]
    draws = posterior.latent_samples(20_000)[..., 0]
    risk = float((1 - torch.exp(-0.5 * (y - draws) ** 2)).mean())
    assert posterior.gibbs_risk(1.0) == pytest.approx(risk, abs=1e-3)
    want = maurer(posterior.gibbs_risk(1.0), posterior.evidence.complexity, 40, 0.05)
    assert bound == pytest.approx(float(want))


def test_bound_uses_the_upper_end_of_an_uncertain_complexity(monkeypatch):
    x, y = noisy_cosine()
    posterior = bg.Polynomial(5, noise=0.05, hyperparameters=("noise",)).fit(x, y)
    exact, kl = posterior.evidence, float(posterior.evidence.complexity)
    bounds = []
    for error in (0.0, 0.05 * kl, 0.2 * kl):
        evidence = replace(exact, error=torch.full_like(exact.fit, error))
        monkeypatch.setattr(posterior, "evidence", evidence)
        bounds.append(bg.compare({"a": posterior}).bound["a"])
    risk = posterior.gibbs_risk(1.0)
    reach = -float(torch.special.ndtri(torch.tensor(0.005, dtype=torch.float64)))
    want = maurer(risk, kl + reach * 0.05 * kl, 40, 0.045)
    assert bounds[0] < bounds[1] == pytest.approx(float(want))
    assert math.isnan(bounds[2])


def test_evidences_of_different_data_raise():
    x, y = noisy_cosine()
    a = bg.Polynomial(2).fit(x, y)
    with pytest.raises(ValueError, match="a has n=40 observations, b has n=30"):
        bg.compare({"a": a, "b": bg.Polynomial(2).fit(x[:30], y[:30])})
    with pytest.raises(ValueError, match="different targets"):
        bg.compare({"a": a, "b": bg.Polynomial(2).fit(x, 2 * y)})
    with pytest.raises(ValueError, match="different targets"):
        a.evidence.log_bayes_factor(bg.Polynomial(2).fit(x, -y).evidence)
    counts = (y > 0).double()  # The same numbers serve as reals and as labels.
    with pytest.raises(ValueError, match="different targets"):
        bg.compare(
            {
                "real": bg.Polynomial(2).fit(x, counts),
                "labels": bg.Polynomial(2, likelihood="bernoulli").fit(x, counts),
            }
        )


def test_invalid_models_raise():
    x, y = noisy_cosine()
    a = bg.Polynomial(2).fit(x, y)
    with pytest.raises(ValueError, match="non-empty dict"):
        bg.compare({})
    with pytest.raises(TypeError, match=r"models\['a'\] must be a posterior"):
        bg.compare({"a": 3.0})
    with pytest.raises(ValueError, match="prior must name the models"):
        bg.compare({"a": a}, prior={"b": 1.0})
    with pytest.raises(ValueError, match="batch of"):
        bg.compare({"a": bg.Polynomial(2).fit(x, torch.stack([y, y])[..., None])})


def test_evidence_without_posterior_is_compared():
    x, y = noisy_cosine()
    a = bg.Polynomial(2).fit(x, y)
    table = bg.compare({"a": a.evidence})
    assert math.isnan(table.log_evidence["null"])  # An Evidence holds no data.
    assert table.log_evidence["a"] == bg.compare({"a": a}).log_evidence["a"]
    batch = bg.Polynomial(2).fit(x, torch.stack([2 * y, y])[..., None])
    of_one = bg.compare({"a": a, "b": batch.evidence[1]})
    assert of_one.delta["b"] == pytest.approx(0, abs=1e-9)
    assert float(batch.conditional_evidence(3).fit[1]) == pytest.approx(
        float(a.conditional_evidence(3).fit)
    )
    bare = bg.Evidence(fit=-10.0, complexity=2.0, n=5, effective_dimension=1.0)
    lone = bg.compare({"a": bare})
    assert list(lone.index) == ["a", "null"]
    assert math.isnan(lone.log_evidence["null"])
    given = bg.compare({"a": bare}, null=bare)
    assert given.delta["null"] == 0


def test_errors_that_allow_another_order_are_warned_of():
    x = torch.linspace(-1, 1, 30, dtype=torch.float64)
    y = torch.sin(3 * x)
    one, two = (bg.Polynomial(k).fit(x, y).evidence for k in (1, 3))
    gap = abs(float(one.log_marginal_likelihood - two.log_marginal_likelihood))
    rough = replace(one, error=torch.tensor(2 * gap, dtype=torch.float64))
    with pytest.warns(UserWarning, match="not certain that 'cubic' has a larger evidence"):
        bg.compare({"line": rough, "cubic": two})
