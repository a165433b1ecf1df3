"""Tests of `bayesgen.models.intervals`: predictive intervals and their coverage."""

import functools

import gpytorch
import pytest
import torch
from torch.distributions import Normal

import bayesgen as bg
from tests.models.fitted import F64, MAKERS, RBF, data, gp, network, posterior

X = torch.linspace(0, 1, 40, dtype=F64)[:, None]
OLD, NEW = torch.arange(40) % 4 != 1, torch.arange(40) % 4 == 1


def drawn(count, scale=1.0, seed=0):
    """Functions at X from a Gaussian process prior, (count, 40), and the kernel."""
    kernel = gpytorch.kernels.RBFKernel().double()
    kernel.lengthscale = 0.2
    with torch.no_grad():
        K = kernel(X).to_dense() + 1e-9 * torch.eye(40, dtype=F64)
    root = torch.linalg.cholesky(scale * K)
    g = torch.Generator().manual_seed(seed)
    return kernel, torch.randn(count, 40, generator=g, dtype=F64) @ root.T


def covered(interval, values):
    return ((interval.lower <= values) & (values <= interval.upper)).double().mean().item()


def fixed(kernel, likelihood="gaussian", scale=1.0, **settings):
    scaled = gpytorch.kernels.ScaleKernel(kernel)
    scaled.outputscale = scale
    return bg.GaussianProcess(
        scaled, likelihood=likelihood, hyperparameters="fixed", starts=1, **settings
    )


@functools.cache
def process():
    """Functions and observations of many tasks, and the posterior of a part of them."""
    kernel, f = drawn(150)
    y = f + 0.3 * torch.randn(f.shape, generator=torch.Generator().manual_seed(1), dtype=F64)
    return f, y, fixed(kernel, noise=0.09).fit(X[OLD], y[:, OLD, None])


@pytest.mark.parametrize("level", [0.5, 0.9, 0.95])
def test_intervals_of_a_process_have_their_coverage(level):
    f, y, found = process()
    new = X[NEW]
    assert covered(found.interval(new, level), y[:, NEW, None]) == pytest.approx(level, abs=0.04)
    of_f = found.interval(new, level, noise=False)
    assert covered(of_f, f[:, NEW, None]) == pytest.approx(level, abs=0.06)


@pytest.mark.slow
def test_intervals_of_counts_have_at_least_their_coverage():
    kernel, f = drawn(8, scale=0.5)
    y = torch.poisson(f.exp(), generator=torch.Generator().manual_seed(1)).long()
    found = fixed(kernel, "poisson", 0.5).fit(X[OLD], y[:, OLD])
    interval = found.interval(X[NEW], 0.9)
    assert torch.equal(interval.lower, interval.lower.round())
    assert 0.87 < covered(interval, y[:, NEW].double()) < 0.99
    of_f = found.interval(X[NEW], 0.9, noise=False)
    assert covered(of_f, f[:, NEW]) == pytest.approx(0.9, abs=0.08)


@pytest.mark.slow
def test_intervals_under_heavy_tails_have_their_coverage():
    kernel, f = drawn(5)
    t = torch.distributions.StudentT(torch.tensor(4.0, dtype=F64))
    with torch.random.fork_rng():
        torch.manual_seed(2)
        y = f + 0.2 * t.sample(f.shape)
    found = fixed(kernel, bg.likelihoods.StudentT(4.0, noise=0.04)).fit(X[OLD], y[:, OLD, None])
    each = [found.task(b).interval(X[NEW], 0.8) for b in range(len(y))]
    share = sum(covered(pair, y[b, NEW, None]) for b, pair in enumerate(each)) / len(y)
    assert share == pytest.approx(0.8, abs=0.12)
    with pytest.raises(ValueError, match="interval noise=False"):
        found.interval(X[NEW])


def test_the_ends_are_quantiles():
    x = data()[0][:4]
    for name in ("gp", "linear", "gp of outputs", "deep kernel", "network of reals"):
        found = posterior(name)
        for noise in (True, False):
            lower, upper = found.interval(x, 0.8, noise=noise)
            normal = found.predict(x, latent=not noise)
            assert isinstance(normal, Normal)
            assert lower.shape == upper.shape == normal.mean.shape
            z = 1.2815515655446004
            torch.testing.assert_close(upper, normal.mean + z * normal.stddev)
            torch.testing.assert_close(lower, normal.mean - z * normal.stddev)


@pytest.mark.parametrize("name", ["gp of counts", "gp of outliers", "linear of counts"])
def test_the_ends_of_other_distributions_are_quantiles(name):
    found, x = posterior(name), data()[0][:4]
    lower, upper = found.interval(x, 0.8)
    new = found.predict(x)
    if name == "gp of outliers":
        torch.testing.assert_close(new.cdf(lower), torch.full_like(lower, 0.1), rtol=0, atol=1e-9)
        torch.testing.assert_close(new.cdf(upper), torch.full_like(upper, 0.9), rtol=0, atol=1e-9)
    else:
        assert (new.cdf(lower) >= 0.1).all() and (new.cdf(upper) >= 0.9).all()  # noqa: PT018
        assert (new.cdf((lower - 1).clamp(min=0))[lower > 0] < 0.1).all()
        assert (new.cdf((upper - 1).clamp(min=0))[upper > 0] < 0.9).all()


def test_a_network_of_counts_has_intervals():
    def counts(y):
        return (3 * y.abs()).round().long()

    net = bg.networks.MLP(2, (3,), 1, activation="tanh")
    lower, upper = network("ggn", "poisson", counts, net).interval(data()[0][:4])
    assert (lower <= upper).all()


@pytest.mark.parametrize("name", [name for name in MAKERS if name.startswith("batch")])
def test_batches_have_intervals_of_their_shape(name):
    x = data()[0][:4]
    lower, upper = posterior(name).interval(torch.stack([x, x]))
    assert lower.shape == upper.shape == (2, 4)
    assert (lower < upper).all()


@pytest.mark.parametrize("name", ["gp of labels", "gp of classes", "linear of classes", "network"])
def test_class_labels_are_refused(name):
    with pytest.raises(ValueError, match="interval is for real targets and counts, and this post"):
        posterior(name).interval(data()[0][:2])


def test_arguments_are_checked():
    found, x = posterior("gp"), data()[0][:2]
    for level in (0, 1, 1.5, -0.1, float("nan"), "a"):
        with pytest.raises((ValueError, TypeError), match="level must"):
            found.interval(x, level)
    with pytest.raises(TypeError, match="noise must be True or False, got 0"):
        found.interval(x, noise=0)
    with pytest.raises(ValueError, match="x_new must have 2 columns"):
        found.interval(x[:, :1])
    with pytest.raises(ValueError, match="of interval, noise must be False"):
        posterior("gp with noises").interval(x)
    assert posterior("gp with noises").interval(x, noise=False).lower.shape == (2,)


def test_intervals_in_float32():
    lower, upper = posterior("gp in float32").interval(data()[0][:2].float())
    assert lower.dtype == upper.dtype == torch.float32
    assert gp(RBF(), noise=0.1).interval(data()[0][:2]).lower.dtype == F64
