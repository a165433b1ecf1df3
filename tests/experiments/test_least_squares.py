"""Tests of `bayesgen.experiments.least_squares`."""

import dataclasses

import numpy as np
import pytest
import torch

import bayesgen as bg
from bayesgen.experiments.least_squares import LeastSquares

F64 = torch.float64


def problem(n, d, outputs=2, members=3):
    generator = torch.Generator().manual_seed(n + d)
    Phi = torch.randn(members, n, d, generator=generator, dtype=F64)
    w = torch.randn(members, d, outputs, generator=generator, dtype=F64)
    return Phi, Phi @ w + 0.3 * torch.randn(members, n, outputs, generator=generator, dtype=F64)


@pytest.mark.parametrize("d", [4, 20, 37])
def test_ridge_is_that_of_a_linear_model(d):
    Phi, y = problem(20, d)
    model = LeastSquares(Phi, y)
    found = model.ridge()
    for i in range(3):
        posterior = bg.LinearModel().fit(Phi[i], y[i])
        best = posterior.evidence.log_marginal_likelihood
        torch.testing.assert_close(found.log_marginal_likelihood[i], best, rtol=0, atol=1e-5)
        np.testing.assert_allclose(found.noise[i], posterior.noise, rtol=1e-2, atol=1e-8)
        assert model.check(found, i).passed


@pytest.mark.parametrize("d", [4, 20, 37])
def test_weights_are_those_of_minimum_norm_and_of_the_ridge(d):
    Phi, y = problem(20, d)
    model = LeastSquares(Phi, y)
    for i in range(3):
        want, *_ = np.linalg.lstsq(Phi[i].numpy(), y[i].numpy(), rcond=None)
        np.testing.assert_allclose(model.weights(0.0)[i], want, atol=1e-8)
        A = Phi[i].T @ Phi[i] + 0.7 * torch.eye(d, dtype=F64)
        want = torch.linalg.solve(A, Phi[i].T @ y[i])
        torch.testing.assert_close(model.weights(0.7)[i], want)


def test_other_targets_use_the_same_decomposition():
    Phi, y = problem(20, 7)
    again = LeastSquares(Phi, y).of_targets(y[..., :1]).ridge()
    direct = LeastSquares(Phi, y[..., :1]).ridge()
    torch.testing.assert_close(again.ratio, direct.ratio)
    torch.testing.assert_close(again.log_marginal_likelihood, direct.log_marginal_likelihood)


def test_columns_that_repeat_count_once():
    Phi, y = problem(20, 5)
    twice = LeastSquares(torch.cat([Phi, Phi], -1), y)
    assert (twice.eigenvalues > 0).sum(-1).tolist() == [5, 5, 5]
    torch.testing.assert_close(
        twice.effective_dimension(2.0), LeastSquares(Phi, y).effective_dimension(1.0)
    )
    torch.testing.assert_close(
        torch.cat([Phi, Phi], -1) @ twice.weights(0.0), Phi @ LeastSquares(Phi, y).weights(0.0)
    )


def test_a_wrong_evidence_is_found():
    model = LeastSquares(*problem(20, 7))
    ridge = model.ridge()
    wrong = dataclasses.replace(ridge, log_marginal_likelihood=ridge.log_marginal_likelihood + 0.01)
    with pytest.raises(RuntimeError, match="evidence of a linear model: largest relative diff"):
        model.check(wrong, 1).require()
