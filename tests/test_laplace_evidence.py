import math
import warnings

import gpytorch
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import dblquad, quad
from scipy.stats import multivariate_normal
from sklearn.gaussian_process import GaussianProcessClassifier
from sklearn.gaussian_process.kernels import RBF, ConstantKernel

import bayesgen as bg
from bayesgen.covariance.gram import gram
from bayesgen.likelihoods import Softmax
from bayesgen.models.latent import newton
from bayesgen.models.latent.fit import LaplaceEvidence

F64 = torch.float64


def inputs(n=40, seed=0):
    return torch.randn(n, 2, generator=torch.Generator().manual_seed(seed), dtype=F64)


def targets(name, x):
    g = torch.Generator().manual_seed(1)
    if name == "bernoulli":
        return (x[:, 0] + 0.5 * torch.randn(len(x), generator=g, dtype=F64) > 0).long()
    if name == "softmax":
        return (x[:, 0] > 0).long() + (x[:, 1] > 0.5).long()
    if name == "poisson":
        return torch.poisson(torch.exp(1 + x[:, 0]), generator=g)
    y = torch.sin(2 * x[:, 0]) + 0.2 * torch.randn(len(x), generator=g, dtype=F64)
    y[::7] += 4
    return y


NAMES = ["bernoulli", "softmax", "poisson", "student-t"]


def fixed(name, x, y, lengthscale=1.0, scale=2.0):
    kernel = gpytorch.kernels.ScaleKernel(gpytorch.kernels.RBFKernel().double()).double()
    kernel.outputscale = torch.tensor(scale, dtype=F64)
    kernel.base_kernel.lengthscale = torch.tensor(lengthscale, dtype=F64)
    model = bg.GaussianProcess(kernel, likelihood=name, hyperparameters="fixed")
    return model.fit(x, y)


def test_binary_evidence_is_scikit_learns():
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


def test_learning_reaches_scikit_learns_optimum():
    x = inputs(60)
    y = targets("bernoulli", x)
    peer = GaussianProcessClassifier(ConstantKernel() * RBF(), random_state=0)
    peer.fit(x.numpy(), y.numpy())
    ours = bg.GaussianProcess(gpytorch.kernels.RBFKernel(), likelihood="bernoulli").fit(x, y)
    want = peer.log_marginal_likelihood_value_
    assert float(ours.evidence.log_marginal_likelihood) > want - 1e-4


@pytest.mark.parametrize("name", NAMES)
def test_gradient_is_the_slope(name):
    x = inputs(30)
    likelihood = bg.likelihoods.resolve(name)
    y = likelihood.targets(targets(name, x), x)[0]
    objective = LaplaceEvidence(gram(gpytorch.kernels.RBFKernel().double(), x), likelihood, y)
    noise = None if likelihood.log_noise is None else torch.tensor(-2.0, dtype=F64)

    def value(values):
        noise = None if len(values) == 2 else values[2]
        return objective(values[:1], values[1].exp(), noise)

    at = torch.tensor([0.1, 0.5] if noise is None else [0.1, 0.5, -2.0], dtype=F64)
    _, gradient = value(at)
    for i, step in enumerate(torch.eye(len(at), dtype=F64) * 1e-4):
        slope = (value(at + step)[0] - value(at - step)[0]) / 2e-4
        assert gradient[i] == pytest.approx(slope, rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_fit_and_complexity_are_those_of_the_gaussian_at_the_mode(name):
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


def test_against_numerical_integration_of_one_and_two_points():
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


@pytest.mark.parametrize("name", NAMES)
def test_order_and_decay_are_learnt_under_any_likelihood(name):
    x = inputs(40)[:, 0]
    y = targets(name, inputs(40))
    prior = bg.priors.geometric(2.0)
    start = bg.Polynomial(3, prior, likelihood=name, hyperparameters="fixed").fit(x, y)
    learnt = bg.Polynomial(
        3, prior, likelihood=name, hyperparameters=("scale", "decay", "noise", "order")
    ).fit(x, y)
    gain = learnt.evidence.log_marginal_likelihood - start.evidence.log_marginal_likelihood
    assert gain >= -1e-9
    assert 0 <= int(learnt.order) <= 3


def test_a_batch_of_tasks_equals_one_by_one():
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


def test_no_convergence_is_an_error_with_the_gradient_norm(monkeypatch):
    monkeypatch.setattr(newton, "_MOST", 1)
    x = inputs(20)
    with pytest.raises(bg.NotConvergedError, match=r"gradient norm \d"):
        fixed("poisson", x, targets("poisson", x))


@pytest.mark.parametrize(
    ("name", "y", "message"),
    [
        ("bernoulli", [0, 2], "labels 0 and 1"),
        ("poisson", [1.5, 2.0], "counts"),
        ("poisson", [-1, 2], "counts"),
        ("softmax", [0, 1, 2], r"shape \(n,\) or \(B, n\)"),
        ("bernoulli", [0.0, math.nan], "must be finite"),
    ],
)
def test_targets_that_no_such_likelihood_gives(name, y, message):
    with pytest.raises(ValueError, match=message):
        fixed(name, inputs(2), torch.tensor(y))


def test_arguments_that_do_not_go_together():
    with pytest.raises(ValueError, match="likelihood must be one of"):
        bg.LinearModel(likelihood="probit")
    with pytest.raises(ValueError, match="noise must be None"):
        bg.LinearModel(noise=1.0, likelihood="poisson")
    with pytest.raises(ValueError, match="noise must be None"):
        bg.GaussianProcess(gpytorch.kernels.RBFKernel(), 0.1, likelihood="poisson")


def test_data_that_strain_newton():
    x = torch.linspace(-1, 1, 30, dtype=F64)
    kernel = gpytorch.kernels.RBFKernel()
    counts = torch.full((30,), 1e6, dtype=F64)
    many = bg.GaussianProcess(kernel, likelihood="poisson").fit(x, counts)
    torch.testing.assert_close(many.mode(), counts.log(), atol=1e-3, rtol=0)
    y = torch.sin(3 * x)
    y[5] = 1e6  # without noise but for one point: the evidence wants σ² = 0
    robust = bg.GaussianProcess(kernel, likelihood="student-t").fit(x, y)
    assert robust.evidence.error < 0.2
    assert robust.evidence.effective_dimension < 30
    assert (robust.mode() - torch.sin(3 * x)).abs().max() < 0.1
    same = bg.GaussianProcess(kernel, likelihood="bernoulli").fit(x, torch.ones(30))
    assert -30 * math.log(2) < float(same.evidence.log_marginal_likelihood) < 0
    small = bg.GaussianProcess(kernel, likelihood="bernoulli").fit(x.float(), (x > 0).long())
    full = bg.GaussianProcess(kernel, likelihood="bernoulli").fit(x, (x > 0).long())
    gap = float(small.evidence.log_marginal_likelihood - full.evidence.log_marginal_likelihood)
    assert abs(gap) < max(0.01, float(small.evidence.error))


@pytest.mark.parametrize("name", NAMES)
def test_draws_of_weights_have_the_posteriors_moments(name):
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


@given(st.integers(2, 12), st.sampled_from([0.1, 3.0, 40.0]), st.integers(0, 10**6))
@settings(max_examples=40, deadline=None)
def test_roots_of_a_softmax_are_its_curvature_and_of_size_one(C, size, seed):
    f = size * torch.randn(5, C, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    w, V = Softmax(C).roots(torch.empty(0), f)
    p = f.softmax(-1)
    exact = torch.diag_embed(p) - p[..., None] * p[..., None, :]
    torch.testing.assert_close(V * w[:, None, :] @ V.mT, exact, rtol=1e-12, atol=1e-15)
    assert w.shape == (5, C - 1)
    assert 0.9 < V.norm(dim=1).min() <= V.norm(dim=1).max() < 1.5  # no denormals to propagate


@pytest.mark.parametrize("curvature", ["kron", "diag"])
@pytest.mark.parametrize("norm", ["batch", "none"])
def test_float32_states_what_it_does_to_blocks(curvature, norm):
    torch.manual_seed(0)
    x, y = torch.randn(60, 3, 16, 16), torch.randint(10, (60,))
    net = bg.networks.PreResNet20(2, norm=norm)
    bg.train(net, x, y, epochs=5, batch=20, optimiser="adam", learning_rate=0.01)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", bg.NotAtModeWarning)
        low, high = (
            bg.Laplace(net, curvature=curvature, hyperparameters="fixed", dtype=dtype)
            .fit(x, y)
            .evidence
            for dtype in (torch.float32, torch.float64)
        )
    gap = abs(float(low.log_marginal_likelihood - high.log_marginal_likelihood))
    assert gap < float(low.error) < 0.1
    assert 0 < float(high.error) < 1e-9
