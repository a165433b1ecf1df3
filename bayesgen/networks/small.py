"""Small networks: fully connected, LeNet-5, and three convolutions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise

from torch import nn

from bayesgen._internal import checks

_ACTIVATIONS = {"relu": nn.ReLU, "tanh": nn.Tanh, "gelu": nn.GELU}


def MLP(
    inputs: int, hidden: Sequence[int] = (64, 64), outputs: int = 10, *, activation: str = "relu"
) -> nn.Sequential:
    """A fully connected network; inputs with several axes are flattened.

    Args:
        inputs: number of inputs.
        hidden: width of each hidden layer; () for a linear model.
        outputs: C, the number of outputs.
        activation: "relu", "tanh" or "gelu".

    Raises:
        ValueError: a width is below 1; the activation is unknown.

    Example:
        >>> import torch
        >>> MLP(64, (32,), 10)(torch.zeros(5, 64)).shape
        torch.Size([5, 10])
    """
    kind = _ACTIVATIONS[checks.one_of("activation", activation, tuple(_ACTIVATIONS))]
    if not isinstance(hidden, Iterable):
        raise TypeError(f"hidden must be a sequence of widths, got {hidden!r}")
    widths = [checks.whole("inputs", inputs), *(checks.whole("hidden", h) for h in hidden)]
    layers: list[nn.Module] = [nn.Flatten()]
    for before, after in pairwise(widths):
        layers += [nn.Linear(before, after), kind()]
    layers.append(nn.Linear(widths[-1], checks.whole("outputs", outputs)))
    return nn.Sequential(*layers)


def LeNet(num_classes: int = 10, *, channels: int = 1, size: int = 28) -> nn.Sequential:
    """LeNet-5 with rectifiers and maximum pooling, for square images.

    Args:
        num_classes: C.
        channels: number of channels of the images.
        size: side length of the images, at least 12.

    Raises:
        ValueError: an argument is out of range.

    Source: LeCun et al. (1998).

    Example:
        >>> import torch
        >>> LeNet()(torch.zeros(2, 1, 28, 28)).shape
        torch.Size([2, 10])
    """
    checks.whole("size", size, 12)
    left = (size // 2 - 4) // 2
    return nn.Sequential(
        nn.Conv2d(checks.whole("channels", channels), 6, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 16, 5),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(16 * left * left, 120),
        nn.ReLU(),
        nn.Linear(120, 84),
        nn.ReLU(),
        nn.Linear(84, checks.whole("num_classes", num_classes)),
    )


def ConvNet(width: int = 16, num_classes: int = 10, *, channels: int = 3) -> nn.Sequential:
    """Three convolutions, global average pooling and a linear layer, without normalisation.

    Args:
        width: number of channels of the first convolution; the others have two and four times it.
        num_classes: C.
        channels: number of channels of the images, which may have any size.

    Raises:
        ValueError: an argument is out of range.

    Example:
        >>> import torch
        >>> ConvNet(8, channels=1)(torch.zeros(2, 1, 8, 8)).shape
        torch.Size([2, 10])
    """
    checks.whole("width", width)
    return nn.Sequential(
        nn.Conv2d(checks.whole("channels", channels), width, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(width, 2 * width, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(2 * width, 4 * width, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4 * width, checks.whole("num_classes", num_classes)),
    )
