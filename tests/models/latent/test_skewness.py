"""Tests of `bayesgen.models.latent.skewness`."""

import math
from itertools import pairwise

import gpytorch
import pytest
import torch
from scipy.integrate import quad

import bayesgen as bg

F64 = torch.float64


def constant(scale):
    def one(a, b):
        return torch.ones(len(a), len(b), dtype=a.dtype)

    kernel = gpytorch.kernels.ScaleKernel(bg.kernels.FunctionKernel(one)).double()
    kernel.outputscale = scale
    return kernel


@pytest.mark.parametrize("scale", [1.0, 100.0, 1e4])
@pytest.mark.parametrize("counts", [[0.0] * 6, [0.0, 0.0, 1.0, 0.0, 0.0, 2.0]])
def test_prediction_is_exact_where_one_latent_value_determines_all(scale, counts):
    x, y = torch.arange(6, dtype=F64), torch.tensor(counts, dtype=F64)
    model = bg.GaussianProcess(constant(scale), likelihood="poisson", hyperparameters="fixed")
    found = model.fit(x, y).predict(torch.zeros(1, 1, dtype=F64))
    total = sum(counts)

    def average(g):
        def integrand(f):
            return g(f) * math.exp(total * f - 6 * math.exp(f) - f * f / (2 * scale) + 5)

        ends = sorted({-14 * scale**0.5, -5 * scale**0.5, -30, -10, -5, -3, -2, -1, 0, 1, 2, 5})
        return sum(quad(integrand, a, b, epsabs=0, epsrel=1e-10)[0] for a, b in pairwise(ends))

    norm = average(lambda f: 1.0)
    mean = average(math.exp) / norm
    square = average(lambda f: math.exp(2 * f)) / norm
    none = average(lambda f: math.exp(-math.exp(f))) / norm
    assert float(found.mean) == pytest.approx(mean, rel=1e-5)
    assert float(found.variance) == pytest.approx(mean + square - mean**2, rel=1e-4)
    assert float(found.log_prob(torch.zeros(1, dtype=F64)).exp()) == pytest.approx(none, abs=1e-7)
    several = found.log_prob(torch.arange(4, dtype=F64)).exp().sum()
    assert float(found.cdf(torch.full((1,), 3.0, dtype=F64))) == pytest.approx(float(several))
    torch.manual_seed(0)
    assert float(found.sample((4000,)).mean()) == pytest.approx(mean, rel=0.2, abs=2e-3)


@pytest.mark.parametrize("n", [1, 3, 20])
def test_counts_of_zero_predict_a_rate_near_zero(n):
    x = torch.linspace(-1, 1, n, dtype=F64)
    for model in (
        bg.GaussianProcess(gpytorch.kernels.RBFKernel(), likelihood="poisson"),
        bg.LinearModel(bg.bases.Polynomial(1), likelihood="poisson"),
    ):
        posterior = model.fit(x, torch.zeros(n, dtype=F64))
        found = posterior.predict(x[:, None])
        assert (found.mean < 0.5 / n).all()
        assert found.variance.isfinite().all()
        assert not posterior.at_bound


def test_batch_of_tasks_predicts_as_each_task():
    x = torch.linspace(-1, 1, 8, dtype=F64)
    y = torch.stack([torch.arange(8, dtype=F64), 2 * torch.arange(8, dtype=F64).flip(0)])
    model = bg.GaussianProcess(
        gpytorch.kernels.RBFKernel(), likelihood="poisson", hyperparameters="fixed"
    )
    whole = model.fit(x, y).predict(x[:3, None])
    each = torch.stack([model.fit(x, one).predict(x[:3, None]).mean for one in y])
    assert whole.batch_shape == (2, 3)
    torch.testing.assert_close(whole.mean, each)
