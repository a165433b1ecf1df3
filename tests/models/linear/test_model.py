"""Tests of `bayesgen.models.linear.model`."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, strategies as st
from scipy.stats import multivariate_normal
from sklearn.linear_model import BayesianRidge

import bayesgen as bg
from tests.models.linear.problems import data

F64 = torch.float64


def test_gram_and_svd_decompositions_agree():
    data = bg.data.load("digits", train=200)
    basis = bg.bases.Convolutional(15, image=(1, 8, 8), patch=3, grid=2)
    y = bg.likelihoods.one_hot(data.y_train, 10)
    both = [bg.LinearModel(basis, decomposition=by).fit(data.x_train, y) for by in ("svd", "gram")]
    torch.testing.assert_close(both[0].evidence.fit, both[1].evidence.fit)
    torch.testing.assert_close(both[0].mean(data.x_test), both[1].mean(data.x_test))
    assert "ΦᵀΦ" in both[1].evidence.method


@given(
    degree=st.integers(0, 30),
    rate=st.floats(0.8, 10),
    noise=st.floats(1e-3, 10),
    seed=st.integers(0, 99),
    n=st.integers(1, 25),
)
def test_fixed_evidence_is_normal_density(degree, rate, noise, seed, n):
    x, y = data(n, seed)
    model = bg.Polynomial(degree, bg.priors.geometric(rate, 1.5), noise, hyperparameters="fixed")
    j = torch.arange(degree + 1, dtype=F64)
    Phi = x[:, None] ** j
    cov = 1.5 * (Phi * rate**-j) @ Phi.T + noise * torch.eye(n, dtype=F64)
    want = multivariate_normal.logpdf(y.numpy(), cov=cov.numpy())
    got = model.fit(x, y).evidence
    assert float(got.log_marginal_likelihood) == pytest.approx(want, rel=1e-9, abs=1e-9)
    # Weights, covariance and predictions follow the textbook formulas.
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


def test_evidence_matches_bayesian_ridge():
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


def test_evidence_matches_quadrature_over_three_weights():
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


def test_order_of_most_evidence_is_found():
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


def test_batch_equals_loop():
    x, y = data(30, batch=(3,), outputs=2)
    model = bg.Fourier(5, bg.priors.power(2.0))
    whole = model.fit(x, y)
    for b in range(3):
        one = model.fit(x, y[b])
        a = whole.evidence[b].log_marginal_likelihood
        assert float(a) == pytest.approx(float(one.evidence.log_marginal_likelihood), abs=5e-3)
    assert whole.predict(x[:4]).mean.shape == (3, 4, 2)
    assert whole.decay.shape == (3,)


@given(factor=st.floats(0.1, 10), seed=st.integers(0, 50))
def test_evidence_is_invariant_to_order_and_equivariant_to_scale(factor, seed):
    x, y = data(20, seed)
    model = bg.Polynomial(4, kind="legendre", hyperparameters="evidence")
    base = float(model.fit(x, y).evidence.log_marginal_likelihood)
    order = torch.randperm(20, generator=torch.Generator().manual_seed(seed))
    assert float(model.fit(x[order], y[order]).evidence.log_marginal_likelihood) == pytest.approx(
        base, abs=1e-6
    )
    scaled = float(model.fit(3 * x + 1, factor * y).evidence.log_marginal_likelihood)
    assert scaled == pytest.approx(base - 20 * math.log(factor), abs=1e-5)


def test_degree_150_polynomial_has_small_rounding_error():
    x, y = data(50)
    fit = bg.Polynomial(150, bg.priors.geometric(2.0), 0.0025, hyperparameters="fixed").fit(x, y)
    j = torch.arange(151, dtype=F64)
    Phi = x[:, None] ** j * 2 ** (-j / 2)
    cov = (Phi @ Phi.T + 0.0025 * torch.eye(50, dtype=F64)).numpy()
    want = multivariate_normal.logpdf(y.numpy(), cov=cov)
    assert float(fit.evidence.log_marginal_likelihood) == pytest.approx(want, rel=1e-10)
    assert fit.evidence.error < 1e-9


BASES = {"inputs": None, "function": lambda x: x, "polynomial": bg.bases.Polynomial(2)}


@pytest.mark.parametrize("basis", sorted(BASES))
@pytest.mark.parametrize("likelihood", ["gaussian", "bernoulli", "student-t"])
def test_overwritten_arrays_do_not_move_a_posterior(basis, likelihood):
    x = torch.linspace(-1, 1, 12, dtype=F64)[:, None].clone()
    y = torch.sin(3 * x[:, 0]) + 0.1
    y = (y > 0).long() if likelihood == "bernoulli" else y
    posterior = bg.LinearModel(BASES[basis], likelihood=likelihood).fit(x, y)
    new = x[:3].clone()
    before = posterior.mean(new), posterior.marginals()[1], posterior.weights
    x.mul_(9)
    y.mul_(0)
    after = posterior.mean(new), posterior.marginals()[1], posterior.weights
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    assert (posterior.observed.y != 0).any()


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("likelihood", ["gaussian", "bernoulli"])
def test_gradients_and_modes_of_autograd_do_not_matter(mode, likelihood):
    x = torch.linspace(-1, 1, 12, dtype=F64)
    y = torch.sin(3 * x) + 0.1
    y = (y > 0).long() if likelihood == "bernoulli" else y
    model = bg.LinearModel(bg.bases.Polynomial(2), bg.priors.geometric(2.0), likelihood=likelihood)
    want = model.fit(x, y).evidence
    with mode():
        found = model.fit(x.clone(), y.clone())
        found.predict(x[:2])
    assert torch.equal(found.evidence.fit, want.fit)
    weight = torch.ones((), dtype=F64, requires_grad=True)
    basis = bg.LinearModel(lambda u: weight * u, likelihood=likelihood)
    own = basis.fit(x.clone().requires_grad_(), y)
    assert not own.mean(x.clone().requires_grad_()).requires_grad


def test_values_of_a_basis_are_checked_and_names_can_be_learnt():
    x = torch.linspace(-1, 1, 12, dtype=F64)[:, None]
    with pytest.raises(TypeError, match=r"basis\(x\) must have the dtype"):
        bg.LinearModel(lambda u: u.float()).fit(x, x[:, 0])
    with pytest.raises(ValueError, match="names only 'decay', which cannot be learnt"):
        bg.LinearModel(noise=0.1, hyperparameters=("decay",))
    with pytest.raises(ValueError, match="a poisson likelihood has no noise variance"):
        bg.LinearModel(likelihood="poisson", hyperparameters=("noise",))
    for dtype in (torch.float16, torch.bfloat16):
        with pytest.raises(TypeError, match="x must hold real numbers"):
            bg.LinearModel().fit(x.to(dtype), x[:, 0])
