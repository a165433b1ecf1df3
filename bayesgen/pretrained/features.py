"""Compute features of networks that were trained on other data, once for each image."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bayesgen._internal import checks, files
from bayesgen._internal.hashing import fingerprint
from bayesgen._internal.progress import ProgressOption
from bayesgen._internal.progress_bar import shows_progress
from bayesgen.pretrained.weights import Published, published, weights

# Number of images whose features are kept in one file.
_CHUNK = 1_000


def layers(name: str) -> dict[str, int]:
    """Layers of a published network, with the number of features of each.

    Raises:
        ValueError: there is no network of this name.

    Example:
        >>> layers("efficientnet-lite0")["head"]
        1280
    """
    return dict(published(name).widths)


@shows_progress
def features(
    name: str,
    x: Any,
    *,
    layer: str | Sequence[str] = "head",
    image: tuple[int, int, int] = (3, 32, 32),
    size: int | None = None,
    mirror: bool = False,
    store: str | os.PathLike[str] | None = None,
    progress: ProgressOption = None,
) -> Tensor:
    """Features that a published network computes of images.

    Where the network was not trained on the images (EfficientNet-Lite: on ImageNet), a prior on its
    features does not depend on them. This is for the caller to know. Each feature is the average of
    a layer's channel over the positions of the image; those of "logits" are the outputs of the
    network's own classifier. Images are resized to `size` by bicubic interpolation and mapped as
    for the network's own training.

    Args:
        name: a network, one of `bayesgen.pretrained.NAMES`; the weights are those of the package in
            the extra `bayesgen[pretrained]`.
        x: images in [0, 1], (n, channels · height · width) or (n, channels, height, width).
        layer: a layer, or several, whose features are joined; see `layers`.
        image: (channels, height, width) of flattened images; one channel is repeated three times.
        size: side length to which images are resized; None for that of the network's own training.
            The time is proportional to its square.
        mirror: whether to average the features over the image and its mirror image.
        store: folder in which features are kept, so that they are computed once; an interrupted
            computation is resumed. The features of all layers are kept.
        progress: called as progress(done, expected, what) after each 1,000 images; True shows a
            progress bar.

    Returns:
        Features (n, d), float64, computed in float32.

    Raises:
        ModuleNotFoundError: the package with the weights is not installed.
        TypeError, ValueError: an argument has the wrong type or is out of range; the file of
            weights has another hash.

    Source: You et al. (2021) for evidence on features of published networks; Tan & Le (2019).

    Example:
        >>> import bayesgen as bg
        >>> x = bg.data.load("cifar10", train=100).x_train  # doctest: +SKIP
        >>> bg.pretrained.features("efficientnet-lite0", x, size=64).shape  # doctest: +SKIP
        torch.Size([100, 1280])
    """
    source = published(name)
    wanted = _layers(source, layer)
    pictures = images(x, checks.image_shape(image))
    side = source.size if size is None else checks.whole("size", size, 32)
    mirror = checks.flag("mirror", mirror)
    folder = None if store is None else files.writable(store)
    parts = pictures.split(_CHUNK)
    net: nn.Module | None = None
    rows = []
    for i, part in enumerate(parts):
        key = fingerprint(source.sha256, tuple(source.widths.items()), side, mirror, part)
        path = None if folder is None else folder / f"{name}-{side}-{key}.pt"
        kept = None if path is None else _kept(path, len(part), source)
        if kept is None:
            net = source.make(weights(source)) if net is None else net
            kept = _computed(source, net, part, side, mirror)
            if path is not None:
                _keep(path, kept)
        rows.append(torch.cat([kept[layer] for layer in wanted], 1).double())
        if progress is not None:
            progress(i + 1, len(parts), f"features of {len(pictures):,} images")
    return torch.cat(rows)


def _keep(path: Path, found: dict[str, Tensor]) -> None:
    files.write(path, lambda part: torch.save(found, part))


def _kept(path: Path, n: int, source: Published) -> dict[str, Tensor] | None:
    """Features from a file, or None where it is missing, damaged or of other layers."""
    found = files.saved(path)
    shapes = {name: (n, width) for name, width in source.widths.items()}
    if not isinstance(found, dict) or set(found) != set(shapes):
        return None
    same = all(
        isinstance(t, Tensor)
        and t.dtype == torch.float32
        and tuple(t.shape) == shapes[name]
        and bool(t.isfinite().all())
        for name, t in found.items()
    )
    return found if same else None


def _computed(
    source: Published, net: nn.Module, pictures: Tensor, size: int, mirror: bool
) -> dict[str, Tensor]:
    """Features of all layers, in batches whose activations fit in a processor's cache."""
    batch = max(1, source.pixels // size**2)
    found: dict[str, list[Tensor]] = {name: [] for name in source.widths}
    with torch.inference_mode():
        for part in pictures.split(batch):
            sides = [part, part.flip(-1)] if mirror else [part]
            both = [source.compute(net, one, size) for one in sides]
            for name, values in found.items():
                values.append(torch.stack([one[name] for one in both]).mean(0))
    return {name: torch.cat(values).clone() for name, values in found.items()}


def _layers(source: Published, layer: Any) -> list[str]:
    return checks.names("layer", [layer] if isinstance(layer, str) else layer, tuple(source.widths))


def images(x: Any, image: tuple[int, int, int]) -> Tensor:
    """Images (n, 3, height, width), float32."""
    found = checks.real("x", x)
    if found.ndim == 2:
        channels, height, width = image
        if found.shape[1] != channels * height * width:
            raise ValueError(
                f"x must hold images {image} flattened, (n, {channels * height * width}), got "
                f"{tuple(found.shape)}; image= states another shape"
            )
        found = found.reshape(-1, *image)
    if found.ndim != 4 or found.shape[1] not in (1, 3) or not len(found):
        raise ValueError(
            "x must hold at least one image with 1 or 3 channels, (n, channels, height, width), "
            f"got {tuple(found.shape)}"
        )
    low, high = float(found.min()), float(found.max())
    if low < 0 or high > 1:
        raise ValueError(
            f"x must hold images, with pixels in [0, 1], got values from {low:.3g} to {high:.3g}"
        )
    return found.float().expand(-1, 3, -1, -1)
