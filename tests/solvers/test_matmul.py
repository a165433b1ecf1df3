"""Tests of `bayesgen.solvers.matmul`."""

import pytest
import torch

from bayesgen.solvers.matmul import product


@pytest.mark.parametrize("rows", [1, 512, 1100])
@pytest.mark.parametrize("transposed", [False, True])
def test_product_matches_matrix_product(rows, transposed):
    g = torch.Generator().manual_seed(0)
    A = torch.randn(rows, 30, generator=g, dtype=torch.float64)
    v = torch.randn(30, 30, generator=g, dtype=torch.float64)[:, :4]
    v = v.mT.contiguous().mT if transposed else v
    torch.testing.assert_close(product(A, v), A @ v)
