"""Tests of `bayesgen.solvers.interval`.

Deterministic bounds of the evidence hold the Cholesky value.
"""

import gpytorch
import pytest
import torch
from hypothesis import given, settings, strategies as st

from bayesgen.solvers import evidence_interval

F64 = torch.float64


def exact(K, y, s, noise):
    A = s * K + noise * torch.eye(len(K), dtype=F64)
    columns = y.reshape(-1, len(K), 1 if y.ndim == 1 else y.shape[-1])
    normal = torch.distributions.MultivariateNormal(torch.zeros(len(K), dtype=F64), A)
    return normal.log_prob(columns.movedim(2, 1)).sum(1)


@given(
    st.integers(0, 50), st.integers(1, 80), st.floats(1e-3, 10), st.floats(0.1, 5),
    st.sampled_from([0.05, 0.3, 2.0]), st.floats(1e-3, 100),
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_interval_contains_exact_evidence(seed, rank, noise, s, lengthscale, tolerance):
    g = torch.Generator().manual_seed(seed)
    x = torch.rand(60, 2, generator=g, dtype=F64)
    K = torch.exp(-0.5 * torch.cdist(x, x) ** 2 / lengthscale**2)
    y = torch.randn(2, 60, 3, generator=g, dtype=F64)
    found = evidence_interval(K, y, s, noise, rank=rank, tolerance=tolerance)
    truth = exact(K, y, s, noise)
    slack = 1e-7 * truth.abs()
    assert (found.lower <= truth + slack).all()
    assert (truth <= found.upper + slack).all()


def test_interval_narrows_with_rank_and_tolerance():
    x = torch.rand(300, 2, generator=torch.Generator().manual_seed(0), dtype=F64)
    K = torch.exp(-0.5 * torch.cdist(x, x) ** 2 / 0.2**2)
    y = torch.sin(5 * x)
    widths = [
        float((i.upper - i.lower)[0])
        for i in (evidence_interval(K, y, noise=0.1, rank=r, tolerance=1e-4) for r in (5, 40, 200))
    ]
    assert widths[0] > widths[1] > widths[2]
    assert widths[2] < 1e-2
    rough = evidence_interval(K, y, noise=0.1, rank=40, tolerance=10.0)
    fine = evidence_interval(K, y, noise=0.1, rank=40, tolerance=1e-6)
    assert rough.steps < fine.steps


def test_lazy_gpytorch_kernels_are_accepted():
    x = torch.rand(200, 2, generator=torch.Generator().manual_seed(0), dtype=F64)
    kernel = gpytorch.kernels.RBFKernel().double()
    kernel.lengthscale = 0.3
    y = torch.sin(5 * x[:, 0])
    found = evidence_interval(kernel(x), y, noise=0.1, rank=100, tolerance=1e-4)
    K = kernel(x).to_dense().detach()
    truth = exact(K, y, 1.0, 0.1)
    assert found.lower - 1e-6 <= truth <= found.upper + 1e-6
    A = K + 0.1 * torch.eye(200, dtype=F64)
    torch.testing.assert_close(
        found.solution[0, :, 0], torch.linalg.solve(A, y), rtol=1e-2, atol=1e-2
    )


def test_invalid_arguments_raise():
    K, y = torch.eye(4, dtype=F64), torch.ones(4, dtype=F64)
    with pytest.raises(ValueError, match="noise must be positive"):
        evidence_interval(K, y, noise=0.0)
    with pytest.raises(ValueError, match="y must have one row"):
        evidence_interval(K, y[:3])
    with pytest.raises(ValueError, match="rank must be"):
        evidence_interval(K, y, rank=0)
