"""Tests of `bayesgen.networks.state`."""

import pytest
import torch
from torch import nn
from torch.nn.utils import prune

from bayesgen.networks.state import (
    Kept,
    first_gradient_not_finite,
    first_not_finite,
    recompute,
)
from tests.networks import kinds


class Counting(nn.Module):
    """A network with buffers that forward replaces and that are not saved."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(2, 1)
        self.register_buffer("seen", torch.zeros(()), persistent=False)

    def forward(self, x):
        self.seen = self.seen + len(x)
        return self.layer(x)


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_exception_restores_the_last_record(error):
    net = Counting()
    net.layer.eval()
    gradient = net.layer.weight.grad = torch.ones(1, 2)

    def interrupted():
        with Kept(net) as kept:
            assert net.layer.weight.grad is None
            nn.init.ones_(net.layer.weight)
            net(torch.zeros(3, 2))
            kept.record()
            nn.init.zeros_(net.layer.weight)
            net(torch.zeros(3, 2)).sum().backward()
            net.train()
            raise error

    with pytest.raises(error):
        interrupted()
    assert torch.equal(net.layer.weight, torch.ones(1, 2))
    assert (float(net.seen), net.training, net.layer.training) == (3, True, False)
    assert net.layer.weight.grad is gradient


def test_without_an_exception_changes_are_kept_in_evaluation_mode():
    net = Counting()
    with Kept(net):
        nn.init.zeros_(net.layer.weight)
    assert not net.training
    assert not net.layer.training
    assert torch.equal(net.layer.weight, torch.zeros(1, 2))


def test_computed_weights_are_computed_again():
    layer = nn.Linear(2, 2)
    prune.random_unstructured(layer, "weight", amount=1)
    with torch.no_grad():
        layer.weight_orig.fill_(3.0)
    recompute(nn.Sequential(layer))
    assert torch.equal(layer.weight, 3 * layer.weight_mask)
    assert not layer.weight.requires_grad


def test_values_and_gradients_that_are_not_finite_are_named():
    net = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    assert first_not_finite(net) is None
    assert first_gradient_not_finite(net) is None
    net[1].weight.grad = torch.tensor([1.0, torch.inf])
    assert first_gradient_not_finite(net) == "1.weight"
    net[1].weight.grad = torch.tensor([1e30, 1e30])  # whose norm overflows
    assert first_gradient_not_finite(net) is None
    net[1].running_var[0] = torch.nan
    assert first_not_finite(net) == "1.running_var"
    assert first_not_finite(kinds._not_finite()) == "2.weight"
