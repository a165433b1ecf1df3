"""Tests of `bayesgen.curvature.parameters`: the layout of a network's copy."""

import os
import subprocess
import sys

import pytest
import torch

from bayesgen.curvature.parameters import Weights

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


@pytest.mark.parametrize("threads", [1, 2])
def test_narrow_convolutions_run_500_backward_passes_on_avx2(threads):
    """oneDNN's AVX2 kernel hangs or corrupts memory here in channels-last layout."""
    environment = {**os.environ, "ONEDNN_MAX_CPU_ISA": "AVX2"}
    code = _BACKWARD_PASSES.format(threads=threads)
    subprocess.run([sys.executable, "-c", code], env=environment, check=True, timeout=120)


def test_layout_follows_the_width_of_convolutions_and_the_users_choice():
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
