"""Tests of `bayesgen.solvers.krylov`."""

import pytest
import torch
from hypothesis import given, settings, strategies as st

from bayesgen.solvers import block_lanczos
from tests.helpers import points, rbf_matrix

F64 = torch.float64


@given(st.integers(1, 12), st.integers(1, 6), st.integers(0, 5))
@settings(max_examples=30, deadline=None)
def test_basis_spans_krylov_space(q, steps, seed):
    g = torch.Generator().manual_seed(seed)
    root = torch.randn(40, 40, generator=g, dtype=F64)
    A, start = root @ root.mT, torch.randn(40, q, generator=g, dtype=F64)
    start[:, -1] = start[:, 0]  # This column is there already.
    space = block_lanczos(lambda v: A @ v, start, steps)
    m = space.basis.shape[1]
    assert m <= 40
    torch.testing.assert_close(space.basis.mT @ space.basis, torch.eye(m, dtype=F64), atol=1e-10,
                               rtol=0)  # fmt: skip
    torch.testing.assert_close(space.basis[:, : len(space.start)] @ space.start, start)
    T = space.vectors @ torch.diag(space.values) @ space.vectors.mT
    torch.testing.assert_close(space.basis.mT @ A @ space.basis, T, atol=1e-7, rtol=1e-7)
    ritz = space.ritz()
    off = (A @ ritz - ritz * space.values).norm(dim=0)
    torch.testing.assert_close(space.residuals(), off, atol=1e-7, rtol=1e-5)


def test_gauss_and_radau_bracket_quadratic_form_and_log():
    A, start = rbf_matrix(points(200)) * 5, torch.randn(200, 2, dtype=F64)
    space = block_lanczos(lambda v: A @ v, start, 8)
    values, vectors = torch.linalg.eigh(A)
    exact = (vectors.mT @ start).square().sum(1)
    nodes, around = space.radau(0.0)
    own = (space.vectors.mT[:, : len(space.start)] @ space.start).square().sum(1)
    other = (around[: len(space.start)].mT @ space.start).square().sum(1)
    for f in (lambda v: 1 / (v + 0.1), lambda v: -(v + 0.1).log()):
        truth = (exact * f(values.clamp(min=0))).sum()
        low = (own * f(space.values)).sum()
        high = (other * f(nodes.clamp(min=0))).sum()
        assert low <= truth + 1e-9
        assert truth <= high + 1e-9
        assert high - low < 0.3 * truth.abs()


def test_interrupted_run_resumes(tmp_path):
    A, start = rbf_matrix(points(150)), torch.randn(150, 5, dtype=F64)
    whole = block_lanczos(lambda v: A @ v, start, 6)
    counted = []

    def dies(v):
        counted.append(0)
        if len(counted) == 4:
            raise KeyboardInterrupt
        return A @ v

    with pytest.raises(KeyboardInterrupt):
        block_lanczos(dies, start, 6, folder=tmp_path, mark="a")
    counted.clear()

    def counts(v):
        counted.append(0)
        return A @ v

    again = block_lanczos(counts, start, 6, folder=tmp_path, mark="a")
    assert len(counted) == 3
    torch.testing.assert_close(again.values, whole.values, rtol=0, atol=0)
    # A block cut in half is found out, and it and what follows it are made anew.
    path = tmp_path / "block 0003.pt"
    path.write_bytes(path.read_bytes()[:100])
    counted.clear()
    again = block_lanczos(counts, start, 6, folder=tmp_path, mark="a")
    assert len(counted) == 4
    torch.testing.assert_close(again.values, whole.values, rtol=0, atol=0)
    counted.clear()
    block_lanczos(counts, start, 6, folder=tmp_path, mark="of other data")
    assert len(counted) == 6
