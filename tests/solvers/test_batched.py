"""Tests of `bayesgen.solvers.batched`."""

import pytest
import torch

import bayesgen as bg

F64 = torch.float64


def covariances(B=4, n=150, noise=0.05, seed=0):
    g = torch.Generator().manual_seed(seed)
    x = torch.rand(B, n, 2, generator=g, dtype=F64)
    K = torch.exp(-0.5 * torch.cdist(x, x) ** 2 / torch.linspace(0.1, 0.5, B)[:, None, None] ** 2)
    y = torch.randn(B, n, 3, generator=g, dtype=F64)
    return K.double() + noise * torch.eye(n, dtype=F64), y


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("noise", [0.5, 1e-3])
def test_batched_evidence_matches_normal_density(dtype, noise):
    A, y = covariances(noise=noise)
    found = bg.solvers.batched_evidence(A, y, dtype=dtype)
    zero = torch.zeros(150, dtype=F64)
    for b in range(len(A)):
        normal = torch.distributions.MultivariateNormal(zero, A[b])
        truth = normal.log_prob(y[b].mT).sum()
        gap = (found.log_marginal_likelihood[b] - truth).abs()
        assert gap <= 3 * found.error[b] + 1e-9 * truth.abs()
        torch.testing.assert_close(found.alpha[b], torch.linalg.solve(A[b], y[b]), rtol=1e-4,
                                   atol=1e-4 * float(found.alpha[b].abs().max()))  # fmt: skip
    assert (found.error / found.log_marginal_likelihood.abs()).max() < 1e-3


def test_one_refinement_improves_float32_solution():
    A, y = covariances(noise=1e-2)
    truth = torch.linalg.solve(A, y)
    rough = torch.cholesky_solve(y.float(), torch.linalg.cholesky(A.float())).double()
    found = bg.solvers.batched_evidence(A, y, dtype=torch.float32)
    assert (found.alpha - truth).norm() < 0.01 * (rough - truth).norm()


def test_singular_matrix_error_states_smallest_eigenvalues():
    A, y = covariances(noise=1e-9)
    with pytest.raises(ValueError, match=r"smallest eigenvalue of .* in float32 and .* in float64"):
        bg.solvers.batched_evidence(A, y, dtype=torch.float32)
    with pytest.raises(ValueError, match="dtype must be"):
        bg.solvers.batched_evidence(A, y, dtype=torch.float16)
    with pytest.raises(ValueError, match="A must have shape"):
        bg.solvers.batched_evidence(A[0], y)
