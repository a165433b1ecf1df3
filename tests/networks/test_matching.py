"""Tests of `bayesgen.networks.matching` and `bayesgen.networks.vgg`."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from bayesgen import networks
from bayesgen.networks import matching


def shuffled(net, seed):
    """The same function with its hidden units in another order."""
    result = copy.deepcopy(net)
    generator = torch.Generator().manual_seed(seed)
    layers = matching._layers("net", result)
    orders = [torch.randperm(layer.units, generator=generator) for layer in layers[:-1]]
    matching._permute(layers, [*orders, torch.arange(layers[-1].units)])
    return result


@pytest.mark.parametrize(
    ("make", "shape"),
    [
        (lambda: networks.MLP(6, (16, 12, 8), 3), (5, 6)),
        (lambda: networks.VGG(((8, 2), (12, 1)), 3, channels=1), (5, 1, 8, 8)),
    ],
)
def test_shuffled_units_are_put_back(make, shape):
    torch.manual_seed(0)
    net, x = make().eval(), torch.randn(shape)
    net.train()(x)  # running statistics that differ between units
    net.eval()
    other = shuffled(net, 1)
    torch.testing.assert_close(other(x), net(x))
    again = networks.matched(other, net, x)
    for own, given in zip(again.state_dict().values(), net.state_dict().values(), strict=True):
        assert torch.equal(own, given)


def test_matching_changes_no_output_and_no_given_network_and_brings_weights_nearer():
    torch.manual_seed(0)
    nets = [networks.MLP(6, (16, 12), 3) for _ in range(2)]
    before = [copy.deepcopy(net.state_dict()) for net in nets]
    x = torch.randn(20, 6)
    found = networks.matched(nets[1], nets[0], x)
    torch.testing.assert_close(found(x), nets[1](x))
    for net, kept in zip(nets, before, strict=True):
        assert all(torch.equal(value, kept[name]) for name, value in net.state_dict().items())
    flat = [nn.utils.parameters_to_vector(net.parameters()) for net in (*nets, found)]
    assert (flat[2] - flat[0]).norm() < (flat[1] - flat[0]).norm()


def test_one_hidden_layer_has_the_best_of_all_permutations():
    from itertools import permutations

    torch.manual_seed(0)
    nets = [networks.MLP(3, (4,), 2) for _ in range(2)]
    found = networks.matched(nets[1], nets[0], torch.randn(5, 3))

    def vectors(net):
        rows = torch.cat([net[1].weight, net[1].bias[:, None], net[3].weight.mT], 1)
        return rows.detach().numpy()

    best = max(
        np.sum(vectors(nets[0]) * vectors(nets[1])[list(order)]) for order in permutations(range(4))
    )
    assert np.sum(vectors(nets[0]) * vectors(found)) == pytest.approx(best)


def test_networks_that_are_no_chains_are_refused():
    x = torch.zeros(2, 6)
    net = networks.MLP(6, (4,), 3)
    with pytest.raises(TypeError, match="must be an nn.Sequential, got Linear"):
        networks.matched(nn.Linear(6, 3), net, x)
    with pytest.raises(TypeError, match="got a LayerNorm"):
        networks.matched(nn.Sequential(nn.Linear(6, 4), nn.LayerNorm(4), nn.Linear(4, 3)), net, x)
    with pytest.raises(ValueError, match="at 1 their shapes differ"):
        networks.matched(networks.MLP(6, (5,), 3), net, x)
    flattened = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(16, 3))
    with pytest.raises(ValueError, match="must pass the 4 units"):
        networks.matched(flattened, flattened, x)


class Scaled(nn.Module):
    def forward(self, weight):
        return 2 * weight


def parametrized():
    net = networks.MLP(6, (4,), 3)
    nn.utils.parametrize.register_parametrization(net[1], "weight", Scaled())
    return net


def repeated():
    layer = nn.Linear(6, 6)
    return nn.Sequential(layer, nn.ReLU(), layer, nn.ReLU(), nn.Linear(6, 3))


def grouped():
    return nn.Sequential(nn.Conv2d(2, 4, 3, groups=2), nn.ReLU(), nn.Conv2d(4, 4, 1))


def unbounded():
    net = networks.MLP(6, (4,), 3)
    net[1].weight.data[0, 0] = torch.nan
    return net


@pytest.mark.parametrize(
    ("make", "error", "match"),
    [
        (parametrized, TypeError, "no parametrized layers, got one at '1'"),
        (repeated, TypeError, "got those at '2' in two places"),
        (grouped, TypeError, "convolutions of one group, got one of 2 groups at '0'"),
        (unbounded, ValueError, "net must have finite parameters, but '1.weight'"),
    ],
)
def test_layers_that_cannot_be_permuted_are_named(make, error, match):
    net = make()
    with pytest.raises(error, match=match):
        networks.matched(net, net, torch.zeros(2, 6))


def test_networks_that_differ_in_kind_are_refused():
    x, net = torch.zeros(2, 6), networks.MLP(6, (4,), 3)
    with pytest.raises(ValueError, match="at 2 net has a ReLU and reference a Tanh"):
        networks.matched(net, networks.MLP(6, (4,), 3, activation="tanh"), x)
    other = nn.Sequential(nn.Flatten(), nn.Linear(6, 4, bias=False), nn.ReLU(), nn.Linear(4, 3))
    with pytest.raises(ValueError, match="at 1 their shapes differ"):
        networks.matched(net, other, x)
    with pytest.raises(ValueError, match="must have the 4 layers of net, got 5 layers"):
        networks.matched(net, nn.Sequential(*net, nn.Identity()), x)


@pytest.mark.parametrize(
    ("x", "settings", "error", "match"),
    [
        (torch.zeros(0, 6), {}, ValueError, "x "),
        (
            torch.zeros(2, 5),
            {},
            ValueError,
            r"x must hold inputs that net takes, got shape \(2, 5\)",
        ),
        ("x", {}, TypeError, "x must be"),
        (torch.full((2, 6), torch.nan), {}, ValueError, "x must be finite"),
        (torch.zeros(2, 6), {"rounds": 0}, ValueError, "rounds must be an integer of at least 1"),
        (torch.zeros(2, 6), {"seed": -1}, ValueError, "seed must be an integer of at least 0"),
    ],
)
def test_bad_inputs_and_settings_are_named(x, settings, error, match):
    net = networks.MLP(6, (4,), 3)
    with pytest.raises(error, match=match) as found:
        networks.matched(net, net, x, **settings)
    assert "\n" not in str(found.value)


@pytest.mark.parametrize(
    ("stages", "match"),
    [
        (3, "stages must hold pairs"),
        ("ab", "stages must hold pairs"),
        ((8, 1), "stages must hold pairs"),
        (((8, 1, 1),), "stages must hold pairs"),
        (((8, 0),), "number of convolutions in stages must be an integer of at least 1, got 0"),
        (((8.5, 1),), "width in stages must be an integer of at least 1, got 8.5"),
    ],
)
def test_bad_stages_are_named(stages, match):
    with pytest.raises(ValueError, match=match):
        networks.VGG(stages)


def test_bad_sizes_of_a_vgg_are_named():
    with pytest.raises(ValueError, match="num_classes must be an integer of at least 1, got 0"):
        networks.VGG(((4, 1),), 0)
    with pytest.raises(ValueError, match="channels must be an integer of at least 1, got 1.5"):
        networks.VGG(((4, 1),), channels=1.5)


def test_vgg16_has_the_convolutions_of_the_source():
    net = networks.VGG()
    widths = [m.out_channels for m in net if isinstance(m, nn.Conv2d)]
    assert widths == [64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512]
    assert sum(isinstance(m, nn.MaxPool2d) for m in net) == 4
    with pytest.raises(ValueError, match="stages must hold"):
        networks.VGG(())
