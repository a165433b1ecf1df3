"""Layers that architectures share: a scalar of its own, and what precedes an activation."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bayesgen._internal import checks

NORMS = ("batch", "none")


class Bias(nn.Module):
    """x + b with one learnt number b."""

    def __init__(self) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        """Any shape."""
        return x + self.bias


class Scale(nn.Module):
    """a·x with one learnt number a."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        """Any shape."""
        return x * self.scale


def before_activation(norm: str, channels: int) -> nn.Module:
    """BatchNorm, or the scalar bias that stands in its place in a Fixup network.

    Args:
        norm: "batch" or "none".
        channels: of the images that pass.

    Raises:
        ValueError: another norm.
    """
    checks.one_of("norm", norm, NORMS)
    return nn.BatchNorm2d(channels) if norm == "batch" else Bias()
