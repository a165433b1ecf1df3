"""Tests of `bayesgen.models.latent.separable`."""

import math

import numpy as np
import pytest
import torch
from scipy.integrate import dblquad, quad
from scipy.stats import multivariate_normal
from sklearn.gaussian_process import GaussianProcessClassifier
from sklearn.gaussian_process.kernels import RBF, ConstantKernel

from tests.models.latent.problems import fixed, inputs, targets

F64 = torch.float64


def test_binary_evidence_matches_scikit_learn():
    x = inputs()
    y = targets("bernoulli", x)
    peer = GaussianProcessClassifier(ConstantKernel(2.0) * RBF(1.0), optimizer=None)
    peer.fit(x.numpy(), y.numpy())
    ours = fixed("bernoulli", x, y)
    want = peer.log_marginal_likelihood_value_
    assert float(ours.evidence.log_marginal_likelihood) == pytest.approx(want, abs=1e-6)
    new = inputs(5, 3)
    # scikit-learn averages by an approximation of the sigmoid, we by quadrature.
    np.testing.assert_allclose(
        ours.predict(new).probs, peer.predict_proba(new.numpy())[:, 1], atol=2e-3
    )


def test_evidence_matches_numerical_integration():
    x = torch.tensor([0.0], dtype=F64)
    for name, y, low in (("bernoulli", [1], 0.02), ("poisson", [3.0], 0.03)):
        posterior = fixed(name, x, torch.tensor(y), scale=0.5)
        likelihood, inner = posterior.likelihood, posterior.observed.y[0]

        def density(f, likelihood=likelihood, inner=inner):
            t = torch.tensor([[f]], dtype=F64)
            logp = float(likelihood.log_density(inner, t).sum())
            return math.exp(logp - f * f / (2 * 0.5)) / math.sqrt(2 * math.pi * 0.5)

        want = math.log(quad(density, -8, 8)[0])
        assert float(posterior.evidence.log_marginal_likelihood) == pytest.approx(want, abs=low)
    # With labels at two points the Gaussian is nearly exact.
    x = torch.tensor([0.0, 1.0], dtype=F64)
    posterior = fixed("bernoulli", x, torch.tensor([0, 1]), scale=0.5)
    K = 0.5 * np.exp(-0.5 * np.array([[0, 1], [1, 0]]))
    prior = multivariate_normal(cov=K)
    want = math.log(
        dblquad(
            lambda b, a: prior.pdf([a, b]) / (1 + math.exp(a)) / (1 + math.exp(-b)), -6, 6, -6, 6
        )[0]
    )
    assert float(posterior.evidence.log_marginal_likelihood) == pytest.approx(want, abs=0.02)
