"""Tests of `bayesgen.covariance.radial`."""

import torch

from bayesgen import kernels
from bayesgen.covariance.radial import squared_distances

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
