"""Tests of `bayesgen.spectrum.constructors`."""

import numpy as np
import pytest
import torch
from hypothesis import given, strategies as st
from scipy.stats import multivariate_normal

import bayesgen as bg
from bayesgen import Spectrum
from bayesgen.solvers import lanczos
from tests.helpers import points, rbf_matrix

F64 = torch.float64


def psd(n, seed=0, rank=None):
    g = torch.Generator().manual_seed(seed)
    root = torch.randn(n, rank or n, generator=g, dtype=F64)
    return root @ root.mT / n


@given(n=st.integers(2, 30), seed=st.integers(0, 100))
def test_all_lanczos_steps_are_exact(n, seed):
    A = psd(n, seed)
    y = torch.randn(n, 2, generator=torch.Generator().manual_seed(seed), dtype=F64)
    ours = bg.Spectrum.lanczos(A, y, probes=2, steps=n)
    pull = y.T @ torch.linalg.solve(2 * A + 0.3 * torch.eye(n, dtype=F64), y)
    got = ours.target_measure().integrate(lambda v: 1 / (2 * v + 0.3)).sum()
    assert float(got) == pytest.approx(float(pull.trace()), rel=1e-8)
    # The quadrature of each random probe is exact too; only the trace is an estimate.
    values, vectors = torch.linalg.eigh(A)
    probes = lanczos.probes(n, 2, 0, A)
    each = ((vectors.T @ probes).square() * (2 * values + 0.3).log()[:, None]).sum(0)
    assert float(ours.logdet(2.0, 0.3)) == pytest.approx(float(each.mean()), rel=1e-8, abs=1e-8)


def test_lanczos_evidence_is_within_its_error():
    A = psd(300)
    y = torch.randn(300, generator=torch.Generator().manual_seed(2), dtype=F64)
    ours = bg.Spectrum.lanczos(A, y, probes=24, steps=80).evidence(1.0, 0.05)
    exact = bg.Spectrum.dense(A, y).evidence(1.0, 0.05)
    gap = (ours.log_marginal_likelihood - exact.log_marginal_likelihood).abs()
    assert 0 < float(ours.error) < 0.05 * float(exact.log_marginal_likelihood.abs())
    assert float(gap) < 4 * float(ours.error)


@pytest.mark.parametrize("function", ["trace", "logdet", "freedom"])
def test_estimates_of_a_low_rank_operator_are_within_their_errors(function):
    A = psd(400, rank=40)
    ours, exact = bg.Spectrum.lanczos(A, probes=32, steps=60), bg.Spectrum.dense(A)
    function = {
        "trace": lambda v: v,
        "logdet": lambda v: (v.clamp(min=0) / 0.1).log1p(),
        "freedom": lambda v: v / (v + 0.1),
    }[function]
    got, want = ours.density.integrate(function), exact.density.integrate(function)
    assert abs(float(got - want)) < 4 * float(ours.sampling_error(function))


def test_few_distinct_eigenvalues_end_the_recursion():
    A = torch.diag(torch.tensor([1.0] * 20 + [3.0] * 20, dtype=F64))
    nodes = bg.Spectrum.lanczos(A, steps=10).density
    near = torch.minimum((nodes.nodes - 1).abs(), (nodes.nodes - 3).abs())
    assert float(nodes.weights[near > 1e-8].sum()) < 1e-6
    assert float(nodes.weights.sum()) == pytest.approx(40)


def test_lanczos_is_reproduced_from_seed():
    a, b = (bg.Spectrum.lanczos(psd(50), seed=3).density for _ in range(2))
    np.testing.assert_array_equal(a.nodes, b.nodes)


@pytest.mark.parametrize(
    ("op", "error", "message"),
    [
        (torch.ones(2, 3), ValueError, "op must be square"),
        ("K", TypeError, "op must be a tensor or an operator"),
    ],
)
def test_invalid_operators_raise(op, error, message):
    with pytest.raises(error, match=message):
        bg.Spectrum.lanczos(op)


@pytest.mark.parametrize("d", [1, 5, 12, 20])
def test_features_equal_dense(d):
    generator = torch.Generator().manual_seed(d)
    Phi = torch.randn(12, d, generator=generator, dtype=F64)
    y = torch.randn(2, 12, 3, generator=generator, dtype=F64)
    a, b = Spectrum.features(Phi, y), Spectrum.dense(Phi @ Phi.mT, y)
    ea, eb = a.evidence(0.7, 0.2), b.evidence(0.7, 0.2)
    for name in ("fit", "complexity", "effective_dimension"):
        torch.testing.assert_close(getattr(ea, name), getattr(eb, name), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(a.logdet(0.7, 0.2), b.logdet(0.7, 0.2))
    cov = 0.7 * Phi @ Phi.mT + 0.2 * torch.eye(12, dtype=F64)
    torch.testing.assert_close(a.solve(0.7, 0.2), torch.linalg.solve(cov, y))
    torch.testing.assert_close(b.solve(0.7, 0.2), torch.linalg.solve(cov, y))


def test_features_of_degree_150_polynomial_match_normal_density():
    n = 50
    t = torch.linspace(-1, 1, n, dtype=F64)
    j = torch.arange(151, dtype=F64)
    Phi = t[:, None] ** j * 2.0 ** (-j / 2)
    y = torch.sin(3 * t) * torch.cos(9 * t**2)
    got = Spectrum.features(Phi, y).evidence(1.0, 0.05**2).log_marginal_likelihood
    cov = (Phi @ Phi.mT + 0.05**2 * torch.eye(n, dtype=F64)).numpy()
    assert got.item() == pytest.approx(multivariate_normal.logpdf(y.numpy(), cov=cov), rel=1e-9)


@pytest.mark.parametrize("make", ["dense", "features", "lanczos"])
def test_spectrum_without_targets_has_no_outputs(make):
    K = rbf_matrix(points(12))
    spectrum = getattr(Spectrum, make)(K)
    assert spectrum.outputs == 0
    with pytest.raises(ValueError, match="targets"):
        spectrum.evidence(1.0, 0.1)
