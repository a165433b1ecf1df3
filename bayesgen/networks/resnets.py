"""Pre-activation residual networks for small images, with BatchNorm or without (Fixup)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bayesgen._internal import checks
from bayesgen.networks.layers import Bias, Scale, before_activation


class PreActivationBlock(nn.Module):
    """The residual block x + conv(relu(norm(conv(relu(norm(x)))))).

    Without norms it is the block of Fixup: scalar biases before each convolution and activation,
    and one scalar multiplier. The second convolution then starts at zero and the first one is
    scaled down.

    Args:
        channels_in, channels: number of channels of the input and the output.
        stride: stride of the first convolution.
        norm: "batch" or "none".
        depth: number of residual blocks in the network, L of Fixup's factor L^−½.

    Source: He et al. (2016), figure 4e; Zhang, Dauphin & Ma (2019), figure 1.
    """

    def __init__(self, channels_in: int, channels: int, stride: int, norm: str, depth: int) -> None:
        super().__init__()
        self.norm1 = before_activation(norm, channels_in)
        self.conv1 = nn.Conv2d(channels_in, channels, 3, stride, 1, bias=False)
        self.norm2 = before_activation(norm, channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.scale = Scale() if norm == "none" else nn.Identity()
        self.last = Bias() if norm == "none" else nn.Identity()
        changes = stride != 1 or channels_in != channels
        self.shortcut = nn.Conv2d(channels_in, channels, 1, stride, bias=False) if changes else None
        if norm == "none":
            nn.init.kaiming_normal_(self.conv1.weight, nonlinearity="relu")
            with torch.no_grad():
                self.conv1.weight.mul_(depth**-0.5)
            nn.init.zeros_(self.conv2.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Map images (n, channels_in, h, w) to (n, channels, h/stride, w/stride)."""
        inner = torch.relu(self.norm1(x))
        passed = x if self.shortcut is None else self.shortcut(inner)
        inner = self.conv2(torch.relu(self.norm2(self.conv1(inner))))
        return passed + self.last(self.scale(inner))


class PreActivationResNet(nn.Module):
    """A convolution, stages of pre-activation blocks, global average pooling and a linear layer.

    Args:
        widths: number of channels of each stage; every stage but the first halves the image.
        blocks: number of blocks in each stage.
        num_classes: C.
        channels: number of channels of the images.
        norm: "batch" or "none".
    """

    def __init__(
        self, widths: list[int], blocks: int, num_classes: int, channels: int, norm: str
    ) -> None:
        super().__init__()
        depth = len(widths) * blocks
        self.conv = nn.Conv2d(channels, widths[0], 3, 1, 1, bias=False)
        stages: list[nn.Module] = []
        before = widths[0]
        for stage, width in enumerate(widths):
            for block in range(blocks):
                stride = 2 if stage and not block else 1
                stages.append(PreActivationBlock(before, width, stride, norm, depth))
                before = width
        self.blocks = nn.Sequential(*stages)
        self.norm = before_activation(norm, before)
        self.linear = nn.Linear(before, num_classes)
        if norm == "none":
            nn.init.zeros_(self.linear.weight)
            nn.init.zeros_(self.linear.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Map images (n, channels, h, w) to scores (n, C)."""
        inner = torch.relu(self.norm(self.blocks(self.conv(x))))
        return self.linear(inner.mean((-2, -1)))


def PreResNet20(
    width: int = 16, num_classes: int = 10, *, channels: int = 3, norm: str = "batch"
) -> PreActivationResNet:
    """Pre-activation ResNet-20: three stages of three blocks, of width k, 2k and 4k.

    With BatchNorm, the weights of a layer in front of a normalisation can be rescaled without a
    change of the function. A Gaussian prior on these weights is then not a prior on functions, and
    the Laplace evidence depends on their arbitrary scale. A Laplace approximation keeps the running
    statistics fixed (`net.eval()`). `norm="none"` is Fixup, which has no such layers. Filter
    response normalisation does not help, because its layers are scale-invariant too.

    Args:
        width: k, the number of channels of the first stage; 16 gives 272,000 parameters.
        num_classes: C.
        channels: number of channels of the images.
        norm: "batch", or "none" for Fixup initialisation without any normalisation.

    Raises:
        ValueError: an argument is out of range.

    Source: He et al. (2016); Zhang, Dauphin & Ma (2019) for `norm="none"`.

    Example:
        >>> net = PreResNet20(width=4, norm="none")
        >>> net(torch.zeros(2, 3, 32, 32)).shape
        torch.Size([2, 10])
    """
    return _resnet([width, 2 * width, 4 * width], 3, num_classes, channels, norm)


def ResNet18(
    width: int = 64, num_classes: int = 10, *, channels: int = 3, norm: str = "batch"
) -> PreActivationResNet:
    """Pre-activation ResNet-18: four stages of two blocks, of width k, 2k, 4k and 8k.

    Args:
        width: k; 64 is the standard network, 1 … 64 the double-descent family.
        num_classes: C.
        channels: number of channels of the images.
        norm: "batch", or "none" for Fixup; see `PreResNet20` for the effect of BatchNorm on the
            evidence.

    Raises:
        ValueError: an argument is out of range.

    Source: Nakkiran et al. (2020), section 3.

    Example:
        >>> ResNet18(width=2)(torch.zeros(2, 3, 32, 32)).shape
        torch.Size([2, 10])
    """
    return _resnet([width, 2 * width, 4 * width, 8 * width], 2, num_classes, channels, norm)


def _resnet(
    widths: list[int], blocks: int, num_classes: int, channels: int, norm: str
) -> PreActivationResNet:
    checks.whole("width", widths[0])
    checks.whole("num_classes", num_classes)
    checks.whole("channels", channels)
    return PreActivationResNet(widths, blocks, num_classes, channels, norm)
