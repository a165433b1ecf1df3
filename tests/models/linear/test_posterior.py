"""Tests of `bayesgen.models.linear.posterior`."""

import pytest
import torch

import bayesgen as bg
from tests.models.linear.problems import data

F64 = torch.float64


def test_large_rounding_error_warns():
    x = torch.linspace(-3, 3, 20, dtype=F64)
    with pytest.warns(RuntimeWarning, match="rounding leaves the evidence uncertain"):
        bg.Polynomial(150, noise=0.1, hyperparameters="fixed").fit(x, x)


@pytest.mark.parametrize("prior", [bg.priors.geometric(3.0), bg.priors.power(1.0)])
def test_evidence_gradient_matches_autograd_and_vanishes_at_maximum(prior):
    x, y = data(30, outputs=2)
    j = torch.arange(9, dtype=F64)
    Phi = x[:, None] ** j
    posterior = bg.Polynomial(8, prior, 0.05, hyperparameters="fixed").fit(x, y)
    log_s, log_n = torch.zeros((), dtype=F64), torch.tensor(0.05, dtype=F64).log()
    log_v = prior.variance(torch.arange(9)).log()
    free = [t.requires_grad_() for t in (log_s, log_n, log_v)]
    cov = log_s.exp() * (Phi * log_v.exp()) @ Phi.T + log_n.exp() * torch.eye(30, dtype=F64)
    normal = torch.distributions.MultivariateNormal(torch.zeros(30, dtype=F64), cov)
    want = torch.autograd.grad(normal.log_prob(y.T).sum(), free)
    for a, b in zip(posterior.evidence_gradient(), want, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-7)
    best = bg.Polynomial(8, prior).fit(x, y)
    gradient = best.evidence_gradient()
    assert gradient.log_scale.abs() < 1e-5
    assert gradient.log_noise.abs() < 1e-5
    along = (-gradient.log_prior_variance * (j if prior.name == "geometric" else j.log1p())).sum()
    assert along.abs() < 0.2  # This is the search's tolerance.
    assert best.evidence.log_marginal_likelihood > posterior.evidence.log_marginal_likelihood


def test_weight_samples_have_moments_of_posterior():
    x, y = data(20)
    posterior = bg.Polynomial(3, noise=0.1, hyperparameters="fixed").fit(x, y)
    draws = posterior.sample_weights(40_000)
    torch.testing.assert_close(draws.mean(0), posterior.weights, atol=0.02, rtol=0)
    torch.testing.assert_close(draws.T.cov(), posterior.weight_covariance(), atol=0.02, rtol=0)
