"""Tests of `bayesgen.models.deep.bounded`."""

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, parametrize, prune

from bayesgen.models.deep.bounded import Bounded, bound, with_plain_weights
from tests.networks import kinds

F64 = torch.float64


def large(layer):
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in layer.parameters():
            p.copy_(3 * torch.randn(p.shape, generator=generator, dtype=p.dtype))
    return layer.double()


def norm(weight):
    return float(torch.linalg.matrix_norm(weight.detach().flatten(1), 2))


class Own(nn.Linear):
    """A linear layer of the user's own kind."""


@pytest.mark.parametrize(
    "make",
    [
        lambda: nn.Linear(3, 4),
        lambda: Own(3, 4),
        lambda: nn.Conv1d(2, 3, 3),
        lambda: nn.Conv2d(4, 6, 3, groups=2),
        lambda: nn.Conv3d(2, 3, 2),
        lambda: nn.ConvTranspose1d(2, 5, 3),
        lambda: nn.ConvTranspose2d(5, 2, 3),
        lambda: nn.ConvTranspose3d(2, 3, 2),
        lambda: nn.Embedding(7, 3),
        lambda: parametrizations.weight_norm(nn.Linear(3, 4)),
        lambda: parametrizations.orthogonal(nn.Linear(3, 4)),
        lambda: nn.Linear(3, 4).requires_grad_(False),
    ],
    ids=["linear", "own", "conv1", "conv2", "conv3", "transposed1", "transposed2", "transposed3",
         "embedding", "weight norm", "orthogonal", "frozen"],
)  # fmt: skip
def test_every_kind_of_linear_layer_is_bounded(make):
    layer = make()
    layer = large(layer) if not parametrize.is_parametrized(layer) else layer.double()
    net = nn.Sequential(layer, nn.LayerNorm((2, 2)))
    bound(net, 0.5)
    assert norm(layer.weight) <= 0.5 + 1e-12
    largest = norm(layer.weight)
    if getattr(layer, "transposed", False):
        largest = max(largest, norm(layer.weight.transpose(0, 1)))
    assert largest == pytest.approx(0.5)
    want = layer.weight.detach().clone()
    with_plain_weights(net)
    torch.testing.assert_close(net[0].weight.detach(), want)
    assert not parametrize.is_parametrized(net[0])


@pytest.mark.parametrize("kind", [nn.Conv1d, nn.ConvTranspose1d])
def test_a_kernel_of_one_has_an_operator_within_the_bound(kind):
    layer = large(kind(3, 4, 1, bias=False))
    bound(layer, 0.5)
    x = torch.randn(200, 3, 6, generator=torch.Generator().manual_seed(1), dtype=F64)
    assert float((layer(x).detach().flatten(1).norm(dim=1) / x.flatten(1).norm(dim=1)).max()) <= 0.5


def test_layers_that_share_a_weight_still_share_it():
    net = kinds.Tied()
    large(net)
    bound(net, 0.5)
    assert torch.equal(net.a.weight, net.b.weight)
    assert len(list(net.parameters())) == 4
    with_plain_weights(net)
    assert torch.equal(net.a.weight, net.b.weight)
    assert norm(net.a.weight) == pytest.approx(0.5)


def test_small_and_zero_weights_are_unchanged_and_have_gradients():
    for weight in (torch.zeros(3, 2, dtype=F64), 0.1 * torch.eye(3, 2, dtype=F64)):
        weight.requires_grad_()
        value = Bounded(0.5)(weight)
        assert torch.equal(value, weight)
        value.sum().backward()
        torch.testing.assert_close(weight.grad, torch.ones_like(weight))


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: nn.Bilinear(3, 3, 2), "weight"),
        (lambda: nn.LSTM(3, 2), "weight_hh_l0"),
        (lambda: nn.MultiheadAttention(4, 2), "in_proj_weight"),
        (lambda: nn.ParameterList([nn.Parameter(torch.ones(2, 2))]), "0"),
        (lambda: prune.random_unstructured(nn.Linear(3, 2), "weight", amount=1), "weight_orig"),
        (lambda: nn.utils.spectral_norm(nn.Linear(3, 2)), "weight_orig"),
    ],
    ids=["bilinear", "LSTM", "attention", "list", "pruned", "spectral norm"],
)
def test_weights_that_cannot_be_bounded_are_refused(make, name):
    net = nn.Sequential(nn.Linear(3, 3), make())
    with pytest.raises(ValueError, match=f"layer '1' .* has the weights '{name}'"):
        bound(net, 0.5)
    assert not parametrize.is_parametrized(net[0])
