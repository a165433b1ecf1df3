"""Tests of `bayesgen.solvers.cholesky_factor`."""

import pytest
import torch

from bayesgen import solvers

F64 = torch.float64


def inputs(n=12, d=3, seed=0):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=F64)


def test_cholesky_works_in_place_and_adds_jitter():
    A = inputs(9, 9)
    A = A @ A.mT + torch.eye(9, dtype=F64)
    matrix = A.clone()
    factor = solvers.cholesky(lambda: matrix)
    assert factor.lower.data_ptr() == matrix.data_ptr()
    torch.testing.assert_close(factor.lower @ factor.lower.mT, A)
    torch.testing.assert_close(factor.logdet(), torch.logdet(A))
    torch.testing.assert_close(factor.solve(A), torch.eye(9, dtype=F64), atol=1e-9, rtol=0)
    torch.testing.assert_close(factor.inverse(), torch.linalg.inv(A))
    largest = torch.linalg.eigvalsh(A)[-1].item()
    assert 0.9 * largest < factor.norm() <= largest * (1 + 1e-9)
    torch.testing.assert_close(factor.into_inverse(), torch.linalg.inv(A))
    with pytest.warns(RuntimeWarning, match="jitter"):
        assert solvers.cholesky(lambda: torch.ones(5, 5, dtype=F64)).jitter > 0
    with pytest.raises(ValueError, match="must be positive definite"):
        solvers.cholesky(lambda: -torch.eye(3, dtype=F64))
