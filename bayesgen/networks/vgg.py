"""Plain chains of convolutions with BatchNorm, in the manner of VGG."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from bayesgen._internal import checks

# Width and number of convolutions of each stage of VGG-16.
VGG16_STAGES = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))


def VGG(
    stages: Sequence[tuple[int, int]] = VGG16_STAGES, num_classes: int = 10, *, channels: int = 3
) -> nn.Sequential:
    """Stages of 3 × 3 convolutions with BatchNorm, global average pooling and a linear layer.

    Every stage but the last ends with maximum pooling by two. VGG-16 has three linear layers in
    place of the one here.

    Args:
        stages: width and number of convolutions of each stage.
        num_classes: C.
        channels: number of channels of the images.

    Raises:
        ValueError: there is no stage, a stage is no pair, or a number is not an integer of at
            least 1.

    Source: Simonyan & Zisserman (2015), configuration D.

    Example:
        >>> import torch
        >>> VGG(((4, 1), (8, 2)), channels=1)(torch.zeros(2, 1, 8, 8)).shape
        torch.Size([2, 10])
    """
    pairs = _pairs(stages)
    layers: list[nn.Module] = []
    before = checks.whole("channels", channels)
    for number, (width, count) in enumerate(pairs):
        for _ in range(count):
            layers += [
                nn.Conv2d(before, width, 3, padding=1, bias=False),
                nn.BatchNorm2d(width),
                nn.ReLU(),
            ]
            before = width
        if number < len(pairs) - 1:
            layers.append(nn.MaxPool2d(2))
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    layers.append(nn.Linear(before, checks.whole("num_classes", num_classes)))
    return nn.Sequential(*layers)


def _pairs(stages: Any) -> list[tuple[int, int]]:
    """Check the stages of a network."""
    try:
        pairs = [(width, count) for width, count in stages]
    except (TypeError, ValueError):
        raise ValueError(
            f"stages must hold pairs (width, number of convolutions), got {stages!r}"
        ) from None
    if not pairs:
        raise ValueError("stages must hold at least one stage, got none")
    return [
        (
            checks.whole("width in stages", width),
            checks.whole("number of convolutions in stages", count),
        )
        for width, count in pairs
    ]
