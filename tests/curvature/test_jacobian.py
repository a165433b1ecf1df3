"""Tests of `bayesgen.curvature.jacobian`."""

import pytest
import torch
from torch.func import functional_call, jacrev

import bayesgen as bg
from bayesgen.curvature.jacobian import Sample, chunks, jacobian, jacobians
from bayesgen.curvature.jacobian_rows import Part
from bayesgen.curvature.parameters import Weights

F64 = torch.float64


def images(n, channels=3, size=8):
    g = torch.Generator().manual_seed(0)
    return torch.randn(n, channels, size, size, generator=g, dtype=F64)


def warmed(net, x):
    """Statistics as a training would leave them, and weights that are not at their start."""
    torch.manual_seed(1)
    with torch.no_grad():
        for p in net.parameters():
            p.add_(0.1 * torch.randn_like(p))
    net.train()(x)
    return net.eval()


NETS = {
    "mlp": (lambda: bg.networks.MLP(192, (5,), 3, activation="tanh"), 8),
    "lenet": (lambda: bg.networks.LeNet(3, channels=3, size=12), 12),
    "conv": (lambda: bg.networks.ConvNet(2, 3), 8),
    "batch": (lambda: bg.networks.PreResNet20(2, 3), 8),
    "fixup": (lambda: bg.networks.PreResNet20(2, 3, norm="none"), 8),
    "resnet18": (lambda: bg.networks.ResNet18(1, 3), 8),
}


@pytest.mark.parametrize("name", NETS)
def test_jacobian_matches_autograd(name):
    make, size = NETS[name]
    x = images(3, size=size)
    torch.manual_seed(0)
    net = warmed(make().double(), x)
    weights = Weights(net, None)
    (ours,) = jacobians(weights, x, 3, 8)
    want = jacrev(lambda t: functional_call(weights.net, weights.unpacked(t), (x,)))(weights.theta)
    torch.testing.assert_close(ours, want, rtol=1e-9, atol=1e-10)


def test_chunks_of_layers_give_same_jacobian():
    x = images(3)
    weights = Weights(bg.networks.ConvNet(3, 3).double(), None)
    eye = torch.eye(3, dtype=F64).expand(3, 3, 3)
    sample = Sample(x, torch.ones(3, 3, dtype=F64), eye, 2, 1e9)
    whole = jacobian(weights, sample, [Part(leaf) for leaf in weights.leaves])
    pieces = list(chunks(weights, sample.count, 9 * 50 * 8))
    assert len(pieces) > 5
    for parts in pieces:
        index = torch.cat([part.index() for part in parts])
        order = torch.cat([Part(leaf).index() for leaf in weights.leaves])
        back = torch.empty_like(whole)
        back[:, order] = whole
        torch.testing.assert_close(jacobian(weights, sample, parts), back[:, index])


def test_shared_weight_has_one_row():
    class Twice(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = torch.nn.Linear(4, 4)

        def forward(self, x):
            return self.layer(torch.tanh(self.layer(x)))

    weights, x = Weights(Twice().double(), None), torch.randn(3, 4, dtype=F64)
    (ours,) = jacobians(weights, x, 4, 8)
    want = jacrev(lambda t: functional_call(weights.net, weights.unpacked(t), (x,)))(weights.theta)
    torch.testing.assert_close(ours, want)
