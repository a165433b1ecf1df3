"""Tests of `bayesgen.models.network.mode`."""

import math

import numpy as np
import pytest
import torch

import bayesgen as bg
from bayesgen.likelihoods import Gaussian
from bayesgen.models.network.mode import (
    NegativeLogPosterior,
    find_mode,
    gather,
    weight_prior,
    write,
)
from bayesgen.networks.copies import own_parameters
from bayesgen.networks.gradients import Passes, trainable_copy
from tests.networks import kinds


def objective(net, batch=10, alpha=0.7, noise=0.5):
    x, y = kinds.data()
    copied = trainable_copy(net)
    prior = weight_prior(copied, [alpha] * len(own_parameters(copied)), None)
    return NegativeLogPosterior(Passes(copied, x), x, y[:, None], Gaussian(noise), prior, batch)


@pytest.mark.parametrize("make", [kinds.base, kinds.Tied], ids=["plain", "tied"])
def test_value_and_gradient_match_autograd(make):
    x, y = kinds.data()
    net, made = make(), objective(make())
    value, slope = made(made.point)
    weights = list(net.parameters())
    want = -torch.distributions.Normal(net(x)[:, 0], 0.5**0.5).log_prob(y).sum()
    want = want + 0.35 * sum(p.square().sum() for p in weights)
    assert value == pytest.approx(float(want.detach()), rel=1e-12)
    np.testing.assert_allclose(slope, gather(torch.autograd.grad(want, weights)), rtol=1e-9)
    assert all(p.grad is None for p in made.weights)


def test_a_mode_is_found_from_the_present_weights():
    made = objective(kinds.base())
    found = find_mode(made, steps=500, pairs=30, tolerance=1e-14)
    value, slope = made(made.point)
    assert (found.value, found.gradient_norm) == (-value, np.linalg.norm(slope))
    assert found.gradient_norm < 1e-2
    assert found.gained > 0
    made.write(made.point * math.nan)
    with pytest.raises(bg.DivergedError, match="log posterior is nan"):
        find_mode(made, steps=5, pairs=3, tolerance=1e-14)


def test_value_alone_equals_value_with_gradient():
    made = objective(kinds.base())
    point = made.point + 0.1
    assert made.value(point) == pytest.approx(made(point)[0], rel=1e-12)
    assert made.calls == 2
    assert all(p.grad is None for p in made.weights)


def test_vectors_are_written_and_gathered():
    parts = [torch.zeros(2, 2), torch.zeros(3)]
    write(parts, np.arange(7.0))
    assert gather(parts).tolist() == list(range(7))


def test_a_prior_mean_must_match_and_be_finite():
    x = kinds.base()
    prior = weight_prior(x, [1.0, 2.0], kinds.base(seed=1))
    assert prior.alpha.tolist() == [1.0] * 20 + [2.0] * 6
    np.testing.assert_array_equal(prior.centre, gather(list(kinds.base(seed=1).parameters())))
    with pytest.raises(ValueError, match="same architecture"):
        weight_prior(x, [1.0, 2.0], kinds.base(2))
    with pytest.raises(ValueError, match="'2.weight' of prior_mean must be finite"):
        weight_prior(x, [1.0, 2.0], kinds._not_finite())
