"""Tests of `bayesgen.solvers.cholesky_factor`."""

import pytest
import torch

from bayesgen import solvers
from bayesgen.solvers.cholesky_factor import evidence, inverse_triangle, sensitivity

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


@pytest.mark.parametrize("panel", [1, 4, 100])
def test_triangle_is_inverted_in_panels(panel):
    lower = torch.linalg.cholesky(inputs(9, 9) @ inputs(9, 9).mT + torch.eye(9, dtype=F64))
    want = torch.linalg.inv(lower)
    torch.testing.assert_close(inverse_triangle(lower.clone(), panel), want)


@pytest.mark.parametrize("n", [9, 700])
def test_inverse_diagonal_matches_dense_inverse(n):
    x = inputs(n, 3)
    A = torch.exp(-torch.cdist(x, x)) + torch.eye(n, dtype=F64)
    want = torch.linalg.inv(A)
    torch.testing.assert_close(solvers.cholesky(A).into_inverse(), want)
    torch.testing.assert_close(solvers.cholesky(A).into_inverse_diagonal(), want.diagonal())


@pytest.mark.parametrize("per_point", [False, True])
def test_evidence_of_factor_is_the_normal_density(per_point):
    x, y = inputs(12, 2), inputs(2, 12, seed=5)[..., None].expand(2, 12, 3)
    noise = torch.linspace(0.1, 1, 12, dtype=F64) if per_point else torch.tensor(0.3, dtype=F64)
    K = torch.exp(-torch.cdist(x, x))
    A = K + (noise * torch.ones(12, dtype=F64)).diag()
    found, alpha = evidence(solvers.cholesky(A), y, noise)
    normal = torch.distributions.MultivariateNormal(torch.zeros(12, dtype=F64), A)
    want = normal.log_prob(y.movedim(-1, 0)).sum(0)
    torch.testing.assert_close(found.log_marginal_likelihood, want)
    torch.testing.assert_close(alpha, torch.linalg.solve(A, y))
    freedom = 3 * torch.linalg.solve(A, K).trace()
    torch.testing.assert_close(found.effective_dimension, freedom.expand(2))


def test_sensitivity_matches_autograd():
    x, y = inputs(8, 2), inputs(8, 2, seed=3)
    A = (torch.exp(-torch.cdist(x, x)) + 0.2 * torch.eye(8, dtype=F64)).requires_grad_()
    zero = torch.zeros(8, dtype=F64)
    value = torch.distributions.MultivariateNormal(zero, A).log_prob(y.mT).sum()
    (gradient,) = torch.autograd.grad(value, A)
    found = sensitivity(solvers.cholesky(A.detach()), y)
    torch.testing.assert_close(found.value, value.detach())
    torch.testing.assert_close(found.gradient, 0.5 * (gradient + gradient.mT))
    torch.testing.assert_close(found.data_term, (gradient * A).sum().detach())
