"""Tasks with a structure that the data have, have in part, or do not have.

They are made for `bayesgen.experiments.soft_bias`: quadratic functions with a cyclic symmetry,
linear maps of images near a convolution, displaced digits with shuffled pixels, and rotated digits.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from bayesgen import data as datasets, networks
from bayesgen.networks.transforms import Rotation

# Inputs of the quadratic functions, and side of the images of the linear maps.
INPUTS, SIDE = 10, 5
# Numbers of test points of the two regression tasks, and their noise in standard deviations of y.
TESTED, IMAGES_TESTED, NOISE_SD = 500, 50, 0.1
# Digits that are displaced, their number, their side, and the side of the canvas.
DISPLACED, DISPLACED_COUNT, DIGIT, CANVAS = (0, 1, 2, 3), 720, 8, 12
# Digits that are rotated, and their number; 6 and 9 are not both among them.
ROTATED, ROTATED_COUNT = (3, 4, 5, 6), 727
# Rotation of the digits whose orientation is the label, in degrees.
WIDEST = 90.0


class SoftBiasTask(NamedTuple):
    """Training and test data: x, y, and new x, y."""

    x: Tensor
    y: Tensor
    x_new: Tensor
    y_new: Tensor


def symmetric(x: Tensor) -> Tensor:
    """Features Σᵢ xᵢ xᵢ₊ₖ/√d of a quadratic form with cyclic symmetry, (n, ⌊d/2⌋ + 1)."""
    d = x.shape[1]
    products = [(x * x.roll(k, 1)).sum(1) - (d if k == 0 else 0) for k in range(d // 2 + 1)]
    return torch.stack(products, 1) / math.sqrt(d)


def quadratic(x: Tensor) -> Tensor:
    """Features xᵢxⱼ, i ≤ j, of any quadratic form, centred for x ~ N(0, I): (n, d(d + 1)/2)."""
    i, j = torch.triu_indices(x.shape[1], x.shape[1])
    return x[:, i] * x[:, j] - (i == j).to(x)


def both(x: Tensor) -> Tensor:
    """The symmetric features followed by all quadratic ones."""
    return torch.cat([symmetric(x), quadratic(x)], 1)


def quadratic_functions(n: int, asymmetries: tuple[float, ...], seed: int) -> SoftBiasTask:
    """Quadratic functions √(1 − a²) f_symmetric + a f_free of N(0, I) inputs, one for each a.

    Both parts have unit variance. Returns y of shape (tasks, n, 1).
    """
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n + TESTED, INPUTS, generator=generator, dtype=torch.float64)
    parts = [
        features @ torch.randn(features.shape[1], generator=generator, dtype=x.dtype)
        for features in (symmetric(x), quadratic(x))
    ]
    tied, free = (part / part.std() for part in parts)
    f = torch.stack([math.sqrt(1 - a * a) * tied + a * free for a in asymmetries])[..., None]
    y = f[:, :n] + NOISE_SD * torch.randn(f[:, :n].shape, generator=generator, dtype=x.dtype)
    return SoftBiasTask(x[:n], y, x[n:], f[:, n:])


def filter_maps() -> Tensor:
    """Dense matrices of the nine 3 × 3 filters with one entry of 1, (9, SIDE², SIDE²)."""
    conv = nn.utils.skip_init(nn.Conv2d, 1, 1, 3, padding=1, bias=False, dtype=torch.float64)
    found = []
    for k in range(9):
        with torch.no_grad():
            conv.weight.copy_(torch.eye(9, dtype=torch.float64)[k].reshape(1, 1, 3, 3))
        found.append(networks.dense_form(conv, (1, SIDE, SIDE)).weight.detach())
    return torch.stack(found)


def map_features(x: Tensor) -> Tensor:
    """Features of y = Wx for W = Σₖ wₖTₖ + V, with one row for each output of each image.

    Args:
        x: images, (n, SIDE²).

    Returns:
        (n·SIDE², 9 + SIDE⁴): nine features of the filter w, then those of the dense matrix V.
    """
    pixels = x.shape[1]
    tied = torch.einsum("koi,ni->nok", filter_maps(), x)
    free = torch.einsum("op,ni->nopi", torch.eye(pixels, dtype=x.dtype), x)
    return torch.cat([tied, free.flatten(2)], 2).flatten(0, 1)


def linear_maps(n: int, deviations: tuple[float, ...], seed: int) -> SoftBiasTask:
    """Linear maps of digits, W = √(1 − δ²) (a convolution) + δ (a dense matrix), one for each δ.

    Both parts have the same output variance. Returns x as images (n, SIDE²) and y of shape
    (tasks, n·SIDE², 1), in units of its standard deviation.
    """
    digits = datasets.load("digits", train=n, test=IMAGES_TESTED, seed=seed)
    images = torch.cat([digits.x_train, digits.x_test]).reshape(-1, 1, DIGIT, DIGIT)
    x = functional.adaptive_avg_pool2d(images, SIDE).flatten(1)
    x = (x - x[:n].mean(0)) / x[:n].std()
    generator = torch.Generator().manual_seed(seed)
    w = torch.randn(9, generator=generator, dtype=x.dtype)
    matrices = [
        torch.einsum("k,koi->oi", w, filter_maps()),
        torch.randn(SIDE**2, SIDE**2, generator=generator, dtype=x.dtype),
    ]
    tied, free = (x @ matrix.mT / (x @ matrix.mT).std() for matrix in matrices)
    f = torch.stack([math.sqrt(1 - d * d) * tied + d * free for d in deviations])
    f = f / f.std((1, 2), keepdim=True)
    y = f[:, :n] + NOISE_SD * torch.randn(f[:, :n].shape, generator=generator, dtype=x.dtype)
    return SoftBiasTask(x[:n], y.flatten(1)[..., None], x[n:], f[:, n:].flatten(1)[..., None])


def displaced_digits(n: int, shuffled: float, seed: int) -> SoftBiasTask:
    """Digits 0 to 3 at random places of a canvas, with a share of the pixels permuted.

    The permutation is the same for all images. Returns standardised images (n, 1, CANVAS, CANVAS),
    float32; all other digits of these classes are test images.
    """
    pixels, y = _of_classes(DISPLACED, seed)
    generator = torch.Generator().manual_seed(seed)
    span = CANVAS - DIGIT + 1
    corners = torch.randint(span, (len(y), 2), generator=generator).tolist()
    x = torch.zeros(len(corners), 1, CANVAS, CANVAS)
    images = pixels.reshape(-1, DIGIT, DIGIT).float()
    for place, image, (row, column) in zip(x, images, corners, strict=True):
        place[0, row : row + DIGIT, column : column + DIGIT] = image
    x = (x - x[:n].mean()) / x[:n].std()
    moved = torch.randperm(CANVAS**2, generator=generator)[: round(shuffled * CANVAS**2)]
    order = torch.arange(CANVAS**2)
    order[moved] = moved[torch.randperm(len(moved), generator=generator)]
    x = x.flatten(1)[:, order].reshape(x.shape)
    return SoftBiasTask(x[:n], y[:n], x[n:], y[n:])


def rotated_digits(n: int, degrees: float, orientation: bool, seed: int) -> SoftBiasTask:
    """Digits rotated by angles that are uniform on ±degrees, as flat images with class labels.

    Args:
        n: number of training images; all others of these digits are test images, at most 300.
        degrees: largest angle.
        orientation: whether the label is the sense of the rotation in place of the digit.
        seed: seed of the angles and of the choice of digits.
    """
    x, y = (each[: n + 300] for each in _of_classes(ROTATED, seed))
    generator = torch.Generator().manual_seed(seed)
    uniform = torch.rand(len(x), generator=generator, dtype=torch.float64)
    angles = math.radians(degrees) * (2 * uniform - 1)
    rotate = Rotation((1, DIGIT, DIGIT))
    x = torch.cat([rotate(row[None], angle) for row, angle in zip(x, angles, strict=True)])
    y = (angles > 0).long() if orientation else y
    return SoftBiasTask(x[:n], y[:n], x[n:], y[n:])


def _of_classes(chosen: tuple[int, ...], seed: int) -> tuple[Tensor, Tensor]:
    """All digits of some classes in a random order, with labels 0, 1, …: x (n, 64), y (n,)."""
    digits = datasets.load("digits")
    x, y = torch.cat([digits.x_train, digits.x_test]), torch.cat([digits.y_train, digits.y_test])
    keep = torch.isin(y, torch.tensor(chosen)).nonzero()[:, 0]
    generator = torch.Generator().manual_seed(seed)
    keep = keep[torch.randperm(len(keep), generator=generator)]
    return x[keep], torch.searchsorted(torch.tensor(chosen), y[keep])
