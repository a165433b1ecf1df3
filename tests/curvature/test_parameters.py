"""Tests of `bayesgen.curvature.parameters`."""

import os
import subprocess
import sys

import pytest
import torch

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
