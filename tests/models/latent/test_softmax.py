"""Tests of `bayesgen.models.latent.softmax`.

W = diag(π) − ΠΠᵀ is written out as an (nC, nC) matrix, and compared with the formulas by class.
"""

import pytest
import torch

from bayesgen.models.latent.softmax import SoftmaxProblem

F64 = torch.float64
N, C = 5, 3


@pytest.fixture
def state():
    """The problem, K, f, and K and W of all nC values, the class running fastest."""
    g = torch.Generator().manual_seed(0)
    x = torch.rand(N, 2, generator=g, dtype=F64)
    K = 2 * torch.exp(-(torch.cdist(x, x) ** 2)) + 0.1 * torch.eye(N, dtype=F64)
    f = torch.randn(N, C, generator=g, dtype=F64)
    problem = SoftmaxProblem(torch.eye(C, dtype=F64)[torch.tensor([0, 1, 2, 0, 1])])
    wide = torch.kron(K, torch.eye(C, dtype=F64))
    return problem, K, f, wide, weight(f)


def weight(f):
    p = f.softmax(-1)
    return torch.block_diag(*(torch.diag(q) - torch.outer(q, q) for q in p))


def rest(wide, W):
    """R = (I + WK)⁻¹W."""
    return torch.linalg.solve(torch.eye(N * C, dtype=F64) + W @ wide, W)


def test_gradient_and_curvature_match_autograd(state):
    problem, _, f, _, W = state
    free = f.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(problem.value(free), free)
    torch.testing.assert_close(problem.gradient(f), gradient)
    hessian = torch.autograd.functional.hessian(problem.value, f).reshape(N * C, N * C)
    torch.testing.assert_close(-hessian, W)


def test_products_and_determinant_match_dense_algebra(state):
    problem, K, f, wide, W = state
    found, R = problem.curvature(K, f), rest(wide, W)
    v = torch.randn(N, C, generator=torch.Generator().manual_seed(1), dtype=F64)
    torch.testing.assert_close(found.times(v).reshape(-1), R @ v.reshape(-1))
    torch.testing.assert_close(found.logdet(), torch.logdet(torch.eye(N * C).to(W) + wide @ W))
    for c, block in enumerate(found.blocks()):
        torch.testing.assert_close(block, R[c::C, c::C])
    torch.testing.assert_close(found.pulls(v[None], 0 * v[None])[0], found.times(v))


def test_posterior_covariances_match_dense_algebra(state):
    problem, K, f, wide, W = state
    found, R = problem.curvature(K, f), rest(wide, W)
    S = wide - wide @ R @ wide
    torch.testing.assert_close(found.variance().reshape(-1), S.diagonal())
    torch.testing.assert_close(found.effective_dimension(), (S @ W).trace())
    cross = torch.rand(N, 2, generator=torch.Generator().manual_seed(2), dtype=F64)
    far = torch.kron(cross, torch.eye(C, dtype=F64))
    whole = 3.0 * torch.eye(2 * C, dtype=F64) - far.mT @ R @ far
    got = found.covariances(cross, torch.full((2,), 3.0, dtype=F64))
    for m in range(2):
        torch.testing.assert_close(got[m], whole[C * m : C * m + C, C * m : C * m + C])


def test_determinant_slope_matches_autograd(state):
    problem, K, f, wide, _ = state
    free = f.clone().requires_grad_()
    eye = torch.eye(N * C, dtype=F64)
    (want,) = torch.autograd.grad(-0.5 * torch.logdet(eye + wide @ weight(free)), free)
    torch.testing.assert_close(problem.curvature(K, f).determinant_slope(), want)
