"""Tests of `bayesgen.pacbayes.compression.projections`."""

import pytest
import torch

from bayesgen.pacbayes.compression.projections import PROJECTIONS


@pytest.mark.parametrize("name", list(PROJECTIONS))
def test_projections_are_linear_and_reproduced_from_seed(name):
    like, gains = torch.zeros(1, dtype=torch.float64), torch.ones(500, dtype=torch.float64)
    make = PROJECTIONS[name]
    P = make(500, 37, gains, torch.Generator().manual_seed(1), like)
    again = make(500, 37, gains, torch.Generator().manual_seed(1), like)
    a, b = torch.randn(2, 37, dtype=torch.float64)
    torch.testing.assert_close(P(2 * a + b), 2 * P(a) + P(b))
    assert torch.equal(P(a), again(a))
    matrix = torch.stack([P(e) for e in torch.eye(37, dtype=torch.float64)], 1)
    assert torch.linalg.matrix_rank(matrix) == 37
    # A typical z of unit entries moves each weight by about its gain.
    assert 0.5 < float(matrix.square().sum(1).mean().sqrt()) < 2.0
