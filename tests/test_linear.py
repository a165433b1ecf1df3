import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import multivariate_normal
from sklearn.linear_model import BayesianRidge

import bayesgen as bg

F64 = torch.float64


def data(n=40, seed=0, outputs=None, batch=()):
    g = torch.Generator().manual_seed(seed)
    x = 2 * torch.rand(n, generator=g, dtype=F64) - 1
    shape = (*batch, n) if outputs is None else (*batch, n, outputs)
    noise = 0.1 * torch.randn(shape, generator=g, dtype=F64)
    clean = x + torch.cos(math.pi * x)
    return x, noise + (clean if outputs is None else clean[:, None])


@given(
    degree=st.integers(0, 30),
    rate=st.floats(0.8, 10),
    noise=st.floats(1e-3, 10),
    seed=st.integers(0, 99),
    n=st.integers(1, 25),
)
def test_fixed_evidence_is_the_normal_density(degree, rate, noise, seed, n):
    x, y = data(n, seed)
    model = bg.Polynomial(degree, bg.priors.geometric(rate, 1.5), noise, hyperparameters="fixed")
    j = torch.arange(degree + 1, dtype=F64)
    Phi = x[:, None] ** j
    cov = 1.5 * (Phi * rate**-j) @ Phi.T + noise * torch.eye(n, dtype=F64)
    want = multivariate_normal.logpdf(y.numpy(), cov=cov.numpy())
    got = model.fit(x, y).evidence
    assert float(got.log_marginal_likelihood) == pytest.approx(want, rel=1e-9, abs=1e-9)
    # weights, covariance and predictions against the textbook formulas
    posterior, S = model.fit(x, y), torch.diag(1.5 * rate**-j)
    gain = S @ Phi.T @ torch.linalg.inv(cov)
    torch.testing.assert_close(posterior.weights, gain @ y, rtol=1e-6, atol=1e-6)
    full = S - gain @ Phi @ S
    torch.testing.assert_close(posterior.weight_covariance(), full, rtol=1e-6, atol=1e-6)
    new = torch.linspace(-1, 1, 5, dtype=F64)
    Pn = new[:, None] ** j
    predicted = posterior.predict(new)
    torch.testing.assert_close(predicted.mean, Pn @ gain @ y, rtol=1e-6, atol=1e-6)
    variance = ((Pn @ full) * Pn).sum(1) + noise
    torch.testing.assert_close(predicted.variance, variance, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("kind", ["powers", "legendre", "chebyshev"])
def test_bases_are_numpys(kind):
    x = torch.linspace(2, 5, 9, dtype=F64)
    features = bg.bases.Polynomial(6, kind=kind, input_range="data").on(x[:, None])
    u = np.linspace(-1, 1, 9)
    vander = {
        "powers": np.polynomial.polynomial.polyvander,
        "legendre": np.polynomial.legendre.legvander,
        "chebyshev": np.polynomial.chebyshev.chebvander,
    }[kind]
    np.testing.assert_allclose(features(x).numpy(), vander(u, 6), atol=1e-13)
    assert features.map.centre.item() == 3.5
    assert features.map.half_width.item() == 1.5


def test_several_inputs_make_all_products():
    x = torch.tensor([[2.0, 3.0]], dtype=F64)
    features = bg.bases.Polynomial(2).on(x)
    assert features(x)[0].tolist() == [1, 2, 3, 4, 6, 9]
    assert features.orders.tolist() == [0, 1, 1, 2, 2, 2]
    assert bg.bases.Polynomial(2, interactions=False).on(x)(x)[0].tolist() == [1, 2, 3, 4, 9]


def test_scores_of_bayesian_ridge():
    x, y = data(60)
    Phi = (x[:, None] ** torch.arange(1, 6, dtype=F64)).numpy()
    ridge = BayesianRidge(
        compute_score=True, fit_intercept=False, alpha_1=0, alpha_2=0, lambda_1=0, lambda_2=0
    ).fit(Phi, y.numpy())
    ours = bg.LinearModel(None, 1.0).fit(torch.tensor(Phi), y)
    assert float(ours.evidence.log_marginal_likelihood) == pytest.approx(ridge.scores_[-1], 1e-5)
    at = bg.LinearModel(None, 1 / ridge.lambda_, 1 / ridge.alpha_, hyperparameters="fixed")
    again = at.fit(torch.tensor(Phi), y)
    assert float(again.evidence.log_marginal_likelihood) == pytest.approx(ridge.scores_[-1], 1e-6)
    np.testing.assert_allclose(again.weights, ridge.coef_, rtol=1e-3)


def test_evidence_by_quadrature_over_three_weights():
    x, y = data(6)
    noise, v = 1.0, torch.tensor([1.0, 0.5, 0.25], dtype=F64)
    nodes, w = np.polynomial.hermite_e.hermegauss(80)
    nodes, w = torch.tensor(nodes), torch.tensor(w / w.sum())
    grid = torch.cartesian_prod(nodes, nodes, nodes) * v.sqrt()
    weight = torch.cartesian_prod(w, w, w).prod(1)
    residual = y - grid @ (x[:, None] ** torch.arange(3)).T
    logp = -0.5 * (residual.square() / noise + math.log(2 * math.pi * noise)).sum(1)
    want = torch.logsumexp(logp + weight.log(), 0)
    got = bg.Polynomial(2, v, noise, hyperparameters="fixed").fit(x, y).evidence
    assert float(got.log_marginal_likelihood) == pytest.approx(float(want), rel=1e-6)


@pytest.mark.parametrize("prior", [bg.priors.geometric(3.0), bg.priors.power(1.0)])
def test_gradient_is_exact_and_vanishes_where_it_was_learnt(prior):
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
    assert along.abs() < 0.2  # to the search's tolerance
    assert best.evidence.log_marginal_likelihood > posterior.evidence.log_marginal_likelihood


def test_the_order_of_most_evidence_is_found():
    x, y = data(50, batch=(2,), outputs=1)
    found = bg.Polynomial(12, hyperparameters=("scale", "noise", "order")).fit(x, y)
    values = torch.stack(
        [bg.Polynomial(k).fit(x, y).evidence.log_marginal_likelihood for k in range(13)]
    )
    assert found.order.tolist() == values.argmax(0).tolist()
    torch.testing.assert_close(found.evidence.log_marginal_likelihood, values.amax(0))
    assert found.weights.shape == (2, 13, 1)
    b = int(found.order[0])
    assert (found.weights[0, b + 1 :] == 0).all()
    assert (found.prior_variance[0, b + 1 :] == 0).all()


def test_batches_equal_loops():
    x, y = data(30, batch=(3,), outputs=2)
    model = bg.Fourier(5, bg.priors.power(2.0))
    whole = model.fit(x, y)
    for b in range(3):
        one = model.fit(x, y[b])
        a = whole.evidence[b].log_marginal_likelihood
        assert float(a) == pytest.approx(float(one.evidence.log_marginal_likelihood), abs=5e-3)
    assert whole.predict(x[:4]).mean.shape == (3, 4, 2)
    assert whole.decay.shape == (3,)


def test_draws_have_the_posteriors_moments():
    x, y = data(20)
    posterior = bg.Polynomial(3, noise=0.1, hyperparameters="fixed").fit(x, y)
    draws = posterior.sample_weights(40_000)
    torch.testing.assert_close(draws.mean(0), posterior.weights, atol=0.02, rtol=0)
    torch.testing.assert_close(draws.T.cov(), posterior.weight_covariance(), atol=0.02, rtol=0)


@given(factor=st.floats(0.1, 10), seed=st.integers(0, 50))
def test_reordering_and_rescaling(factor, seed):
    x, y = data(20, seed)
    model = bg.Polynomial(4, kind="legendre", hyperparameters="evidence")
    base = float(model.fit(x, y).evidence.log_marginal_likelihood)
    order = torch.randperm(20, generator=torch.Generator().manual_seed(seed))
    assert float(model.fit(x[order], y[order]).evidence.log_marginal_likelihood) == pytest.approx(
        base, abs=1e-6
    )
    scaled = float(model.fit(3 * x + 1, factor * y).evidence.log_marginal_likelihood)
    assert scaled == pytest.approx(base - 20 * math.log(factor), abs=1e-5)


def test_the_degree_150_polynomial_and_its_rounding_error():
    x, y = data(50)
    fit = bg.Polynomial(150, bg.priors.geometric(2.0), 0.0025, hyperparameters="fixed").fit(x, y)
    j = torch.arange(151, dtype=F64)
    Phi = x[:, None] ** j * 2 ** (-j / 2)
    cov = (Phi @ Phi.T + 0.0025 * torch.eye(50, dtype=F64)).numpy()
    want = multivariate_normal.logpdf(y.numpy(), cov=cov)
    assert float(fit.evidence.log_marginal_likelihood) == pytest.approx(want, rel=1e-10)
    assert fit.evidence.error < 1e-9


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x, y: bg.LinearModel(None, -1.0), "prior_variance must be positive"),
        (lambda x, y: bg.LinearModel(None, [1.0, math.nan]), "got nan at index 1"),
        (lambda x, y: bg.LinearModel(None, [1.0, -2.0]), "got -2.0 at index 1"),
        (lambda x, y: bg.LinearModel(None, [0.0, 0.0]), "positive for some feature"),
        (lambda x, y: bg.Polynomial(3, [1.0, 1.0]).fit(x, y), "each of the d = 4 features"),
        (lambda x, y: bg.Polynomial(-1), "degree must be an integer of at least 0"),
        (lambda x, y: bg.Polynomial(3, noise=1.0).fit(1e200 * x, y), "order 2 overflows"),
        (lambda x, y: bg.Polynomial(3, kind="legendre").fit(0 * x, y), "column 0 of x is constant"),
        (lambda x, y: bg.Polynomial(3, hyperparameters="fixed").fit(x, y), "noise must be given"),
        (lambda x, y: bg.Polynomial(3, hyperparameters=["rate"]), "got rate"),
        (lambda x, y: bg.priors.geometric(0.0), "rate must be positive"),
        (lambda x, y: bg.priors.power(math.inf), "exponent must be finite"),
        (lambda x, y: bg.Polynomial(200).fit(torch.ones(9, 9, dtype=F64), y), "interactions=False"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call(*data(9))
