import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import bayesgen as bg
from bayesgen.solvers import lanczos

F64 = torch.float64


def psd(n, seed=0, rank=None):
    g = torch.Generator().manual_seed(seed)
    root = torch.randn(n, rank or n, generator=g, dtype=F64)
    return root @ root.mT / n


@given(n=st.integers(2, 30), seed=st.integers(0, 100))
def test_all_steps_give_every_eigenvalue_and_quadratic_form(n, seed):
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


def test_gauss_and_radau_bracket_the_quadratic_form():
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


def test_evidence_of_an_operator_carries_its_error():
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


def test_a_seed_means_the_same_everywhere():
    a, b = (bg.Spectrum.lanczos(psd(50), seed=3).density for _ in range(2))
    np.testing.assert_array_equal(a.nodes, b.nodes)


@pytest.mark.parametrize(
    ("op", "error", "message"),
    [
        (torch.ones(2, 3), ValueError, "op must be square"),
        ("K", TypeError, "op must be a tensor or an operator"),
    ],
)
def test_bad_operators_are_named(op, error, message):
    with pytest.raises(error, match=message):
        bg.Spectrum.lanczos(op)


@pytest.mark.parametrize("columns", [1, 7])
def test_products_by_rows_are_products(columns):
    g = torch.Generator().manual_seed(0)
    A = torch.randn(1100, 1100, generator=g, dtype=F64)
    v = torch.randn(columns, 1100, generator=g, dtype=F64).mT
    multiply, n, _ = lanczos.operator(A)
    assert n == 1100
    torch.testing.assert_close(multiply(v), A @ v)
    torch.testing.assert_close(multiply(v.float().to(F64)), A @ v.float().to(F64))
