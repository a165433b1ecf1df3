"""Layers that several architectures share: scalar bias, scalar multiplier, normalisation."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bayesgen._internal import checks

NORMS = ("batch", "none")


class Bias(nn.Module):
    """The layer x + b with one learnt number b."""

    def __init__(self) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        """Add the bias to a tensor of any shape."""
        return x + self.bias


class Scale(nn.Module):
    """The layer a·x with one learnt number a."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        """Multiply a tensor of any shape."""
        return x * self.scale


def before_activation(norm: str, channels: int) -> nn.Module:
    """The layer in front of an activation: BatchNorm, or a scalar bias in a Fixup network.

    Args:
        norm: "batch" or "none".
        channels: number of channels of its input.

    Raises:
        ValueError: the norm is unknown.
    """
    checks.one_of("norm", norm, NORMS)
    return nn.BatchNorm2d(channels) if norm == "batch" else Bias()
