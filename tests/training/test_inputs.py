"""Tests of `bayesgen.training.inputs`."""

import math

import pytest
import torch
from torch import nn

from bayesgen.training.inputs import observations, precisions


def net(outputs=3):
    return nn.Sequential(nn.Linear(2, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, outputs))


def test_precisions_are_spread_over_layers():
    assert precisions(2.0, 3).tolist() == [2.0, 2.0, 2.0]
    assert precisions([1.0, 0.0], 2).tolist() == [1.0, 0.0]
    with pytest.raises(ValueError, match=r"a number or of shape \(3,\), one a layer"):
        precisions([1.0, 2.0], 3)
    for bad in (-1.0, math.nan):
        with pytest.raises(ValueError, match="finite and at least 0"):
            precisions(bad, 3)


def test_labels_are_converted_for_the_outputs_of_the_network():
    x, labels = torch.randn(6, 2), torch.arange(6) % 3
    data = observations(net(), x, labels, "categorical", None, fixed=True)
    assert torch.equal(data.x, x)
    assert len(data.y) == 6
    f = torch.randn(6, 3)
    want = -nn.functional.cross_entropy(f, labels, reduction="none")
    torch.testing.assert_close(data.likelihood.log_density(data.y, f), want)


def test_gaussian_noise_is_that_given():
    x, y = torch.randn(6, 2), torch.randn(6)
    data = observations(net(1), x, y, "gaussian", 0.25, fixed=False)
    f = torch.randn(6, 1)
    want = torch.distributions.Normal(f[:, 0], 0.5).log_prob(y)
    torch.testing.assert_close(data.likelihood.log_density(data.y, f), want)


def test_invalid_observations_raise():
    x = torch.randn(6, 2)
    with pytest.raises(ValueError, match="the network is on meta"):
        observations(net().to("meta"), x, torch.zeros(6).long(), "categorical", None, fixed=False)
    with pytest.raises(ValueError, match="output"):
        observations(net(2), x, torch.randn(6), "gaussian", None, fixed=False)
    with pytest.raises(ValueError, match="one task"):
        observations(net(3), x, torch.zeros(2, 6).long(), "categorical", None, fixed=False)
