"""Published networks with a new last layer, to be trained further."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from bayesgen._internal import checks, random_state
from bayesgen.pretrained.weights import Published, published, weights


def network(
    name: str,
    classes: int,
    *,
    image: tuple[int, int, int] = (3, 32, 32),
    size: int | None = None,
    seed: int = 0,
) -> nn.Module:
    """A published network with a new last layer, which takes images as this package loads them.

    Args:
        name: a network, one of `bayesgen.pretrained.NAMES`.
        classes: C, the number of outputs of the new layer, whose weights are random.
        image: (channels, height, width) of flattened images; one channel is repeated three times.
        size: side length to which images are resized; None for that of the network's own training.
        seed: seed of the new layer's weights.

    Returns:
        A module from images in [0, 1], (n, channels · height · width) or (n, channels, height,
        width), float32, to outputs (n, C), in training mode.

    Raises:
        ModuleNotFoundError: the package with the weights is not installed.
        TypeError, ValueError: an argument has the wrong type or is out of range; the file of
            weights has another hash.

    Source: Tan & Le (2019).

    Example:
        >>> net = network("efficientnet-lite0", 10, size=64)  # doctest: +SKIP
        >>> net(torch.rand(2, 3072)).shape  # doctest: +SKIP
        torch.Size([2, 10])
    """
    source = published(name)
    shape = checks.image_shape(image)
    if shape[0] not in (1, 3):
        raise ValueError(f"image must have 1 or 3 channels, got {shape[0]}")
    side = source.size if size is None else checks.whole("size", size, 32)
    held = weights(source)
    with random_state.kept([]):
        torch.manual_seed(checks.seed(seed))
        net = source.trainable(held, checks.whole("classes", classes, 2))
    return OfImages(net, source, shape, side)


# How far rounding and interpolation may take pixels out of [0, 1].
_ROUNDING = 0.01


class OfImages(nn.Module):
    """A published network behind the preparation of its images.

    Args:
        net: the network.
        source: how it was published.
        image: (channels, height, width) of flattened images.
        size: side length to which images are resized.
    """

    def __init__(
        self, net: nn.Module, source: Published, image: tuple[int, int, int], size: int
    ) -> None:
        super().__init__()
        self.net, self.image, self.size = net, image, size
        self._prepared = source.prepared

    def forward(self, x: Tensor) -> Tensor:
        """Outputs (n, C) of images.

        Raises:
            ValueError: x does not hold images of this shape, or pixels outside [0, 1].
        """
        if x.shape[1:] != self.image and x.shape[1:] != (math.prod(self.image),):
            raise ValueError(
                f"x must hold images {self.image}, flattened or not, got {tuple(x.shape)}"
            )
        low, high = x.detach().aminmax()
        if low < -_ROUNDING or high > 1 + _ROUNDING:
            raise ValueError(
                f"x must hold pixels in [0, 1], got values from {low:.3g} to {high:.3g}"
            )
        pictures = x.reshape(len(x), *self.image).expand(-1, 3, -1, -1)
        outputs: Tensor = self.net(self._prepared(pictures, self.size))
        return outputs
