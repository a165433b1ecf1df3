"""Tests of `bayesgen.models.gp.mean`."""

import pickle

import gpytorch
import numpy as np
import pytest
import torch
from gpytorch.kernels import PeriodicKernel, RBFKernel
from gpytorch.means import ConstantMean, LinearMean, MultitaskMean, ZeroMean
from scipy.optimize import minimize
from scipy.stats import multivariate_normal

import bayesgen as bg
from bayesgen import GaussianProcess
from bayesgen.models.gp.mean import MeanSpace, resolve
from tests.helpers import rbf_kernel

F64 = torch.float64
N = 14
X = torch.linspace(0, 1, N, dtype=F64)[:, None]
Y = torch.sin(6 * X[:, 0]) + 0.1 * torch.cos(40 * X[:, 0])
LENGTH = 0.4


def covariance(ell=LENGTH, scale=1.0, noise=0.1):
    x = X.numpy()
    return scale * np.exp(-0.5 * (x - x.T) ** 2 / ell**2) + noise * np.eye(N)


def log_density(mean, y=Y):
    return multivariate_normal(np.broadcast_to(mean, N), covariance()).logpdf(y.numpy())


def fixed(mean, y=Y, x=X):
    gp = GaussianProcess(rbf_kernel(LENGTH), 0.1, mean=mean, hyperparameters="fixed")
    return gp.fit(x, y)


def maximum(design, y=Y):
    """Largest log evidence over ℓ, s, σ² and the mean's coefficients, by scipy."""
    y = y.numpy()

    def negative(t):
        A = covariance(*np.exp(t[:3]))
        half = np.linalg.solve(np.linalg.cholesky(A), y - design @ t[3:])
        return 0.5 * half @ half + 0.5 * np.linalg.slogdet(2 * np.pi * A)[1]

    rough = np.linalg.lstsq(design, y, rcond=None)[0]
    starts = [(a, b, c) for a in (-2, -1) for b in (-1, 1) for c in (-5, -2)]
    found = [minimize(negative, np.r_[s, rough], method="BFGS") for s in starts]
    best = min(found, key=lambda f: f.fun)
    return -best.fun, np.r_[np.exp(best.x[:3]), best.x[3:]]


ONES = np.ones((N, 1))


@pytest.mark.parametrize(
    ("make", "design"),
    [(ConstantMean, ONES), (lambda: LinearMean(1), np.c_[X.numpy(), ONES])],
)
@pytest.mark.parametrize("shift", [0.0, 5.0])
def test_learnt_means_are_those_of_largest_evidence(make, design, shift):
    mean = make()
    before = [p.clone() for p in mean.parameters()]
    posterior = GaussianProcess(RBFKernel(), mean=mean).fit(X, Y + shift)
    value, at = maximum(design, Y + shift)
    assert float(posterior.evidence.log_marginal_likelihood) == pytest.approx(value, abs=1e-3)
    assert posterior.learnt == {"kernel", "scale", "noise", "mean"}
    found = posterior.hyperparameters
    names = ["RBF.lengthscale", "scale", "noise"]
    np.testing.assert_allclose([found[name] for name in names], at[:3], rtol=0.02)
    own = [found[name] for name in found if name.startswith("mean.")]
    np.testing.assert_allclose(own, at[3:], rtol=0.02, atol=0.02)
    assert all(torch.equal(a, b) for a, b in zip(before, mean.parameters(), strict=True))


def test_the_mean_alone_is_the_generalised_least_squares_estimate():
    mean = ConstantMean()
    mean.initialize(constant=-7.0)
    gp = GaussianProcess(rbf_kernel(LENGTH), 0.1, mean=mean, hyperparameters=("mean",))
    posterior = gp.fit(X, Y + 5)
    inverse = np.linalg.inv(covariance())
    want = inverse.sum(0) @ (Y.numpy() + 5) / inverse.sum()
    assert posterior.hyperparameters["mean.constant"] == pytest.approx(want, rel=1e-9)
    assert float(posterior.evidence.log_marginal_likelihood) == pytest.approx(
        log_density(want, Y + 5), rel=1e-9
    )
    cross = np.exp(-0.5 * (X.numpy()[:2] - X.numpy().T) ** 2 / LENGTH**2)
    mean_there = want + cross @ inverse @ (Y.numpy() + 5 - want)
    np.testing.assert_allclose(posterior.mean(X[:2]).numpy(), mean_there, rtol=1e-9)


def test_everything_of_a_posterior_includes_the_learnt_mean():
    posterior = GaussianProcess(RBFKernel(), mean=LinearMean(1)).fit(X, Y + 5)
    torch.testing.assert_close(posterior.fitted(), posterior.mean(X))
    torch.testing.assert_close(posterior.predict(X).mean, posterior.mean(X))
    torch.testing.assert_close(posterior.joint(X[::4]).mean, posterior.mean(X[::4]))
    torch.testing.assert_close(posterior.marginals()[0][:, 0], posterior.mean(X))
    torch.testing.assert_close(
        posterior.learning_curve().sum(), posterior.evidence.log_marginal_likelihood
    )
    copy = pickle.loads(pickle.dumps(posterior))
    torch.testing.assert_close(copy.mean(X[:3]), posterior.mean(X[:3]))
    with pytest.raises(ValueError, match="mean"):
        posterior.certificate(loss="squared", clip=10.0)


@pytest.mark.parametrize("unit", [1e-4, 1.0, 1e5])
def test_units_do_not_matter(unit):
    base = GaussianProcess(RBFKernel(), mean=LinearMean(1)).fit(X, Y)
    moved = GaussianProcess(RBFKernel(), mean=LinearMean(1)).fit(
        unit * (X + 7), unit * Y + 3 * unit
    )
    shift = N * np.log(unit)
    assert float(moved.evidence.log_marginal_likelihood) + shift == pytest.approx(
        float(base.evidence.log_marginal_likelihood), abs=1e-3
    )
    torch.testing.assert_close(moved.fitted() / unit - 3, base.fitted(), rtol=1e-3, atol=1e-3)


def test_means_are_learnt_with_noise_per_point_outputs_and_in_float32():
    noise = torch.linspace(0.01, 0.02, N, dtype=F64)
    posterior = GaussianProcess(RBFKernel(), noise, mean=ConstantMean()).fit(X, Y + 5)
    A = posterior.scale.item() * covariance(posterior.lengthscale.item(), noise=0.0)
    inverse = np.linalg.inv(A + np.diag(noise.numpy()))
    want = inverse.sum(0) @ (Y.numpy() + 5) / inverse.sum()
    assert posterior.hyperparameters["mean.constant"] == pytest.approx(want, rel=1e-4)

    two = torch.stack([Y + 5, Y - 3 * X[:, 0]], 1)
    each = MultitaskMean([ConstantMean(), LinearMean(1)], 2)
    found = GaussianProcess(RBFKernel(), mean=each).fit(X, two).hyperparameters
    assert found["mean.base_means.0.constant"] == pytest.approx(5, abs=0.3)
    assert found["mean.base_means.1.weights"] == pytest.approx(-3, abs=1.0)

    single = GaussianProcess(RBFKernel(), mean=ConstantMean()).fit(X.float(), (Y + 5).float())
    double = GaussianProcess(RBFKernel(), mean=ConstantMean()).fit(X, Y + 5)
    assert single.mean(X.float()).dtype == torch.float32
    assert single.hyperparameters["mean.constant"] == pytest.approx(
        double.hyperparameters["mean.constant"], rel=1e-4
    )


def test_columns_that_the_data_do_not_identify_are_allowed():
    x = torch.cat([X, torch.ones_like(X)], 1)
    one = GaussianProcess(RBFKernel(active_dims=(0,)), mean=LinearMean(2)).fit(x, Y)
    other = GaussianProcess(RBFKernel(), mean=LinearMean(1)).fit(X, Y)
    torch.testing.assert_close(one.evidence.fit, other.evidence.fit, rtol=1e-4, atol=1e-4)


def test_kernels_of_several_parameters_are_learnt_with_a_mean():
    # Without noise the evidence is flat along a ridge, where processors differ by 0.01 nats.
    noisy = Y + 0.1 * torch.randn(N, generator=torch.Generator().manual_seed(0), dtype=F64)
    kernel = RBFKernel() + PeriodicKernel()
    plain = GaussianProcess(kernel, mean=0.0, starts=3).fit(X, noisy)
    with_mean = GaussianProcess(kernel, mean=ConstantMean(), starts=3).fit(X, noisy)
    gain = with_mean.evidence.log_marginal_likelihood - plain.evidence.log_marginal_likelihood
    assert gain > -1e-3


def value_of(posterior):
    return float(posterior.evidence.log_marginal_likelihood)


def test_kept_means_are_used_at_their_present_values():
    constant, linear = ConstantMean(), LinearMean(1).double()
    constant.initialize(constant=2.0)
    slope, offset = linear.weights.item(), linear.bias.item()
    assert value_of(fixed(constant)) == pytest.approx(log_density(2.0), rel=1e-9)
    want = log_density(slope * X[:, 0].numpy() + offset)
    assert value_of(fixed(linear)) == pytest.approx(want, rel=1e-9)
    assert value_of(fixed(ZeroMean())) == pytest.approx(log_density(0.0), rel=1e-9)
    gp = GaussianProcess(RBFKernel(), mean=constant, hyperparameters=("kernel", "scale", "noise"))
    assert gp.fit(X, Y).hyperparameters["mean.constant"] == 2.0
    limited = ConstantMean(constant_constraint=gpytorch.constraints.Interval(-1, 1))
    assert value_of(fixed(limited)) == pytest.approx(log_density(0.0), rel=1e-6)


def test_modules_and_functions_with_gradients_are_detached():
    net = torch.nn.Sequential(torch.nn.Linear(1, 1), torch.nn.Dropout(0.5))
    values = net[0](X.float()).detach().double().numpy()[:, 0]
    posterior = GaussianProcess(rbf_kernel(LENGTH), 0.1, mean=net, hyperparameters="fixed").fit(
        X, Y
    )
    assert value_of(posterior) == pytest.approx(log_density(values), rel=1e-5)
    assert net.training
    assert net[0].weight.dtype == torch.float32
    GaussianProcess(RBFKernel(), mean=net).fit(X, Y).predict(X[:2]).mean.numpy()
    weight = torch.tensor(2.0, dtype=F64, requires_grad=True)
    own = fixed(lambda x: weight * x[:, 0])
    assert value_of(own) == pytest.approx(log_density(2 * X[:, 0].numpy()), rel=1e-9)
    assert not own.mean(X).requires_grad


@pytest.mark.parametrize(
    "number",
    [1, 1.0, np.float32(1), np.float64(1), np.int64(1), torch.tensor(1.0), np.array([1.0])],
)
def test_numbers_of_any_library_are_a_mean(number):
    assert value_of(fixed(number)) == pytest.approx(log_density(1.0), rel=1e-9)


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x[:, 0],
        lambda x: x[:, :1],
        lambda x: x.expand(len(x), 2),
        lambda x: torch.tensor(0.5, dtype=F64),
    ],
)
def test_functions_of_any_valid_shape_are_a_mean(function):
    two = torch.stack([Y, -Y], 1)
    row = function(X)
    values = row.numpy() if row.ndim == 0 else row.reshape(N, -1)[:, 0].numpy()
    want = log_density(values) + log_density(values, -Y)
    assert value_of(fixed(function, two)) == pytest.approx(want, rel=1e-9)


@pytest.mark.parametrize(
    ("mean", "kind", "message"),
    [
        (torch.zeros(N, dtype=F64), ValueError, r"of shape \(C,\) = \(1,\)"),
        (lambda x: x.mT, ValueError, r"one row for each of the 14 inputs, .* got \(1, 14\)"),
        (lambda x: x[:3], ValueError, r"got \(3, 1\)"),
        (lambda x: x.expand(len(x), 3), ValueError, r"got \(14, 3\)"),
        (lambda x: x[:, 0].float(), TypeError, "dtype of the other inputs"),
        (lambda x: x[:, 0] * torch.nan, ValueError, r"mean\(x\) must be finite, got 14"),
        (ConstantMean(batch_shape=torch.Size([2])), ValueError, r"got \(2, 14\)"),
        (float("nan"), ValueError, "mean must be finite"),
        (ConstantMean, TypeError, "mean must be an instance, got the class ConstantMean"),
        ("zero", TypeError, "mean must be a tensor or an array, got str"),
    ],
)
def test_means_that_are_none_raise(mean, kind, message):
    with pytest.raises(kind, match=message):
        fixed(mean)


def test_rows_are_checked_at_new_inputs_too():
    posterior = fixed(lambda x: x[:, 0] if len(x) == N else x[:1, 0])
    with pytest.raises(ValueError, match="one row for each of the 3 inputs"):
        posterior.mean(X[:3])


def test_means_that_cannot_be_learnt_raise():
    limited = ConstantMean(constant_constraint=gpytorch.constraints.Interval(-1, 1))
    kernel = RBFKernel()
    with pytest.raises(ValueError, match="is not linear in its parameters"):
        GaussianProcess(kernel, mean=limited).fit(X, Y)
    with pytest.raises(ValueError, match="needs y of one task"):
        GaussianProcess(kernel, mean=ConstantMean()).fit(X, Y.expand(2, N)[..., None])
    with pytest.raises(ValueError, match="does not learn the parameters of mean"):
        GaussianProcess(kernel, mean=ConstantMean(), engine="krylov").fit(X, Y)
    with pytest.raises(ValueError, match="reproduced exactly by the mean"):
        GaussianProcess(kernel, mean=ConstantMean()).fit(X, torch.full_like(Y, 3.0))
    with pytest.raises(ValueError, match="names only 'mean', which cannot be learnt"):
        GaussianProcess(kernel, mean=1.0, hyperparameters=("mean",))
    with pytest.raises(ValueError, match="prior mean of 0"):
        GaussianProcess(kernel, mean=ConstantMean()).fit_batch(X[None], Y[None])


def test_models_with_different_means_are_of_the_same_data():
    models = {name: fixed(m) for name, m in (("zero", 0), ("one", 1.0))}
    assert set(bg.compare(models).index) == {"zero", "one", "null"}


def test_the_space_of_a_mean_has_an_orthonormal_basis():
    H = torch.stack([torch.ones(N, 1), X, 1e6 * X + 1], -1).double()
    space = MeanSpace(H)
    U = space.basis.reshape(N, -1)
    torch.testing.assert_close(U.mT @ U, torch.eye(2, dtype=F64))
    gamma = torch.tensor([0.3, -2.0], dtype=F64)
    torch.testing.assert_close(
        (H @ space.coefficients(gamma)), space.values(gamma), rtol=1e-6, atol=1e-6
    )
    torch.testing.assert_close(space.project(space.values(gamma)), gamma)
    mean = resolve(LinearMean(1), X, 1)
    torch.testing.assert_close(mean.slopes(X)[:, 0], torch.cat([X, torch.ones_like(X)], 1))
