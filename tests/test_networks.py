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
def test_jacobian_rows_are_autograds(name):
    make, size = NETS[name]
    x = images(3, size=size)
    torch.manual_seed(0)
    net = warmed(make().double(), x)
    weights = Weights(net, None)
    (ours,) = jacobians(weights, x, 3, 8)
    want = jacrev(lambda t: functional_call(weights.net, weights.unpacked(t), (x,)))(weights.theta)
    torch.testing.assert_close(ours, want, rtol=1e-9, atol=1e-10)


def test_chunks_of_a_layer_make_the_same_jacobian():
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


def test_a_weight_used_twice_has_one_row():
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


def test_frozen_parameters_are_left_out():
    net = bg.networks.MLP(4, (3,), 2).double()
    net[1].weight.requires_grad_(False)
    weights = Weights(net, None)
    assert weights.count == 3 + 6 + 2
    (rows,) = jacobians(weights, torch.randn(2, 4, dtype=F64), 2, 8)
    assert rows.shape == (2, 2, 11)


def test_the_network_is_left_as_it_was():
    net = bg.networks.PreResNet20(1, 2).double().train()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    with pytest.warns(bg.NotAtModeWarning):
        bg.Laplace(net, curvature="diag").fit(images(4), torch.tensor([0, 1, 0, 1]))
    assert net.training
    for name, value in net.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)


def test_fixup_starts_at_zero_and_has_no_normalisation():
    net = bg.networks.PreResNet20(2, norm="none")
    assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in net.modules())
    assert float(net(torch.randn(2, 3, 32, 32)).abs().max().detach()) == 0


@pytest.mark.parametrize("width", [1, 4])
def test_widths_scale_the_stages(width):
    net = bg.networks.ResNet18(width)
    assert net.linear.in_features == 8 * width
    assert bg.networks.PreResNet20(width).linear.in_features == 4 * width


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
def test_bad_architectures_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()
