"""Tests of `bayesgen.experiments.regularisation`."""

import numpy as np
import pytest

import bayesgen as bg
from bayesgen import experiments
from bayesgen.experiments import regularisation


def test_structured_data_are_fitted_and_noise_is_interpolated():
    result = experiments.flexible_polynomial()
    assert (result.train_rmse < 1e-3).all()
    gap = (result.fitted - result.truth)[:2]
    assert float(np.sqrt((gap**2).mean())) < 0.05


def test_evidence_is_near_the_better_hard_limit_and_best_on_complex_data():
    result = experiments.soft_against_hard(sizes=[10, 30, 100], repetitions=60)
    middle = result.test_rmse.median("repetition")
    best = middle.sel(model=["degree 2", "degree 15"]).min("model")
    ratio = middle.sel(model="degree 150, evidence") / best
    assert (ratio < 1.1).all()
    assert (ratio.sel(target="cos(3πx/2)") < 0.8).all()
    assert (ratio.sel(target="cos(3πx/2)", n=100) < 0.4).all()


def test_literal_penalty_has_almost_no_effect():
    result = experiments.soft_against_hard(sizes=[10, 30], repetitions=20)
    literal = result.sel(model="degree 15, penalty Σ 0.01² j² wⱼ²").test_rmse
    assert (literal.median("repetition") > 100).all()


def test_evidence_of_the_chosen_prior_is_that_of_a_polynomial_model():
    result = experiments.soft_against_hard(sizes=[25], repetitions=2)
    x, y, clean = regularisation._draws(25, 2, 0)
    rate = float(result.rate.sel(soft="degree 15, evidence", target="cos(3πx/2)")[0, 1])
    model = bg.Polynomial(15, bg.priors.geometric(rate), kind="legendre", input_range=(-4, 4))
    posterior = model.fit(x[1, :25], y[2, 1, :25], hyperparameters=("scale", "noise"))
    gap = posterior.mean(x[1, -100:]) - clean[2, 1, -100:]
    found = result.function_rmse.sel(model="degree 15, evidence", target="cos(3πx/2)")[0, 1]
    np.testing.assert_allclose(found, gap.square().mean().sqrt(), rtol=1e-3)


def test_sizes_that_do_not_rise_are_named():
    with pytest.raises(ValueError, match="sizes must be increasing numbers"):
        experiments.soft_against_hard(sizes=[20, 10])
