"""Tests of `bayesgen.solvers.eigen`."""

import numpy as np
import pytest
import torch

from bayesgen.solvers import eigen

F64 = torch.float64


def symmetric(*shape, seed=0):
    g = torch.Generator().manual_seed(seed)
    A = torch.randn(*shape, shape[-1], generator=g, dtype=F64)
    return A + A.mT


@pytest.mark.parametrize("shape", [(7,), (3, 6)])
def test_eigh_matches_numpy(shape):
    A = symmetric(*shape)
    values, vectors = eigen.eigh(A)
    np.testing.assert_allclose(values, np.linalg.eigvalsh(A.numpy()), atol=1e-12)
    torch.testing.assert_close(vectors @ torch.diag_embed(values) @ vectors.mT, A)
    torch.testing.assert_close(vectors.mT @ vectors, torch.eye(shape[-1], dtype=F64).expand_as(A))


@pytest.mark.parametrize("n", [5, 620])
def test_eigvalsh_matches_numpy_on_both_sides_of_its_limit(n):
    A = symmetric(n)
    assert (n > eigen._FEW) == (n == 620)
    np.testing.assert_allclose(eigen.eigvalsh(A), np.linalg.eigvalsh(A.numpy()), atol=1e-10)


@pytest.mark.parametrize("n", [50, 400])
def test_rounding_norm_covers_float32_errors(n):
    A = symmetric(n)
    A = A @ A
    off = float(torch.linalg.matrix_norm(A.float().double() - A, 2))
    said = eigen.rounding_norm(n, float(torch.linalg.eigvalsh(A)[-1]), torch.float32)
    assert 0 < off < said


def test_largest_eigenvalue_is_a_close_lower_bound():
    A = symmetric(40)
    A = A @ A
    top = float(torch.linalg.eigvalsh(A)[-1])
    found = eigen.largest_eigenvalue(lambda v: A @ v, torch.ones(40, 1, dtype=F64))
    assert 0.8 * top < found <= top * (1 + 1e-12)


def test_largest_eigenvalue_is_found_where_rows_sum_to_zero():
    centred = torch.eye(6, dtype=F64) - 1 / 6
    assert eigen.largest_eigenvalue(lambda v: centred @ v, centred) == pytest.approx(1.0)
    zero = torch.zeros(4, 4, dtype=F64)
    assert eigen.largest_eigenvalue(lambda v: zero @ v, zero) == 0.0
