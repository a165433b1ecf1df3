"""Tests of `bayesgen.curvature.parameters`."""

import os
import subprocess
import sys

import pytest
import torch
from torch import nn
from torch.func import functional_call

import bayesgen as bg
from bayesgen.curvature.jacobian import jacobians
from bayesgen.curvature.parameters import Weights

F64 = torch.float64


_BACKWARD_PASSES = """
import torch
from torch import nn
from bayesgen.curvature.parameters import Weights
torch.set_num_threads({threads})
torch.manual_seed(0)
net = nn.Sequential(
    nn.Conv2d(3, 2, 3, padding=1), nn.ReLU(), nn.Conv2d(2, 4, 1, stride=2), nn.ReLU(),
    nn.Conv2d(4, 8, 1, stride=2), nn.Flatten(), nn.Linear(8 * 16, 3))
weights = Weights(net, torch.float32)
assert not weights.channels_last
x, v = torch.randn(60, 3, 16, 16), torch.randn(60, 3)
for _ in range(500):
    weights.vjp(x, v)
"""


def test_frozen_parameters_are_left_out():
    net = bg.networks.MLP(4, (3,), 2).double()
    net[1].weight.requires_grad_(False)
    weights = Weights(net, None)
    assert weights.count == 3 + 6 + 2
    (rows,) = jacobians(weights, torch.randn(2, 4, dtype=F64), 2, 8)
    assert rows.shape == (2, 2, 11)


@pytest.mark.parametrize("threads", [1, 2])
def test_narrow_convolutions_run_500_backward_passes_on_avx2(threads):
    """oneDNN's AVX2 kernel hangs or corrupts memory here in channels-last layout."""
    environment = {**os.environ, "ONEDNN_MAX_CPU_ISA": "AVX2"}
    code = _BACKWARD_PASSES.format(threads=threads)
    subprocess.run([sys.executable, "-c", code], env=environment, check=True, timeout=120)


def test_layout_follows_width_of_convolutions_and_choice_of_user():
    def narrow(inputs, outputs, kernel):
        return torch.nn.Sequential(torch.nn.Conv2d(inputs, outputs, kernel))

    def layout(net):
        return Weights(net, torch.float32).channels_last

    assert layout(narrow(3, 16, 3))
    assert layout(narrow(16, 16, 1))
    assert not layout(narrow(8, 16, 1))
    assert not layout(narrow(16, 8, 1))
    assert not layout(narrow(16, 8, 3))
    assert not layout(torch.nn.Sequential(torch.nn.Linear(3, 2)))
    chosen = narrow(16, 16, 3).to(memory_format=torch.channels_last)
    weights = Weights(chosen, torch.float32)
    assert not weights.channels_last
    kept = weights.net[0].weight
    assert kept.is_contiguous(memory_format=torch.channels_last)
    assert not kept.is_contiguous()


def convolutional():
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.Tanh(), nn.Flatten(), nn.Linear(12, 2)
    )
    return net.double().eval(), torch.randn(5, 2, 4, 4, dtype=torch.float64)


def test_packing_and_unpacking_are_inverse_and_name_every_parameter():
    net, x = convolutional()
    weights = Weights(net, None)
    named = {name: p.detach() for name, p in net.named_parameters()}
    assert weights.count == sum(p.numel() for p in named.values())
    torch.testing.assert_close(weights.packed(named), weights.theta)
    back = weights.unpacked(weights.theta)
    for name, value in named.items():
        torch.testing.assert_close(back[name], value)
        torch.testing.assert_close(weights.theta[weights.slices[name]], value.reshape(-1))
    torch.testing.assert_close(weights.outputs(x, 2), net(x).detach())


def test_outputs_at_other_weights_leave_the_network_alone():
    net, x = convolutional()
    weights = Weights(net, None)
    other = weights.theta + 0.1
    want = functional_call(net, weights.unpacked(other), (x,)).detach()
    torch.testing.assert_close(weights.outputs_at(other, x, 2), want)
    torch.testing.assert_close(weights.outputs(x, 2), net(x).detach())


def test_products_with_the_jacobian_match_autograd():
    net, x = convolutional()
    weights = Weights(net, None)
    J = torch.autograd.functional.jacobian(
        lambda t: functional_call(weights.net, weights.unpacked(t), (x,)), weights.theta
    )
    g = torch.Generator().manual_seed(0)
    step = torch.randn(weights.count, generator=g, dtype=torch.float64)
    v = torch.randn(5, 2, generator=g, dtype=torch.float64)
    torch.testing.assert_close(weights.jvp(x, step, 2), J @ step)
    torch.testing.assert_close(weights.vjp(x, v, 2), torch.einsum("nc,ncp->p", v, J))


def test_layers_number_the_modules_of_each_weight():
    net, _ = convolutional()
    layers = Weights(net, None).layers()
    counts = torch.bincount(layers).tolist()
    assert counts == [sum(p.numel() for p in net[i].parameters()) for i in (0, 1, 4)]
