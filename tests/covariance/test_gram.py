"""Tests of `bayesgen.covariance.gram`."""

import gpytorch
import pytest
import torch

from bayesgen import kernels
from bayesgen.covariance.gram import gram

F64 = torch.float64


def inputs(n=12, d=3, seed=0):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=F64)


RADIAL = [kernels.named(name) for name in ("rbf", "matern12", "matern32", "matern52")]


@pytest.fixture(params=[*RADIAL, "rq", "custom"], ids=lambda k: getattr(k, "nu", str(k)[:6]))
def kernel(request):
    if request.param == "custom":
        return kernels.stationary(lambda a, b: torch.exp(-0.5 * torch.cdist(a, b) ** 2)).to(F64)
    if request.param == "rq":
        result = gpytorch.kernels.RQKernel().to(F64)
        result.alpha = torch.tensor(1.7, dtype=F64)
        result.raw_alpha.requires_grad_(False)
        return result
    return request.param.to(F64)


def test_gram_matches_gpytorch(kernel):
    x, new = inputs(), inputs(5, seed=1)
    matrices = gram(kernel, x)
    theta = torch.tensor([0.3], dtype=F64)
    reference = matrices.kernel(theta)
    assert reference.lengthscale.item() == pytest.approx(torch.tensor(0.3).exp().item(), rel=1e-6)
    with torch.no_grad():
        want, cross = reference(x).to_dense(), reference(new, x).to_dense()
    torch.testing.assert_close(matrices.matrix(theta), want, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(matrices.cross(new)(theta), cross, rtol=1e-9, atol=1e-9)


def test_slopes_match_differences(kernel):
    matrices = gram(kernel, inputs())
    theta, step = torch.tensor([0.3], dtype=F64), 1e-5
    want = (matrices.matrix(theta + step) - matrices.matrix(theta - step)) / (2 * step)
    torch.testing.assert_close(matrices.slope(theta), want, rtol=1e-6, atol=1e-8)
    weights = inputs(12, 12, seed=3)
    pulled = matrices.pull(theta, weights)
    torch.testing.assert_close(pulled, (weights * want).sum().reshape(1), rtol=1e-6, atol=1e-7)
