"""Random convolutional features of images, which do not depend on the data.

Image patches, normalised for brightness and contrast, are multiplied with random filters. What
exceeds a threshold is averaged over a few regions of the image. With many filters this approaches
the kernel of one convolutional layer with pooling, for a network of infinite width.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from bayesgen._internal import checks

# Number of activations computed at a time; they fit in the processor's cache.
_PASS = 4_000_000
# Opponent colours: brightness, red against green, yellow against blue.
_OPPONENT = ((1.0, 1.0, 1.0), (1.0, -1.0, 0.0), (1.0, 1.0, -2.0))


class ConvolutionalMap:
    """Features x (n, inputs) → Φ (n, d): d = filters · grid² pooled responses to random filters.

    For each patch u (its mean removed, divided by √(‖u‖² + ε)) and filter w of unit length, the
    activation is max(0, wᵀu − b). It is averaged over each cell of a grid × grid partition of the
    image, and over the image and its mirror image. The scale makes a typical ‖φ(x)‖ of order one.

    The filters are orthogonal in blocks. Their amplitude grows with frequency, which whitens the
    spectrum of natural images (Field 1987), in opponent colours. They do not depend on the data, so
    they can define a prior.

    Args:
        filters: number of filters.
        image: (channels, height, width); x holds images flattened in this order, in [0, 1].
        patch: side length of a patch.
        grid: number of pooling cells along each side.
        threshold: b.
        epsilon: ε, in squared units of a patch; contrast below √ε is attenuated.
        colour: amplitude of the opponent colours relative to brightness, for 3 channels.
        mirror: whether to average over left–right mirror images.
        seed: seed of the filters, which are drawn in float64 on the CPU.

    Raises:
        ValueError: an argument is out of range; a patch is larger than the image.

    Source: Coates, Lee & Ng (2011); Mairal et al. (2014) for the kernel; Rahimi & Recht (2007).

    Example:
        >>> features = ConvolutionalMap(6, image=(1, 8, 8), patch=3)
        >>> features(torch.rand(5, 64, dtype=torch.float64)).shape
        torch.Size([5, 54])
    """

    def __init__(
        self,
        filters: int,
        *,
        image: tuple[int, int, int] = (3, 32, 32),
        patch: int = 5,
        grid: int = 3,
        threshold: float = 0.03,
        epsilon: float = 0.3,
        colour: float = 0.7,
        mirror: bool = True,
        seed: int = 0,
    ) -> None:
        channels, height, width = (checks.whole(f"image[{i}]", v) for i, v in enumerate(image))
        self.filters, self.patch = checks.whole("filters", filters), checks.whole("patch", patch)
        self.grid = checks.whole("grid", grid)
        if patch > min(height, width):
            raise ValueError(f"patch must fit the image {height} × {width}, got {patch}")
        if grid > min(height, width) - patch + 1:
            raise ValueError(
                f"grid must be at most the {min(height, width) - patch + 1} positions of a patch, "
                f"got {grid}"
            )
        self.image = (channels, height, width)
        self.threshold = checks.number("threshold", threshold)
        self.epsilon = checks.positive_number("epsilon", epsilon)
        self.colour = checks.positive_number("colour", colour)
        self.mirror, self.seed = checks.flag("mirror", mirror), checks.seed(seed)

    @property
    def d(self) -> int:
        """Number of features, d."""
        return self.filters * self.grid**2

    def __call__(self, x: Tensor) -> Tensor:
        """Compute the features Φ of x, (n, d), in x's dtype and on its device.

        Raises:
            ValueError: x does not have shape (n, channels · height · width).
        """
        inputs = math.prod(self.image)
        if x.ndim != 2 or x.shape[1] != inputs:
            raise ValueError(
                f"x must hold images {self.image} flattened, shape (n, {inputs}), got "
                f"{tuple(x.shape)}"
            )
        _, height, width = self.image
        rows, columns = height - self.patch + 1, width - self.patch + 1
        weights = self.weights().to(x)
        pooling = torch.einsum("ir,jc->ijrc", _cells(rows, self.grid), _cells(columns, self.grid))
        pool = pooling.reshape(self.grid**2, -1).mT.to(x)
        # The mirror image has the responses of mirrored filters, in mirrored cells.
        banks = [(weights.flatten(1), pool)]
        if self.mirror:
            mirrored = pooling.flip(1).reshape(self.grid**2, -1).mT.to(x)
            banks.append((weights.flip(-1).flatten(1), mirrored))
        size = min(len(x), max(1, _PASS // (self.filters * rows * columns)))
        # Half of the patches exceed a threshold near zero, with a response of order 1/√inputs.
        scale = math.sqrt(2 * weights[0].numel() / self.d) / len(banks)
        images = x.reshape(-1, *self.image)
        # All passes write into the same buffers. With several threads, allocators would keep the
        # freed buffers and grow at each pass.
        result = x.new_empty(len(x), self.filters, self.grid**2)
        every = x.new_empty(size, weights[0].numel(), rows * columns)
        responses = x.new_empty(size, self.filters, rows * columns)
        pooled = x.new_empty(size, self.filters, self.grid**2)
        for start in range(0, len(x), size):
            part = images[start : start + size]
            count = len(part)
            patches, response = every[:count], responses[:count]
            views = part.unfold(2, self.patch, 1).unfold(3, self.patch, 1)
            shape = (count, self.image[0], self.patch, self.patch, rows, columns)
            patches.view(shape).copy_(views.permute(0, 1, 4, 5, 2, 3))
            patches -= patches.mean(1, keepdim=True)
            patches /= (
                (torch.linalg.vector_norm(patches, dim=1, keepdim=True) ** 2)
                .add_(self.epsilon)
                .sqrt_()
            )
            target = result[start : start + count].zero_()
            for bank, cells in banks:
                torch.matmul(bank, patches, out=response)
                response.sub_(self.threshold).relu_()
                target += torch.matmul(response, cells, out=pooled[:count])
        return result.mul_(scale).flatten(1)

    def weights(self) -> Tensor:
        """The filters, (filters, channels, patch, patch), float64, of unit length and mean zero."""
        generator = torch.Generator().manual_seed(self.seed)
        channels, p = self.image[0], self.patch
        size = channels * p * p
        blocks = -(-self.filters // size)
        normal = torch.randn(blocks, size, size, generator=generator, dtype=torch.float64)
        lengths = torch.randn(blocks, size, size, generator=generator, dtype=torch.float64)
        drawn = torch.linalg.qr(normal).Q * lengths.norm(dim=-1, keepdim=True)
        coefficients = drawn.reshape(-1, channels, p, p)[: self.filters]
        k = torch.arange(p, dtype=torch.float64)
        cosines = torch.cos(math.pi * k[:, None] * (k + 0.5) / p)
        cosines = cosines / cosines.norm(dim=1, keepdim=True)
        frequency = (k[:, None] ** 2 + k**2).sqrt().clamp(min=0.5)
        coefficients = coefficients * frequency
        if channels == 3:
            opponent = torch.tensor(_OPPONENT, dtype=torch.float64)
            opponent = opponent / opponent.norm(dim=1, keepdim=True)
            amplitude = torch.tensor([1.0, self.colour, self.colour], dtype=torch.float64)
            coefficients = coefficients * amplitude[:, None, None]
        else:
            opponent = torch.eye(channels, dtype=torch.float64)
        weights = torch.einsum("fckl,kx,ly,cd->fdxy", coefficients, cosines, cosines, opponent)
        weights = weights - weights.mean((1, 2, 3), keepdim=True)
        return weights / weights.flatten(1).norm(dim=1)[:, None, None, None]

    def __repr__(self) -> str:
        return f"ConvolutionalMap({self.filters} filters, patch {self.patch}, grid {self.grid})"


def _cells(positions: int, grid: int) -> Tensor:
    """Averages over `grid` runs of positions, (grid, positions), as in adaptive average pooling.

    Neighbouring runs may share one position.
    """
    result = torch.zeros(grid, positions, dtype=torch.float64)
    for i in range(grid):
        start, stop = (i * positions) // grid, -((-(i + 1) * positions) // grid)
        result[i, start:stop] = 1 / (stop - start)
    return result
