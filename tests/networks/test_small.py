"""Tests of `bayesgen.networks.small`."""

import pytest
import torch
from torch import nn

import bayesgen as bg


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: bg.networks.MLP(0), "inputs must be"),
        (lambda: bg.networks.MLP(2, activation="swish"), "activation must be one of"),
        (lambda: bg.networks.PreResNet20(0), "width must be"),
        (lambda: bg.networks.PreResNet20(2, norm="layer"), "norm must be one of"),
        (lambda: bg.networks.LeNet(size=4), "size must be"),
    ],
)
def test_invalid_architectures_raise(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("activation", ["relu", "tanh", "gelu"])
def test_mlp_is_linear_layers_with_activations_between(activation):
    net = bg.networks.MLP(6, (5, 4), 3, activation=activation)
    linear = [m for m in net if isinstance(m, nn.Linear)]
    assert [(m.in_features, m.out_features) for m in linear] == [(6, 5), (5, 4), (4, 3)]
    act = {"relu": torch.relu, "tanh": torch.tanh, "gelu": nn.functional.gelu}[activation]
    x = torch.randn(7, 2, 3)  # Inputs with several axes are flattened.
    want = linear[2](act(linear[1](act(linear[0](x.flatten(1))))))
    torch.testing.assert_close(net(x), want)
    assert sum(isinstance(m, nn.Linear) for m in bg.networks.MLP(6, (), 2)) == 1


@pytest.mark.parametrize(("size", "channels"), [(28, 1), (32, 3), (12, 1), (13, 2)])
def test_lenet_accepts_every_size_from_twelve(size, channels):
    net = bg.networks.LeNet(7, channels=channels, size=size)
    assert net(torch.zeros(2, channels, size, size)).shape == (2, 7)


def test_convnet_accepts_any_size_and_widens_its_convolutions():
    net = bg.networks.ConvNet(4, 5, channels=2)
    for size in (5, 8, 32):
        assert net(torch.zeros(3, 2, size, size)).shape == (3, 5)
    widths = [m.out_channels for m in net if isinstance(m, nn.Conv2d)]
    assert widths == [4, 8, 16]
