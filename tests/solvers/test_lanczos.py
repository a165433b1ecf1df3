"""Tests of `bayesgen.solvers.lanczos` and `bayesgen.solvers.quadrature`."""

import pytest
import torch

from bayesgen.solvers import lanczos

F64 = torch.float64


def psd(n, seed=0, rank=None):
    g = torch.Generator().manual_seed(seed)
    root = torch.randn(n, rank or n, generator=g, dtype=F64)
    return root @ root.mT / n


def test_gauss_and_radau_bracket_quadratic_form():
    A = psd(60)
    v = torch.randn(60, 1, generator=torch.Generator().manual_seed(1), dtype=F64)
    want = float((v.T @ torch.linalg.solve(A + 0.01 * torch.eye(60, dtype=F64), v)).squeeze())
    for steps in (3, 6, 12, 24):
        found = lanczos.tridiagonalise(lambda w: A @ w, v, steps)
        low = float(found.gauss().integrate(lambda t: 1 / (t + 0.01)).squeeze())
        high = float(found.radau(0.0).integrate(lambda t: 1 / (t + 0.01)).squeeze())
        assert low <= want * (1 + 1e-9)
        assert high >= want * (1 - 1e-9)
    assert high - low < 0.2 * want


@pytest.mark.parametrize("columns", [1, 7])
def test_operator_products_match_matrix(columns):
    g = torch.Generator().manual_seed(0)
    A = torch.randn(1100, 1100, generator=g, dtype=F64)
    v = torch.randn(columns, 1100, generator=g, dtype=F64).mT
    multiply, n, _ = lanczos.operator(A)
    assert n == 1100
    torch.testing.assert_close(multiply(v), A @ v)
    torch.testing.assert_close(multiply(v.float().to(F64)), A @ v.float().to(F64))
