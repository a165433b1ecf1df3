"""Tests of `bayesgen.likelihoods.softmax`."""

import pytest
import torch
from hypothesis import given, settings, strategies as st
from scipy import integrate, stats

from bayesgen.likelihoods import Bernoulli, Softmax


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


def gaussians(C, variance, seed=0):
    generator = torch.Generator().manual_seed(seed)
    mean = variance**0.5 * torch.randn(6, C, generator=generator, dtype=torch.float64)
    root = torch.randn(6, C, C, generator=generator, dtype=torch.float64) * (variance / C) ** 0.5
    return mean, root @ root.mT


@pytest.mark.parametrize("variance", [1e-6, 1.0, 1e4, 1e8])
def test_two_classes_are_those_of_the_difference(variance):
    mean, covariance = gaussians(2, variance)
    found = Softmax(2).predictive(mean, covariance).probs
    contrast = torch.tensor([-1.0, 1.0], dtype=torch.float64)
    spread = torch.einsum("a,nab,b->n", contrast, covariance, contrast)
    want = Bernoulli().predictive(mean @ contrast, spread).probs
    torch.testing.assert_close(found[:, 1], want, atol=1e-12, rtol=0)
    # As the variance grows, the larger value decides.
    if variance == 1e8:
        sign = torch.special.ndtr(mean @ contrast / spread.sqrt())
        torch.testing.assert_close(want, sign, atol=1e-3, rtol=0)


def test_three_classes_match_a_double_integral():
    mean, sd = [0.3, -0.5, 0.0], [1.5, 2.0, 0.0]

    def integrand(b, a):
        f = torch.tensor([a, b, 0.0], dtype=torch.float64)
        density = stats.norm.pdf(a, mean[0], sd[0]) * stats.norm.pdf(b, mean[1], sd[1])
        return float(f.softmax(0)[0]) * density

    want = integrate.dblquad(integrand, -12, 13, -16, 16, epsabs=1e-5)[0]
    covariance = torch.diag(torch.tensor(sd, dtype=torch.float64) ** 2)
    found = Softmax(3).predictive(torch.tensor(mean, dtype=torch.float64), covariance).probs
    assert float(found[0]) == pytest.approx(want, abs=1e-3)


@pytest.mark.parametrize(("variance", "error"), [(1.0, 1e-3), (10.0, 4e-3), (1e6, 2e-2)])
def test_error_of_averaged_probabilities_is_as_stated(variance, error):
    mean, covariance = gaussians(5, variance)
    exact = sum(
        Softmax(5, samples=2**14, seed=seed).predictive(mean, covariance).probs / 8
        for seed in range(1, 9)
    )
    found = Softmax(5).predictive(mean, covariance).probs
    torch.testing.assert_close(found, exact, atol=error, rtol=0)
    order = torch.tensor([3, 0, 4, 1, 2])
    other = Softmax(5).predictive(mean[:, order], covariance[:, order][:, :, order]).probs
    torch.testing.assert_close(other, exact[:, order], atol=error, rtol=0)
