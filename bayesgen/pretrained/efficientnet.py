"""EfficientNet-Lite, convolutional networks whose weights for ImageNet are published."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

# Kernel size, stride and expansion of each stage, which all sizes of the network share.
_STAGES = ((3, 1, 1), (3, 2, 6), (5, 2, 6), (3, 2, 6), (5, 1, 6), (5, 2, 6), (3, 1, 6))
_STEM, _HEAD, _CLASSES = 32, 1280, 1000
# The constant that the published network adds to variances in its normalisation.
_EPSILON = 1e-3


class Size(NamedTuple):
    """One of the published sizes of the network.

    Attributes:
        channels: number of channels of each stage.
        repeats: number of blocks of each stage.
    """

    channels: tuple[int, ...]
    repeats: tuple[int, ...]

    @property
    def widths(self) -> dict[str, int]:
        """Number of values of each layer, in the order of `EfficientNetLite.pooled`."""
        stages = {f"stage{i}": channels for i, channels in enumerate(self.channels, 1)}
        return stages | {"head": _HEAD, "logits": _CLASSES}


LITE0 = Size((16, 24, 40, 80, 112, 192, 320), (1, 2, 2, 3, 3, 4, 1))
LITE1 = Size((16, 24, 40, 80, 112, 192, 320), (1, 3, 3, 4, 4, 5, 1))
LITE2 = Size((16, 24, 48, 88, 120, 208, 352), (1, 3, 3, 4, 4, 5, 1))


class Shape(NamedTuple):
    """Shape of a convolution.

    Attributes:
        inputs, outputs: numbers of channels.
        kernel: side length of its kernel.
        stride: stride.
        groups: groups of channels.
    """

    inputs: int
    outputs: int
    kernel: int = 1
    stride: int = 1
    groups: int = 1


class _Convolution(nn.Conv2d):
    """A convolution with the padding that TensorFlow calls "same"."""

    def __init__(self, shape: Shape) -> None:
        super().__init__(
            shape.inputs,
            shape.outputs,
            shape.kernel,
            shape.stride,
            groups=shape.groups,
            bias=False,
        )

    def forward(self, x: Tensor) -> Tensor:
        """The convolution of x (n, inputs, height, width)."""
        kernel, stride = self.kernel_size[0], self.stride[0]
        sides = []
        for length in (x.shape[-1], x.shape[-2]):
            missing = max((-(-length // stride) - 1) * stride + kernel - length, 0)
            sides += [missing // 2, missing - missing // 2]
        if len(set(sides)) == 1:  # the padding of the convolution itself is faster
            padding = sides[0]
        else:
            x, padding = nn.functional.pad(x, sides), 0
        return nn.functional.conv2d(x, self.weight, self.bias, stride, padding, groups=self.groups)


def _normalised(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=_EPSILON)


class _Block(nn.Module):
    """An inverted residual block: a wide depthwise convolution between two narrow layers."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = inputs * expansion
        self.skips = stride == 1 and inputs == outputs
        self.expands = expansion > 1
        if self.expands:
            self._expand_conv = _Convolution(Shape(inputs, wide))
            self._bn0 = _normalised(wide)
        self._depthwise_conv = _Convolution(Shape(wide, wide, kernel, stride, wide))
        self._bn1 = _normalised(wide)
        self._project_conv = _Convolution(Shape(wide, outputs))
        self._bn2 = _normalised(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Output of the block for activations (n, inputs, height, width)."""
        h = x
        if self.expands:
            h = nn.functional.relu6(self._bn0(self._expand_conv(h)), inplace=True)
        h = nn.functional.relu6(self._bn1(self._depthwise_conv(h)), inplace=True)
        h = self._bn2(self._project_conv(h))
        return x + h if self.skips else h


class EfficientNetLite(nn.Module):
    """EfficientNet-Lite with the names of the published weights.

    The inputs are images (n, 3, height, width) with pixels in [−1, 1].

    Args:
        size: the channels and the repeats of its stages.

    Source: Tan & Le (2019); Liu (2020) for the Lite variants, without squeeze-and-excitation and
    with ReLU6.

    Example:
        >>> net = EfficientNetLite(LITE0).eval()
        >>> net(torch.zeros(1, 3, 64, 64)).shape
        torch.Size([1, 1000])
    """

    def __init__(self, size: Size) -> None:
        super().__init__()
        self._conv_stem = _Convolution(Shape(3, _STEM, 3, 2))
        self._bn0 = _normalised(_STEM)
        self.repeats = size.repeats
        blocks, inputs = [], _STEM
        for stage, outputs, repeats in zip(_STAGES, size.channels, size.repeats, strict=True):
            kernel, stride, expansion = stage
            for repeat in range(repeats):
                step = stride if repeat == 0 else 1
                blocks.append(_Block(inputs, outputs, kernel, step, expansion))
                inputs = outputs
        self._blocks = nn.ModuleList(blocks)
        self._conv_head = _Convolution(Shape(inputs, _HEAD))
        self._bn1 = _normalised(_HEAD)
        self._fc = nn.Linear(_HEAD, _CLASSES)

    def pooled(self, x: Tensor) -> dict[str, Tensor]:
        """Averages over positions of each stage's output and of the head, by name, (n, channels).

        The names are "stage1" to "stage7", "head", which the classifier reads, and "logits", the
        classifier's outputs.
        """
        h = nn.functional.relu6(self._bn0(self._conv_stem(x)))
        found, block = {}, iter(self._blocks)
        for stage, repeats in enumerate(self.repeats, 1):
            for _ in range(repeats):
                h = next(block)(h)
            found[f"stage{stage}"] = h.mean((-2, -1))
        h = nn.functional.relu6(self._bn1(self._conv_head(h)))
        found["head"] = h.mean((-2, -1))
        found["logits"] = self._fc(found["head"])
        return found

    def forward(self, x: Tensor) -> Tensor:
        """Logits of the classes, (n, 1000) for those of ImageNet."""
        return self.pooled(x)["logits"]


def trainable(size: Size, weights: dict[str, Tensor], classes: int) -> EfficientNetLite:
    """The network with these weights, and a last layer of its own for other classes."""
    net = EfficientNetLite(size)
    net.load_state_dict(weights)
    net._fc = nn.Linear(_HEAD, classes)
    return net


# Convolutions and the normalisation that follows each.
_PAIRS = (
    ("_conv_stem", "_bn0"),
    ("_expand_conv", "_bn0"),
    ("_depthwise_conv", "_bn1"),
    ("_project_conv", "_bn2"),
    ("_conv_head", "_bn1"),
)


def folded(size: Size, weights: dict[str, Tensor]) -> EfficientNetLite:
    """The network with these weights, its normalisations folded into the convolutions.

    It is in evaluation mode, without gradients and in the memory layout that is fast on CPUs.
    """
    net = EfficientNetLite(size).eval()
    net.load_state_dict(weights)
    for module in list(net.modules()):
        for convolution, normalisation in _PAIRS:
            if hasattr(module, convolution):
                pair = getattr(module, convolution), getattr(module, normalisation)
                setattr(module, convolution, fuse_conv_bn_eval(*pair))
                setattr(module, normalisation, nn.Identity())
    for parameter in net.parameters():
        parameter.requires_grad_(False)
    return net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def features(net: nn.Module, images: Tensor, size: int) -> dict[str, Tensor]:
    """Pooled features by layer of images (n, 3, height, width) in [0, 1]."""
    x = prepared(images, size).contiguous(memory_format=torch.channels_last)
    found: dict[str, Tensor] = net.pooled(x)  # type: ignore[operator]
    return found


def prepared(images: Tensor, size: int) -> Tensor:
    """Images (n, 3, height, width) in [0, 1], resized to `size` and mapped as for the weights."""
    if images.shape[-2:] != (size, size):
        images = torch.nn.functional.interpolate(
            images, (size, size), mode="bicubic", align_corners=False
        ).clamp(0, 1)
    return (255 * images - 127) / 128
