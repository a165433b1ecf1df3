"""Tests of `bayesgen.covariance.distances`: digits of near pairs among far ones.

Right values are SciPy's covariances of the differences of the inputs.
"""

import gpytorch
import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from scipy.stats import multivariate_normal

import bayesgen as bg
from bayesgen.covariance.distances import scaled_squared_distances, squared_distances

F64 = torch.float64


def clusters(n, d, gap, width, seed=0):
    g = torch.Generator().manual_seed(seed)
    side = 2.0 * torch.randint(0, 2, (n, 1), generator=g) - 1
    return gap * side + width * torch.randn(n, d, generator=g, dtype=F64)


def direct(a, b):
    return (a[:, None] - b).square().sum(-1)


@given(
    st.integers(1, 9), st.integers(1, 40), st.floats(0, 12), st.floats(-6, 6), st.booleans(),
    st.sampled_from([F64, torch.float32]),
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_every_distance_has_its_digits(d, n, gap, width, same, dtype):
    x = clusters(n, d, 10.0**gap, 10.0**width).to(dtype)
    z = x if same else clusters(n + 3, d, 10.0**gap, 10.0**width, 1).to(dtype)
    found, right = squared_distances(x, None if same else z), direct(x.double(), z.double())
    slack = 300 * torch.finfo(dtype).eps
    torch.testing.assert_close(found.double(), right, rtol=slack, atol=0)
    if same:
        assert torch.equal(found, found.mT)
    scales = torch.rand(2, 1, d, dtype=dtype) + 0.5
    both = scaled_squared_distances(x, z, scales)
    for one, scale in zip(both, scales.double(), strict=True):
        right = ((x.double()[:, None] - z.double()) / scale).square().sum(-1)
        torch.testing.assert_close(one.double(), right, rtol=slack, atol=0)


def test_scaled_distances_have_the_right_gradient():
    x = clusters(12, 6, 1e4, 0.1)
    scale = torch.linspace(0.5, 2, 6, dtype=F64)[None].requires_grad_()
    weights = torch.randn(12, 12, dtype=F64, generator=torch.Generator().manual_seed(0))
    (found,) = torch.autograd.grad((weights * scaled_squared_distances(x, x, scale)).sum(), scale)
    right = (((x[:, None] - x) / scale).square().sum(-1) * weights).sum()
    torch.testing.assert_close(found, torch.autograd.grad(right, scale)[0], rtol=1e-10, atol=0)


def test_distances_that_overflow_are_infinite():
    x = torch.full((3, 6), 1e200, dtype=F64)
    x[1:] *= -1
    found = squared_distances(x)
    assert not found.isnan().any()
    assert found[0, 1] == torch.inf
    assert found[1, 2] == 0


def rbf(length, columns=None):
    kernel = gpytorch.kernels.RBFKernel(ard_num_dims=columns).double()
    kernel.lengthscale = torch.tensor(length, dtype=F64)
    return kernel


def scipy_evidence(x, y, length, noise):
    q = direct(x, x).numpy() / length**2
    return multivariate_normal(np.zeros(len(x)), np.exp(-0.5 * q) + noise * np.eye(len(x))).logpdf(
        y.numpy()
    )


@pytest.mark.parametrize("columns", [None, 1, 6])
@pytest.mark.parametrize("gap", [1e2, 1e4, 1e5, 1e7, 1e9])
def test_evidence_of_clusters_far_apart_is_within_its_error(gap, columns):
    d = columns or 1
    x = clusters(40, d, gap, 0.05)
    y = torch.sin(40 * (x[:, 0] - gap * x[:, 0].sign())).double()
    gp = bg.GaussianProcess(rbf(0.01, columns), 0.1, hyperparameters="fixed")
    found = gp.fit(x, y).evidence
    gap = abs(float(found.log_marginal_likelihood) - scipy_evidence(x, y, 0.01, 0.1))
    assert gap <= 3 * float(found.error) + 1e-11


@pytest.mark.parametrize("far", [1e3, 1e6, 1e12, 1e25])
@pytest.mark.parametrize("kernel", ["rbf", "matern", "sum"])
def test_one_wild_input_changes_nothing(far, kernel):
    g = torch.Generator().manual_seed(0)
    u = torch.rand(30, generator=g, dtype=F64)
    y = torch.sin(9 * u) + 0.1 * torch.randn(30, generator=g, dtype=F64)
    make = {
        "rbf": gpytorch.kernels.RBFKernel,
        "matern": lambda: gpytorch.kernels.MaternKernel(2.5),
        "sum": lambda: gpytorch.kernels.RBFKernel() + gpytorch.kernels.MaternKernel(0.5),
    }[kernel]
    values = []
    for last in (1e2, far):
        x, t = torch.cat([u, u.new_tensor([last])])[:, None], torch.cat([y, y.new_tensor([0.3])])
        values.append(
            float(bg.GaussianProcess(make().double()).fit(x, t).evidence.log_marginal_likelihood)
        )
    assert values[1] == pytest.approx(values[0], abs=0.02)
