"""Tests of `bayesgen.pacbayes.compression.projections`."""

import pytest
import torch

from bayesgen.pacbayes.compression.projections import PROJECTIONS, identity


@pytest.mark.parametrize("name", list(PROJECTIONS))
def test_projections_are_linear_and_reproduced_from_seed(name):
    D, k = (60, 60) if name == "identity" else (500, 37)
    like, gains = torch.zeros(1, dtype=torch.float64), torch.ones(D, dtype=torch.float64)
    make = PROJECTIONS[name]
    P = make(D, k, gains, torch.Generator().manual_seed(1), like)
    again = make(D, k, gains, torch.Generator().manual_seed(1), like)
    a, b = torch.randn(2, k, dtype=torch.float64)
    torch.testing.assert_close(P(2 * a + b), 2 * P(a) + P(b))
    assert torch.equal(P(a), again(a))
    matrix = torch.stack([P(e) for e in torch.eye(k, dtype=torch.float64)], 1)
    assert torch.linalg.matrix_rank(matrix) == k
    # A typical z of unit entries moves each weight by about its gain.
    assert 0.5 < float(matrix.square().sum(1).mean().sqrt()) < 2.0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_identity_multiplies_by_the_gains(dtype):
    like, gains = torch.zeros(1, dtype=dtype), torch.rand(9, dtype=torch.float64)
    z = torch.randn(9, dtype=dtype)
    assert torch.equal(identity(9, 9, gains, torch.Generator(), like)(z), gains.to(dtype) * z)


@pytest.mark.parametrize("k", [1, 8, 10])
def test_identity_needs_all_weights(k):
    with pytest.raises(ValueError, match="dimension must be the number of weights, 9"):
        identity(9, k, torch.ones(9), torch.Generator(), torch.zeros(1))
