"""Tests of `bayesgen.models.latent.posterior`."""

import gpytorch
import pytest
import torch

import bayesgen as bg
from tests.models.latent.problems import NAMES, fixed, inputs, targets

F64 = torch.float64


@pytest.mark.parametrize("name", NAMES)
def test_fit_and_complexity_match_gaussian_at_mode(name):
    x = inputs(12)
    posterior = fixed(name, x, targets(name, x))
    f = posterior.mode().reshape(12, -1)
    C = f.shape[1]
    K = 2.0 * gpytorch.kernels.RBFKernel().double()(x).to_dense().detach()
    K.fill_diagonal_(2.0)
    K = 2.0 * torch.exp(-0.5 * torch.cdist(x, x) ** 2)
    likelihood, y = posterior.likelihood, posterior.observed.y[0]
    W = -torch.autograd.functional.hessian(
        lambda v: likelihood.log_density(y, v.reshape(12, C)).sum(), f.reshape(-1)
    )
    prior = torch.kron(K, torch.eye(C, dtype=F64))
    cov = torch.linalg.inv(torch.linalg.inv(prior) + W)
    kl = torch.distributions.kl_divergence(
        torch.distributions.MultivariateNormal(f.reshape(-1), 0.5 * (cov + cov.T)),
        torch.distributions.MultivariateNormal(torch.zeros(12 * C, dtype=F64), prior),
    )
    evidence = posterior.evidence
    assert float(evidence.complexity) == pytest.approx(float(kl), rel=1e-6)
    trace = (cov @ W).trace()
    assert float(evidence.effective_dimension) == pytest.approx(float(trace), rel=1e-6)
    fit = likelihood.log_density(y, f).sum() - 0.5 * trace
    assert float(evidence.fit) == pytest.approx(float(fit), rel=1e-6)


def test_linear_and_gaussian_process_agree_on_the_same_covariance():
    x = inputs(30)
    y = targets("bernoulli", x)
    linear = bg.LinearModel(None, 2.0, likelihood="bernoulli", hyperparameters="fixed").fit(x, y)

    def dot(a, b):
        return a @ b.T

    gp = bg.GaussianProcess(
        gpytorch.kernels.ScaleKernel(bg.kernels.FunctionKernel(dot)),
        likelihood="bernoulli",
        hyperparameters="fixed",
    )
    gp.kernel.outputscale = 2.0
    other = gp.fit(x, y)
    torch.testing.assert_close(
        linear.evidence.log_marginal_likelihood, other.evidence.log_marginal_likelihood
    )
    new = inputs(4, 5)
    torch.testing.assert_close(new @ linear.weights, linear.mean(new))
    variance = (new @ linear.weight_covariance() * new).sum(1)
    torch.testing.assert_close(linear.predict(new, latent=True).variance, variance)


def test_batch_equals_loop():
    x = inputs(25)
    y = torch.stack([targets("softmax", x), targets("softmax", -x)])
    whole = fixed("softmax", x, y)
    assert whole.evidence.batch_shape == (2,)
    assert whole.predict(x[:3]).probs.shape == (2, 3, 3)
    for b in range(2):
        one = fixed("softmax", x, y[b])
        torch.testing.assert_close(
            whole.evidence[b].log_marginal_likelihood, one.evidence.log_marginal_likelihood
        )
        assert (one.predict(x).probs.argmax(-1) == y[b]).double().mean() > 0.8


@pytest.mark.parametrize("name", NAMES)
def test_weight_samples_have_moments_of_posterior(name):
    x = inputs(25)
    posterior = bg.LinearModel(None, 1.5, likelihood=name, hyperparameters="fixed").fit(
        x, targets(name, x)
    )
    draws, covariance = posterior.sample_weights(8000), posterior.weight_covariance()
    size = float(covariance.diagonal(dim1=-2, dim2=-1).max())
    torch.testing.assert_close(draws.mean(0), posterior.weights, atol=0.06 * size**0.5, rtol=0)
    if name == "softmax":
        for c, block in enumerate(covariance):
            torch.testing.assert_close(draws[..., c].T.cov(), block, atol=0.09 * size, rtol=0)
    else:
        torch.testing.assert_close(draws.T.cov(), covariance, atol=0.09 * size, rtol=0)
    f = posterior.parameters(4000)["f"]
    variance = posterior.marginals()[1]
    if variance.ndim == 3:
        variance = variance.diagonal(dim1=-2, dim2=-1)
    size = float(variance.max())
    torch.testing.assert_close(f.var(0), variance, atol=0.15 * size, rtol=0)
