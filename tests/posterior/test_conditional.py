"""Tests of `bayesgen.posterior.conditional`."""

import itertools

import gpytorch
import pytest
import torch
from torch.distributions import MultivariateNormal, Normal

import bayesgen as bg

F64 = torch.float64


def data(n=12):
    g = torch.Generator().manual_seed(0)
    x = torch.linspace(-1, 1, n, dtype=F64)
    return x, torch.sin(3 * x) + 0.1 * torch.randn(n, generator=g, dtype=F64)


FITS = [
    lambda x, y: bg.Polynomial(4).fit(x, y),
    lambda x, y: bg.GaussianProcess(gpytorch.kernels.RBFKernel(), mean=0.3).fit(x, y),
    lambda x, y: bg.GaussianProcess(
        gpytorch.kernels.RBFKernel(),
        torch.linspace(0.01, 0.1, len(x), dtype=F64),
        hyperparameters="fixed",
    ).fit(x, y),
]


@pytest.mark.parametrize("fit", FITS)
def test_learning_curve_sums_to_log_evidence(fit):
    x, y = data()
    posterior = fit(x, y)
    curve = posterior.learning_curve(orderings=5)
    whole = posterior.evidence.log_marginal_likelihood
    torch.testing.assert_close(curve.sum(1), whole.expand(5))
    zero = posterior.conditional_evidence(0)
    torch.testing.assert_close(zero.log_marginal_likelihood, whole)
    torch.testing.assert_close(zero.complexity, posterior.evidence.complexity)
    torch.testing.assert_close(zero.effective_dimension, posterior.evidence.effective_dimension)


def test_each_term_of_learning_curve_is_a_prediction():
    x, y = data()
    curve = bg.Polynomial(2, noise=0.05, hyperparameters="fixed").fit(x, y).learning_curve()[0]
    for i in range(1, len(x)):
        before = bg.Polynomial(2, noise=0.05, hyperparameters="fixed").fit(x[:i], y[:i])
        want = before.predict(x[i : i + 1]).log_prob(y[i : i + 1])
        torch.testing.assert_close(curve[i : i + 1], want)


def test_conditional_complexity_is_kl_between_posteriors():
    x, y = data()
    v, noise, m = torch.ones(3, dtype=F64), 0.05, 5
    posterior = bg.Polynomial(2, v, noise, hyperparameters="fixed").fit(x, y)
    early = bg.Polynomial(2, v, noise, hyperparameters="fixed").fit(x[:m], y[:m])
    got = posterior.conditional_evidence(m, orderings=1)
    q = MultivariateNormal(posterior.weights, posterior.weight_covariance())
    p = MultivariateNormal(early.weights, early.weight_covariance())
    kl = torch.distributions.kl_divergence(q, p)
    torch.testing.assert_close(got.complexity, kl)
    draws = q.sample((100_000,)) if torch.manual_seed(0) else None
    logp = Normal(draws @ (x[m:, None] ** torch.arange(3)).T, noise**0.5).log_prob(y[m:])
    assert float(got.fit) == pytest.approx(float(logp.sum(1).mean()), abs=0.02)
    assert got.n == len(x) - m


def test_conditional_evidence_averages_over_orderings():
    x, y = data(4)
    posterior = bg.Polynomial(1, noise=0.1, hyperparameters="fixed").fit(x, y)
    cov = torch.stack([torch.ones(4, dtype=F64), x], 1)
    cov = cov @ cov.T + 0.1 * torch.eye(4, dtype=F64)
    every = []
    for order in itertools.permutations(range(4)):
        first = list(order[:2])
        early = MultivariateNormal(torch.zeros(2, dtype=F64), cov[first][:, first])
        every.append(posterior.evidence.log_marginal_likelihood - early.log_prob(y[first]))
    got = posterior.conditional_evidence(2, orderings=3000)
    assert float(got.log_marginal_likelihood) == pytest.approx(
        float(torch.stack(every).mean()), abs=5 * float(got.error) + 1e-6
    )


def test_batches_are_accepted_and_invalid_calls_raise():
    x, y = data()
    batch = bg.Polynomial(2).fit(x, torch.stack([y, -2 * y])[..., None])
    assert batch.conditional_evidence(3).batch_shape == (2,)
    with pytest.raises(ValueError, match=r"m must be an integer in 0\.\.11"):
        bg.Polynomial(2).fit(x, y).conditional_evidence(12)
    laplace = bg.Polynomial(2, likelihood="student-t").fit(x, y)
    assert not hasattr(laplace, "conditional_evidence")
    assert not hasattr(laplace, "learning_curve")
    with pytest.raises(AttributeError, match=r"posterior\.conditional_evidence\(m\)"):
        laplace.evidence.conditional(3)


def test_conditional_evidences_compare_only_with_each_other():
    x, y = data()
    a, b = (bg.Polynomial(k).fit(x, y) for k in (1, 5))
    assert a.conditional_evidence(4).log_bayes_factor(b.conditional_evidence(4)) < 0
    with pytest.raises(ValueError, match="n=8 observations"):
        a.conditional_evidence(4).log_bayes_factor(b.evidence)
