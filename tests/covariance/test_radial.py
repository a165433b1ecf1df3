"""Tests of `bayesgen.covariance.radial`."""

import gpytorch
import pytest
import torch

from bayesgen import kernels
from bayesgen.covariance.distances import squared_distances
from bayesgen.covariance.radial import profile_of

F64 = torch.float64


def inputs(n=12, d=3, seed=0):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=F64)


def test_squared_distances_match_cdist():
    x, new = inputs(1100, 4), inputs(7, 4, seed=2)
    got = squared_distances(x)
    torch.testing.assert_close(got, torch.cdist(x, x).square(), rtol=1e-9, atol=1e-9)
    assert torch.equal(got, got.mT)
    torch.testing.assert_close(
        squared_distances(new, x), torch.cdist(new, x).square(), rtol=1e-9, atol=1e-9
    )
    assert kernels.typical_distance(torch.zeros(4, 2)) is None
    assert kernels.typical_distance(torch.tensor([[0.0], [1.0]])) == 1.0


@pytest.mark.parametrize("name", ["rbf", "matern12", "matern32", "matern52", "rq"])
def test_profiles_match_gpytorch_and_their_slopes_differences(name):
    kernel = gpytorch.kernels.RQKernel() if name == "rq" else kernels.named(name)
    kernel = kernel.double()
    kernel.raw_lengthscale.requires_grad_(False)
    if name == "rq":
        kernel.raw_alpha.requires_grad_(False)
    profile, r = profile_of(kernel), torch.linspace(0.1, 3, 20, dtype=F64)
    log_ell, step = 0.3, 1e-6

    def value(at):
        return profile.value((r / torch.tensor(at, dtype=F64).exp()) ** 2)

    kernel.lengthscale = torch.tensor(log_ell, dtype=F64).exp()
    want = kernel(torch.zeros(1, 1, dtype=F64), r[:, None]).to_dense()[0].detach()
    torch.testing.assert_close(value(log_ell), want, rtol=1e-9, atol=1e-12)
    slope = profile.slope((r / torch.tensor(log_ell, dtype=F64).exp()) ** 2)
    differences = (value(log_ell + step) - value(log_ell - step)) / (2 * step)
    torch.testing.assert_close(slope, differences, rtol=1e-6, atol=1e-9)


def test_other_kernels_have_no_profile():
    assert profile_of(gpytorch.kernels.LinearKernel()) is None
    assert profile_of(gpytorch.kernels.RBFKernel(ard_num_dims=3)) is None
    assert profile_of(gpytorch.kernels.RBFKernel()) is not None
