"""Tests of `bayesgen.spectrum.control_variates`."""

import pytest
import torch
from hypothesis import given, settings, strategies as st

from bayesgen.spectrum.control_variates import calibrate, of_rows
from bayesgen.spectrum.spectrum import Spectrum
from tests.helpers import noisy_waves, points, rbf_matrix

F64 = torch.float64


class Products:
    """A matrix that offers products and nothing else."""

    def __init__(self, K):
        self.K, self.shape, self.dtype, self.device = K, K.shape, K.dtype, K.device

    def __matmul__(self, v):
        return self.K @ v


def test_known_moments_reduce_sampling_error():
    x = points(600, 8)
    K, y = rbf_matrix(x, 0.7), noisy_waves(x)
    exact = Spectrum.dense(K, y).evidence(1.0, 0.2).log_marginal_likelihood
    plain = Spectrum.krylov(Products(K), y, probes=8, steps=10).evidence(1.0, 0.2)
    found = Spectrum.krylov(K, y, probes=8, steps=10)
    e = found.evidence(1.0, 0.2)
    assert e.error < 0.2 * plain.error
    assert (e.log_marginal_likelihood - exact).abs() < 3 * e.error
    assert "calibrated" in e.method
    assert "calibrated" not in plain.method
    for power, moment in enumerate((600.0, K.trace(), K.square().sum())):
        told = found.density.integrate(lambda v, power=power: v**power)
        torch.testing.assert_close(told, torch.as_tensor(moment, dtype=F64), rtol=1e-3, atol=0)


@given(st.integers(1, 12), st.integers(2, 9), st.integers(0, 10**6))
@settings(max_examples=60, deadline=None)
def test_calibrated_weights_have_given_moments(m, q, seed):
    g = torch.Generator().manual_seed(seed)
    nodes, weights = torch.rand(m, generator=g, dtype=F64), torch.rand(q, m, generator=g, dtype=F64)
    powers = nodes ** torch.arange(3)[:, None]
    exact = powers @ (weights.mean(0) * (1 + 0.1 * torch.randn(m, generator=g, dtype=F64)))
    told, off = calibrate(nodes, weights, exact, torch.zeros(3, dtype=F64))
    assert not off.any()
    torch.testing.assert_close(powers @ told.mean(0), exact, rtol=1e-6, atol=1e-9)
    # Every probe agrees on what a parabola sums to.
    torch.testing.assert_close(told @ powers.mT, exact.expand(q, 3), rtol=1e-6, atol=1e-9)


def test_uncertain_moments_leave_weights_unchanged():
    g = torch.Generator().manual_seed(0)
    nodes, weights = torch.rand(9, generator=g, dtype=F64), torch.rand(4, 9, generator=g, dtype=F64)
    wrong = torch.tensor([1.0, 50.0, -70.0], dtype=F64)
    told, _ = calibrate(nodes, weights, wrong, torch.full((3,), 1e6, dtype=F64))
    torch.testing.assert_close(told, weights, rtol=1e-6, atol=1e-6)
    # Between the two extremes, each moment contributes its own doubt.
    exact = nodes ** torch.arange(3)[:, None] @ weights.mean(0)
    doubt = torch.tensor([0.0, 0.1, 0.0], dtype=F64)
    one, off = calibrate(nodes, weights, exact, doubt)
    two, _ = calibrate(nodes, weights, exact + doubt, doubt)
    torch.testing.assert_close((two - one).mean(0), off.sum(0), rtol=1e-9, atol=1e-12)


def test_remainder_at_zero_leaves_weights_unchanged():
    nodes = torch.tensor([0.0, 1e-15, 3.0, 185.0], dtype=F64)
    weights = torch.tensor([[1.0, 0.0, 0.0, 0.0]] * 4, dtype=F64)
    exact = torch.tensor([1.0, 3e-13, 7e-12], dtype=F64)
    told, off = calibrate(nodes, weights, exact, torch.full((3,), 1e-9, dtype=F64))
    torch.testing.assert_close(told, weights)
    assert torch.isfinite(off).all()


def test_weights_follow_the_formula_in_plain_powers():
    g = torch.Generator().manual_seed(1)
    nodes, weights = torch.rand(9, generator=g, dtype=F64), torch.rand(4, 9, generator=g, dtype=F64)
    exact = torch.tensor([5.0, 2.0, 1.5], dtype=F64)
    doubt = torch.tensor([0.2, 0.1, 0.3], dtype=F64)
    told, _ = calibrate(nodes, weights, exact, doubt)
    mean, phi = weights.mean(0), nodes[:, None] ** torch.arange(3)
    normal = phi.mT @ (mean[:, None] * phi) + 0.5 * 4 * doubt.square().diag()
    off = torch.linalg.solve(normal, (weights @ phi - exact).mT).mT
    torch.testing.assert_close(told, weights - mean * (off @ phi.mT), rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("dtype", [F64, torch.float32])
def test_moments_of_rows_add_up_to_those_of_the_matrix(dtype):
    K = rbf_matrix(points(50)).to(dtype)
    parts = [of_rows(K[i : i + 7], i) for i in range(0, 50, 7)]
    trace, squares = (sum(values) for values in zip(*parts, strict=True))
    assert trace == pytest.approx(float(K.double().trace()), rel=1e-6)
    assert squares == pytest.approx(float(K.double().square().sum()), rel=1e-6)
    # Rows that are not contiguous are summed in another way.
    assert of_rows(K.mT[:7], 0) == pytest.approx(of_rows(K[:7], 0), rel=1e-6)


def test_nodes_without_weight_are_no_numerical_failure():
    nodes, none = torch.rand(5, dtype=F64), torch.zeros(4, 5, dtype=F64)
    told, off = calibrate(nodes, none, torch.zeros(3, dtype=F64), torch.full((3,), 0.1, dtype=F64))
    assert not told.any()
    assert not off.any()
