"""Tests of `bayesgen.features.priors`."""

import math

import pytest
import torch
from hypothesis import given, strategies as st

import bayesgen as bg
from bayesgen.features import priors

F64 = torch.float64


@given(rate=st.floats(0.1, 100), scale=st.floats(1e-3, 1e3), d=st.integers(1, 20))
def test_geometric_prior_matches_formula(rate, scale, d):
    j = torch.arange(d)
    want = scale * rate ** -j.double()
    torch.testing.assert_close(priors.geometric(rate, scale).variance(j), want)


@given(exponent=st.floats(-3, 10), d=st.integers(1, 20))
def test_power_prior_matches_formula(exponent, d):
    j = torch.arange(d)
    want = (1 + j.double()) ** -exponent
    torch.testing.assert_close(priors.power(exponent).variance(j), want)


def test_resolve_accepts_numbers_vectors_and_functions():
    j = torch.arange(3)
    assert priors.resolve(2.0).variance(j).tolist() == [2, 2, 2]
    assert priors.resolve([1.0, 0.3, 0.0]).variance(j).tolist() == pytest.approx([1, 0.3, 0])
    assert priors.resolve(lambda j: 2.0**-j).variance(j).tolist() == [1, 0.5, 0.25]
    scalar = priors.resolve(lambda j: math.exp(-j) if j > 0 else 2.0)
    assert scalar(j).tolist() == pytest.approx([2, math.exp(-1), math.exp(-2)])
    same = priors.isotropic(3.0)
    assert priors.resolve(same) is same
    with pytest.raises(ValueError, match="got a tensor of shape"):
        priors.resolve(torch.ones(2, 2))
    with pytest.raises(ValueError, match="got inf at index 1"):
        priors.resolve(lambda j: 1.0 / (1 - j)).variance(j)


def test_prior_equals_quadratic_penalty():
    """Variance γ⁻ʲ with noise σ² minimises ‖y − Φw‖² + σ² Σ γʲ wⱼ²."""
    x = torch.linspace(-1, 1, 20, dtype=F64)
    y, noise = torch.sin(3 * x), 0.05
    model = bg.Polynomial(5, priors.geometric(3.0), noise, hyperparameters="fixed")
    w = model.fit(x, y).weights.requires_grad_()
    j = torch.arange(6, dtype=F64)
    loss = (y - (x[:, None] ** j) @ w).square().sum() + noise * (3.0**j * w**2).sum()
    (gradient,) = torch.autograd.grad(loss, w)
    assert gradient.abs().max() < 1e-9


def test_tied_and_free_prior_has_one_variance_for_each_group():
    found = priors.tied_and_free(2, ratio=0.1, scale=3.0).variance([0, 1, 2, 3])
    assert found.tolist() == pytest.approx([3.0, 3.0, 0.3, 0.3])
    with pytest.raises(ValueError, match="tied must be an integer of at least 1"):
        priors.tied_and_free(0)
    with pytest.raises(ValueError, match="ratio must be positive"):
        priors.tied_and_free(1, ratio=0.0)


def test_learnt_ratio_of_tied_and_free_features_has_the_largest_evidence():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(30, 8, generator=generator, dtype=F64)
    w = torch.randn(8, generator=generator, dtype=F64)
    w[3:] *= 0.1
    y = x @ w + 0.01 * torch.randn(30, generator=generator, dtype=F64)
    found = bg.LinearModel(None, priors.tied_and_free(3)).fit(x, y)
    ratio, top = float(found.decay), float(found.evidence.log_marginal_likelihood)
    assert 1e-4 < ratio < 0.3
    for factor in (0.5, 2.0):
        prior = priors.tied_and_free(3, ratio=factor * ratio)
        near = bg.LinearModel(None, prior, hyperparameters=("scale", "noise")).fit(x, y)
        assert float(near.evidence.log_marginal_likelihood) < top
    variances = prior.variance(torch.arange(8)) * near.scale
    cov = (x * variances) @ x.mT + near.noise * torch.eye(30, dtype=F64)
    dense = torch.distributions.MultivariateNormal(torch.zeros(30, dtype=F64), cov).log_prob(y)
    assert float(near.evidence.log_marginal_likelihood) == pytest.approx(float(dense))


def test_a_free_part_must_exist():
    with pytest.raises(ValueError, match="tied must be below the number of features"):
        bg.LinearModel(None, priors.tied_and_free(3)).fit(torch.rand(9, 3), torch.rand(9))


@pytest.mark.parametrize("seed", range(3))
def test_a_ratio_at_an_end_of_its_range_is_flagged(seed):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(50, 6, generator=generator, dtype=torch.float64)
    noise = 0.1 * torch.randn(50, generator=generator, dtype=torch.float64)
    model = bg.LinearModel(None, priors.tied_and_free(3))
    for y in (x[:, :3].sum(1) + noise, x[:, 3:].sum(1) + noise):
        posterior = model.fit(x, y)
        ended = float(posterior.decay) < 2e-6 or float(posterior.decay) > 5e5
        assert bool(posterior.at_bound) == ended
