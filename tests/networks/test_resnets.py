"""Tests of `bayesgen.networks.resnets`."""

import pytest
import torch

import bayesgen as bg


def test_fixup_starts_at_zero_and_has_no_normalisation():
    net = bg.networks.PreResNet20(2, norm="none")
    assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in net.modules())
    assert float(net(torch.randn(2, 3, 32, 32)).abs().max().detach()) == 0


@pytest.mark.parametrize("width", [1, 4])
def test_width_scales_stages(width):
    net = bg.networks.ResNet18(width)
    assert net.linear.in_features == 8 * width
    assert bg.networks.PreResNet20(width).linear.in_features == 4 * width
