"""Tests of `bayesgen.models.latent.coupled`.

Two latent values of each row feed three outputs of a softmax; all matrices are written out.
"""

import pytest
import torch

from bayesgen.likelihoods import Softmax
from bayesgen.models.latent.coupled import CoupledProblem

F64 = torch.float64
N, C, WIDTH = 4, 3, 2


@pytest.fixture
def state():
    """The problem, a prior covariance of all latent values, and latent values."""
    g = torch.Generator().manual_seed(0)
    offset = torch.randn(N, C, generator=g, dtype=F64)
    basis = torch.randn(C, WIDTH, generator=g, dtype=F64)
    likelihood = Softmax(C)
    y = likelihood.targets(torch.tensor([0, 1, 2, 1]), offset)[0]
    root = torch.randn(N * WIDTH, N * WIDTH, generator=g, dtype=F64)
    latent = torch.randn(N * WIDTH, 1, generator=g, dtype=F64)
    return CoupledProblem(likelihood, y, offset, basis), root @ root.mT / 4, latent


def weight(problem, g):
    """W of all latent values, from the outputs' softmax."""
    p = problem.outputs(g).softmax(-1)
    H = problem.basis
    return torch.block_diag(*(H.mT @ (torch.diag(q) - torch.outer(q, q)) @ H for q in p))


def test_gradient_and_curvature_match_autograd(state):
    problem, K, g = state
    free = g.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(problem.value(free), free)
    torch.testing.assert_close(problem.gradient(g), gradient)
    size = N * WIDTH
    hessian = torch.autograd.functional.hessian(problem.value, g).reshape(size, size)
    torch.testing.assert_close(-hessian, weight(problem, g))
    torch.testing.assert_close(problem.curvature(K, g).trace(), weight(problem, g).trace())


def test_curvature_matches_dense_algebra(state):
    problem, K, g = state
    W, found = weight(problem, g), problem.curvature(K, g)
    eye = torch.eye(N * WIDTH, dtype=F64)
    R = torch.linalg.solve(eye + W @ K, W)
    S = K - K @ R @ K
    torch.testing.assert_close(found.times(K[:, :3]), R @ K[:, :3])
    torch.testing.assert_close(found.logdet(), torch.logdet(eye + K @ W))
    torch.testing.assert_close(found.blocks()[0], R)
    torch.testing.assert_close(found.variance(), S.diagonal())
    torch.testing.assert_close(found.effective_dimension(), (S @ W).trace())
    own = torch.stack([S[WIDTH * i :, WIDTH * i :][:WIDTH, :WIDTH] for i in range(N)])
    torch.testing.assert_close(found.posterior_blocks(), own)
    cross, prior = K[:, :2], torch.full((2,), 50.0, dtype=F64)
    torch.testing.assert_close(
        found.covariances(cross, prior), prior - (cross.mT @ R @ cross).diagonal()
    )


def test_determinant_slope_matches_autograd(state):
    problem, K, g = state
    free = g.clone().requires_grad_()
    eye = torch.eye(N * WIDTH, dtype=F64)
    (want,) = torch.autograd.grad(-0.5 * torch.logdet(eye + K @ weight(problem, free)), free)
    torch.testing.assert_close(problem.curvature(K, g).determinant_slope(), want)
