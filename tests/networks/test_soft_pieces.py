"""Tests of `bayesgen.networks.residual_pathway`, `bayesgen.networks.averaged` and
`bayesgen.networks.transforms`.
"""

import math

import pytest
import torch
from scipy import ndimage
from torch import nn

import bayesgen as bg
from bayesgen.networks import Averaged, ResidualPathway, dense_form
from bayesgen.networks.transforms import Rotation, Shift

F64 = torch.float64
IMAGE = (1, 6, 6)


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def test_residual_pathway_without_the_dense_map_is_the_convolution():
    conv, x = nn.Conv2d(2, 3, 3, stride=2, padding=1), torch.randn(4, 2, 6, 5)
    layer = ResidualPathway.of_convolution(conv, (2, 6, 5))
    assert not torch.allclose(layer(x), conv(x))
    want = conv(x) + (x.flatten(1) @ layer.free.weight.mT).reshape(4, 3, 3, 3)
    torch.testing.assert_close(layer(x), want)
    nn.init.zeros_(layer.free.weight)
    torch.testing.assert_close(layer(x), conv(x))


def test_evidence_learns_a_precision_for_each_pathway():
    x, y = torch.randn(30, 1, 4, 4), torch.arange(30) % 2
    layer = ResidualPathway.of_convolution(nn.Conv2d(1, 2, 3, padding=1), (1, 4, 4))
    net = nn.Sequential(layer, nn.ReLU(), nn.Flatten(), nn.Linear(32, 2))
    run = bg.train(net, x, y, epochs=2, evidence_every=2, learning_rate=0.01)
    assert run.prior_precision.shape == (3,)
    assert len(set(run.prior_precision.tolist())) == 3


@pytest.mark.parametrize("settings", [{}, {"stride": 2, "padding": 1}, {"dilation": 2}])
def test_dense_form_equals_the_convolution(settings):
    conv, x = nn.Conv2d(2, 3, 3, dtype=F64, **settings), torch.randn(4, 2, 7, 6, dtype=F64)
    dense = dense_form(conv, (2, 7, 6))
    torch.testing.assert_close(dense(x.flatten(1)), conv(x).flatten(1))
    weights = conv.weight.detach().unique()
    assert torch.isin(dense.weight.detach(), torch.cat([weights, torch.zeros(1, dtype=F64)])).all()


def test_pathway_arguments_are_checked():
    conv = nn.Conv2d(1, 2, 3)
    with pytest.raises(TypeError, match="free must be a torch.nn.Module, got int"):
        ResidualPathway(conv, 3)
    with pytest.raises(TypeError, match="conv must be a torch.nn.Conv2d, got Linear"):
        dense_form(nn.Linear(2, 2), IMAGE)
    with pytest.raises(ValueError, match="image must be \\(channels, height, width\\)"):
        ResidualPathway.of_convolution(conv, (6, 6))
    with pytest.raises(ValueError, match="does not fit the convolution"):
        dense_form(conv, (3, 6, 6))
    with pytest.raises(ValueError, match="free must have 32 outputs for each input"):
        ResidualPathway(conv, nn.Linear(36, 5))(torch.zeros(1, *IMAGE))


def test_averaged_network_is_the_mean_over_rotations():
    net, x = nn.Sequential(nn.Flatten(), nn.Linear(36, 3)), torch.rand(4, *IMAGE)
    net = nn.Sequential(net, nn.Tanh())
    rotate = Rotation(IMAGE)
    want = sum(net(rotate(x, 0.8 * t)) for t in (-0.75, -0.25, 0.25, 0.75)) / 4
    torch.testing.assert_close(Averaged(net, rotate, 0.8, nodes=4)(x), want)
    torch.testing.assert_close(Averaged(net, rotate, 0.0)(x), net(x))


def test_averaged_network_over_a_cyclic_group_is_invariant():
    net, x = bg.networks.MLP(36, (8,), 3), torch.rand(4, *IMAGE)
    averaged = Averaged(net, Rotation(IMAGE), math.pi, nodes=4)
    torch.testing.assert_close(averaged(torch.rot90(x, 1, (2, 3))), averaged(x))


def test_range_of_an_averaged_network_is_a_parameter_on_request():
    net, x = nn.Sequential(nn.Flatten(), nn.Linear(36, 1)).double(), torch.rand(2, 36, dtype=F64)
    assert "range" not in dict(Averaged(net, Rotation(IMAGE), 0.5).named_parameters())
    averaged = Averaged(net, Rotation(IMAGE), 0.5, nodes=3, range_trains=True)

    def outputs(value):
        return torch.func.functional_call(averaged, {"range": value}, (x,))

    assert torch.autograd.gradcheck(outputs, (torch.tensor(0.5, dtype=F64, requires_grad=True),))


def test_laplace_takes_an_averaged_network():
    net = Averaged(bg.networks.MLP(36, (4,), 2), Rotation(IMAGE), 0.5, nodes=2).double()
    x, y = torch.rand(12, 36, dtype=F64), torch.arange(12) % 2
    with pytest.warns(bg.NotAtModeWarning):
        evidence = bg.Laplace(net).fit(x, y).evidence
    assert math.isfinite(float(evidence.log_marginal_likelihood))


def test_averaged_arguments_are_checked():
    net = nn.Linear(36, 2)
    with pytest.raises(TypeError, match="net must be a torch.nn.Module"):
        Averaged(3, Rotation(IMAGE), 0.5)
    with pytest.raises(TypeError, match="transform must be a function"):
        Averaged(net, "rotation", 0.5)
    with pytest.raises(TypeError, match="range must be a number"):
        Averaged(net, Rotation(IMAGE), "wide")
    with pytest.raises(ValueError, match="range must be finite and at least 0"):
        Averaged(net, Rotation(IMAGE), -0.5)
    with pytest.raises(ValueError, match="nodes must be an integer"):
        Averaged(net, Rotation(IMAGE), 0.5, nodes=0)


@pytest.mark.parametrize("shape", [(1, 7, 7), (1, 8, 8)])
def test_rotation_agrees_with_scipy(shape):
    x = torch.rand(1, *shape, dtype=F64)
    want = ndimage.rotate(x[0, 0].numpy(), 30, reshape=False, order=1)
    got = Rotation(shape)(x, math.radians(30))[0, 0]
    inner = slice(2, -2)  # The two treat the border differently.
    torch.testing.assert_close(got[inner, inner], torch.from_numpy(want)[inner, inner])


def test_rotation_of_an_oblong_image_by_half_a_turn():
    x = torch.rand(2, 15)
    want = x.reshape(2, 3, 5).flip((1, 2)).flatten(1)
    torch.testing.assert_close(Rotation((1, 3, 5))(x, math.pi), want, atol=1e-4, rtol=0)


def test_shift_moves_by_pixels_and_fills_with_zeros():
    x = torch.arange(6.0).reshape(1, 6)
    torch.testing.assert_close(Shift((1, 2, 3))(x, 1.0), torch.tensor([[0.0, 0, 1, 0, 3, 4]]))
    down = Shift((1, 2, 3), "vertical")(x, 1.0)
    torch.testing.assert_close(down, torch.tensor([[0.0, 0, 0, 0, 1, 2]]))
    torch.testing.assert_close(Shift((1, 2, 3))(x, 0.0), x)


def test_transform_arguments_are_checked():
    with pytest.raises(ValueError, match="image must be \\(channels, height, width\\)"):
        Rotation((8, 8))
    with pytest.raises(ValueError, match="axis must be one of"):
        Shift(IMAGE, "sideways")
    with pytest.raises(ValueError, match="x must hold images of shape"):
        Rotation(IMAGE)(torch.zeros(2, 5), 0.1)
    with pytest.raises(TypeError, match="x must be a tensor of floating-point numbers"):
        Rotation(IMAGE)(torch.zeros(2, 36, dtype=torch.int64), 0.1)
    with pytest.raises(ValueError, match="t must be one number"):
        Rotation(IMAGE)(torch.zeros(2, 36), torch.zeros(2))


def test_hooks_of_the_user_do_not_run():
    conv, calls = nn.Conv2d(1, 2, 3), []
    conv.register_forward_hook(lambda *_: calls.append(1))
    conv.register_forward_pre_hook(lambda *_: calls.append(1))
    dense_form(conv, (1, 5, 5))
    ResidualPathway.of_convolution(conv, (1, 5, 5))
    assert calls == []


def test_a_transform_that_works_in_place_leaves_the_inputs():
    net, x = nn.Linear(3, 2), torch.rand(4, 3)
    before = x.clone()
    out = Averaged(net, lambda x, t: x.add_(t), 0.5, nodes=2)(x)
    assert torch.equal(x, before)
    torch.testing.assert_close(out, (net(x - 0.25) + net(x + 0.25)) / 2)


@pytest.mark.parametrize("t", [None, "a", float("nan")], ids=range(3))
def test_amounts_are_numbers(t):
    with pytest.raises((TypeError, ValueError), match="t must be"):
        Rotation((1, 2, 2))(torch.zeros(1, 4), t)


@pytest.mark.parametrize("shape", [(5, 1, 3, 3), (1, 8, 8)], ids=range(2))
def test_inputs_that_do_not_suit_a_pathway_are_named(shape):
    layer = ResidualPathway.of_convolution(nn.Conv2d(1, 2, 3), (1, 8, 8))
    with pytest.raises(ValueError, match="x must"):
        layer(torch.zeros(shape))
