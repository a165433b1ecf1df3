"""Tests of `bayesgen.likelihoods.softmax`."""

import torch
from hypothesis import given, settings, strategies as st

from bayesgen.likelihoods import Softmax


@given(st.integers(2, 12), st.sampled_from([0.1, 3.0, 40.0]), st.integers(0, 10**6))
@settings(max_examples=40, deadline=None)
def test_roots_of_softmax_give_its_curvature(C, size, seed):
    f = size * torch.randn(5, C, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    w, V = Softmax(C).roots(torch.empty(0), f)
    p = f.softmax(-1)
    exact = torch.diag_embed(p) - p[..., None] * p[..., None, :]
    torch.testing.assert_close(V * w[:, None, :] @ V.mT, exact, rtol=1e-12, atol=1e-15)
    assert w.shape == (5, C - 1)
    assert 0.9 < V.norm(dim=1).min() <= V.norm(dim=1).max() < 1.5  # There are no denormals.
