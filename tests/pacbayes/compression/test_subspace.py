"""Tests of `bayesgen.pacbayes.compression.subspace`."""

import math

import pytest
import torch
from torch import nn

from bayesgen.networks import Transformer, low_rank
from bayesgen.pacbayes.compression import architecture
from bayesgen.pacbayes.compression.projections import PROJECTIONS
from bayesgen.pacbayes.compression.subspace import Subspace


def built(net, projection="sparse", seed=0, dimension=30):
    count = sum(p.numel() for p in net.parameters())
    size = count if projection == "identity" else dimension
    return Subspace.of(net, size, projection, seed, next(net.parameters()).detach()), size


@pytest.mark.parametrize("projection", list(PROJECTIONS))
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("width", [8, 24])
def test_module_at_z_has_the_weights_and_outputs_at_z(projection, dtype, width):
    net = low_rank(Transformer(width, 1, 2, vocabulary=40), 2).to(dtype)
    space, k = built(net, projection)
    z, tokens = torch.randn(k, dtype=dtype), torch.randint(40, (2, 5))
    module = space.module(z)
    flat = torch.cat([p.detach().flatten() for p in module.parameters()])
    assert torch.equal(flat, space.weights(z))
    torch.testing.assert_close(module(tokens), space.outputs(z, tokens))
    again, _ = built(net, projection)
    assert torch.equal(again.weights(z), space.weights(z))
    other, _ = built(net, projection, seed=1)
    assert not torch.equal(other.origin, space.origin)


def test_own_weights_of_the_network_do_not_matter_and_are_kept():
    net = nn.Linear(9, 8)
    before = net.weight.detach().clone()
    space, k = built(net)
    with torch.no_grad():
        net.weight.zero_()
    assert torch.equal(built(net)[0].origin, space.origin)
    with torch.no_grad():
        net.weight.copy_(before)
    space.module(torch.randn(k))
    assert torch.equal(net.weight, before)


def test_origin_has_the_spread_of_he_and_zero_biases():
    space, _ = built(nn.Linear(400, 300))
    weight, bias = space.origin.split([120_000, 300])
    assert float(weight.std()) == pytest.approx(math.sqrt(2 / 400), rel=0.02)
    assert torch.equal(bias, torch.zeros(300))


def test_initial_scale_of_a_module_multiplies_its_part_of_the_origin():
    net = Transformer(8, 1, 2, vocabulary=10)
    space, k = built(net)
    module, tokens = space.module(torch.zeros(k)), torch.randint(10, (2, 5))
    assert torch.equal(module(tokens), torch.zeros(2, 5, 10))
    plain = Transformer(8, 1, 2, vocabulary=10)
    plain.scores.initial_scale = 1.0
    other, _ = built(plain)
    scores = net.scores.weight.numel()
    assert torch.equal(other.origin[:-scores], space.origin[:-scores])
    assert float(other.origin[-scores:].abs().min()) > 0
    # The receiver of a code must know the scale.
    assert architecture.description(net, "a") != architecture.description(plain, "a")


def test_a_shared_weight_takes_the_scale_of_its_first_module():
    net = Transformer(8, 1, 2, vocabulary=10)
    net.scores.weight = net.embedding.weight
    space, k = built(net)
    assert bool((space.module(torch.zeros(k)).embedding.weight != 0).all())
    z, tokens = torch.randn(k), torch.randint(10, (2, 5))
    torch.testing.assert_close(space.module(z)(tokens), space.outputs(z, tokens))
