"""Tests of `bayesgen.networks.low_rank`."""

import copy

import pytest
import torch
from torch import nn

from bayesgen.networks import LowRank, Transformer, low_rank


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_layer_is_its_matrix_form(dtype):
    base, left = torch.randn(6, 9, dtype=dtype), torch.randn(6, 2, dtype=dtype)
    layer, x = LowRank(base, left, bias=True), torch.randn(2, 3, 9, dtype=dtype)
    torch.testing.assert_close(layer(x), x @ base.mT)
    with torch.no_grad():
        layer.right.normal_()
        layer.bias.normal_()
    weight = base + 0.5 * left @ layer.right
    torch.testing.assert_close(layer(x), x @ weight.mT + layer.bias)
    assert [name for name, _ in layer.named_parameters()] == ["left", "right", "bias"]


def test_layer_owns_its_matrices():
    base, left = torch.randn(4, 5), torch.randn(4, 2)
    layer = LowRank(base, left)
    before = layer.base.clone(), layer.left.detach().clone()
    base.zero_()
    left.zero_()
    assert torch.equal(layer.base, before[0])
    assert torch.equal(layer.left, before[1])


@pytest.mark.parametrize(
    ("base", "left", "error"),
    [
        (torch.randn(4, 5), torch.randn(5, 2), ValueError),
        (torch.randn(4), torch.randn(4, 2), ValueError),
        (torch.full((4, 5), torch.nan), torch.randn(4, 2), ValueError),
        (torch.randn(4, 5), torch.randn(4, 2).double(), TypeError),
        (torch.ones(4, 5, dtype=torch.int64), torch.randn(4, 2), TypeError),
    ],
)
def test_bad_matrices_raise(base, left, error):
    with pytest.raises(error, match="base|left"):
        LowRank(base, left)


def test_only_larger_layers_are_replaced_and_the_net_is_left():
    net = nn.Sequential(nn.Linear(100, 50), nn.Dropout(), nn.Linear(50, 2)).train()
    kept = copy.deepcopy(net.state_dict())
    torch.manual_seed(5)
    state = torch.get_rng_state()
    made = low_rank(net, 4, seed=3)
    assert torch.equal(torch.get_rng_state(), state)
    assert [type(m).__name__ for m in made] == ["LowRank", "Dropout", "Linear"]
    assert all(torch.equal(a, kept[name]) for name, a in net.state_dict().items())
    assert net.training
    assert all(p.requires_grad for p in made.parameters())
    again, other = low_rank(net, 4, seed=3), low_rank(net, 4, seed=4)
    assert torch.equal(made[0].base, again[0].base)
    assert not torch.equal(made[0].base, other[0].base)
    assert made[0].base.std() == pytest.approx((2 / 100) ** 0.5, rel=0.05)


def test_a_linear_network_becomes_a_layer():
    made = low_rank(nn.Linear(30, 20), 2)
    assert type(made) is LowRank
    assert made(torch.zeros(1, 30)).shape == (1, 20)


def test_a_layer_in_two_places_stays_one_layer():
    layer = nn.Linear(20, 20)
    inner = nn.Sequential(layer, nn.ReLU())
    made = low_rank(nn.Sequential(inner, layer, layer), 2)
    assert made[0][0] is made[1] is made[2]
    assert type(made[1]) is LowRank


def test_tied_weights_are_kept():
    net = nn.Sequential(nn.Embedding(30, 20), nn.Linear(20, 20), nn.Linear(20, 30, bias=False))
    net[2].weight = net[0].weight
    made = low_rank(net, 2)
    assert [type(m).__name__ for m in made] == ["Embedding", "LowRank", "Linear"]
    assert made[2].weight is made[0].weight


def test_a_transformer_of_low_rank_is_causal_and_has_fewer_weights():
    net = Transformer(32, 2, 4, vocabulary=50)
    made = low_rank(net, 2)
    count = [sum(p.numel() for p in m.parameters()) for m in (net, made)]
    assert count[1] < count[0] / 4
    tokens = torch.randint(50, (2, 7))
    torch.testing.assert_close(made(tokens)[:, :4], made(tokens[:, :4]))


@pytest.mark.parametrize(
    ("net", "rank", "error", "message"),
    [
        (nn.Linear(4, 4), 2, ValueError, "rank must be such"),
        (nn.Conv2d(1, 1, 3), 1, ValueError, "rank must be such"),
        (nn.Linear(40, 40), 0, ValueError, "rank must be an integer"),
        (nn.Linear(40, 40), 1.5, ValueError, "rank must be an integer"),
        ("net", 1, TypeError, r"torch\.nn\.Module"),
        (nn.ReLU(), 1, ValueError, "trainable parameters"),
    ],
)
def test_bad_arguments_raise(net, rank, error, message):
    with pytest.raises(error, match=message):
        low_rank(net, rank)
