"""Tests of `bayesgen.models.latent.newton`."""

import math

import gpytorch
import pytest
import torch

import bayesgen as bg
from bayesgen.models.latent import newton
from tests.models.latent.problems import fixed, inputs, targets

F64 = torch.float64


def test_no_convergence_raises_with_gradient_norm(monkeypatch):
    monkeypatch.setattr(newton, "_MOST", 1)
    x = inputs(20)
    with pytest.raises(bg.NotConvergedError, match=r"gradient norm \d"):
        fixed("poisson", x, targets("poisson", x))


def test_newton_converges_on_extreme_data():
    x = torch.linspace(-1, 1, 30, dtype=F64)
    kernel = gpytorch.kernels.RBFKernel()
    counts = torch.full((30,), 1e6, dtype=F64)
    many = bg.GaussianProcess(kernel, likelihood="poisson").fit(x, counts)
    torch.testing.assert_close(many.mode(), counts.log(), atol=1e-3, rtol=0)
    y = torch.sin(3 * x)
    y[5] = 1e6  # Only this point is noisy: the evidence is largest at σ² = 0.
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
