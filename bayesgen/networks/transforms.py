"""Transforms of images by an amount: rotations and shifts, differentiable in the amount.

A transform is a function of inputs and one number t. `bayesgen.networks.Averaged` and
`bayesgen.kernels.Invariant` average over a range of t; a user's own function serves as well.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from bayesgen._internal import checks


@dataclass(frozen=True)
class ImageTransform(ABC):
    """A map of the plane by an amount t, applied to images by bilinear interpolation.

    Pixels from outside the image are zero.

    Attributes:
        image: shape (channels, height, width) of one image.
    """

    image: tuple[int, int, int]

    def __post_init__(self) -> None:
        object.__setattr__(self, "image", checks.image_shape(self.image))

    @abstractmethod
    def matrix(self, t: Tensor) -> Tensor:
        """The map from places in the new image to places in the old, (2, 3), in half sides."""

    def __call__(self, x: Tensor, t: Any) -> Tensor:
        """Transform images by the amount t; differentiable in both.

        Args:
            x: images, (n, channels, height, width), or flat, (n, channels·height·width).
            t: the amount, one number.

        Returns:
            The transformed images, in the shape of x.

        Raises:
            TypeError: x holds no floating-point numbers; t is no number.
            ValueError: the shape of x is another one; t is more than one number, or not finite.
        """
        if not isinstance(x, Tensor) or not x.is_floating_point():
            kind = x.dtype if isinstance(x, Tensor) else type(x).__name__
            raise TypeError(f"x must be a tensor of floating-point numbers, got {kind}")
        if tuple(x.shape[1:]) not in (self.image, (math.prod(self.image),)):
            raise ValueError(
                f"x must hold images of shape {self.image} or {math.prod(self.image)} pixels, got "
                f"shape {tuple(x.shape)}"
            )
        try:
            amount = torch.as_tensor(t, dtype=x.dtype, device=x.device)
        except (TypeError, ValueError, RuntimeError):
            raise TypeError(f"t must be a number, got {t!r}") from None
        if amount.numel() != 1:
            raise ValueError(f"t must be one number, got shape {tuple(amount.shape)}")
        if not bool(amount.isfinite()):
            raise ValueError(f"t must be finite, got {float(amount)}")
        images = x.reshape(len(x), *self.image)
        matrix = self.matrix(amount.reshape(()))
        grid = functional.affine_grid(matrix[None], [1, *self.image], align_corners=False)
        moved = functional.grid_sample(
            images.reshape(1, -1, *self.image[1:]), grid, align_corners=False
        )
        return moved.reshape(x.shape)


@dataclass(frozen=True)
class Rotation(ImageTransform):
    """Rotation about the centre, counter-clockwise by t radians.

    Example:
        >>> image = torch.tensor([[1.0, 2.0], [3.0, 4.0]]).reshape(1, 1, 2, 2)
        >>> Rotation((1, 2, 2))(image, math.pi / 2).round().reshape(2, 2)
        tensor([[2., 4.],
                [1., 3.]])
    """

    def matrix(self, t: Tensor) -> Tensor:
        """The rotation matrix by −t, with the sides of an oblong image taken into account."""
        _, height, width = self.image
        zero, cos, sin = torch.zeros_like(t), t.cos(), t.sin()
        across = torch.stack([cos, -sin * (height / width), zero])
        down = torch.stack([sin * (width / height), cos, zero])
        return torch.stack([across, down])


@dataclass(frozen=True)
class Shift(ImageTransform):
    """Shift by t pixels, to the right or downwards.

    Attributes:
        axis: "horizontal" or "vertical".

    Example:
        >>> image = torch.tensor([[1.0, 2.0, 3.0]])
        >>> Shift((1, 1, 3))(image, 1.0)
        tensor([[0., 1., 2.]])
    """

    axis: str = "horizontal"

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.one_of("axis", self.axis, ("horizontal", "vertical"))

    def matrix(self, t: Tensor) -> Tensor:
        """The identity with an offset of −t pixels."""
        _, height, width = self.image
        one, zero = torch.ones_like(t), torch.zeros_like(t)
        sideways = self.axis == "horizontal"
        across = torch.stack([one, zero, -2 * t / width if sideways else zero])
        down = torch.stack([zero, one, zero if sideways else -2 * t / height])
        return torch.stack([across, down])
