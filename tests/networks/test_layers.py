"""Tests of `bayesgen.networks.layers`."""

import pytest
import torch
from torch import nn

from bayesgen.networks.layers import Bias, Scale, before_activation


def test_scalar_layers_start_as_the_identity_and_learn_one_number():
    x = torch.randn(2, 3, 4, 4)
    for layer in (Bias(), Scale()):
        assert torch.equal(layer(x), x)
        assert sum(p.numel() for p in layer.parameters()) == 1
    bias, scale = Bias(), Scale()
    with torch.no_grad():
        bias.bias.fill_(2.0)
        scale.scale.fill_(3.0)
    torch.testing.assert_close(scale(bias(x)), 3 * (x + 2))


def test_gradients_of_scalar_layers_sum_over_all_entries():
    x = torch.randn(2, 5)
    bias, scale = Bias(), Scale()
    (bias(x).sum() + scale(x).sum()).backward()
    assert float(bias.bias.grad) == 10
    torch.testing.assert_close(scale.scale.grad, x.sum()[None])


def test_layer_before_activation_follows_the_norm():
    norm = before_activation("batch", 7)
    assert isinstance(norm, nn.BatchNorm2d)
    assert norm.num_features == 7
    assert isinstance(before_activation("none", 7), Bias)
    with pytest.raises(ValueError, match="norm must be one of 'batch', 'none'"):
        before_activation("layer", 7)
