"""Selection of the compressed network of least bound among settings, with the payment for it.

The settings are stated before the data and all of them are tried, so that a union bound over them
holds for the one that is selected. Its payment is ln K nats for K settings, and the selected
network keeps K, so that its certificate cannot leave the payment out. The code of a network states
its seed, dimension and number of levels, but neither the projection nor the architecture. The
payment covers the whole choice, whatever a code states, and is a few nats beside the thousands of
a code.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from typing import Any

from torch import nn

from bayesgen._internal import checks
from bayesgen._internal.progress import Progress, ProgressOption
from bayesgen._internal.progress_bar import shows_progress
from bayesgen.pacbayes.compression.compressed_network import Compressed, compress
from bayesgen.pacbayes.compression.settings import CodeSettings

# Arguments of `compress` that are the same for every network.
_TRAINING = ("epochs", "quantised_epochs", "batch", "learning_rate", "entropy")


@shows_progress
def compress_best(
    net: nn.Module,
    x: Any,
    y: Any,
    *,
    dimensions: Sequence[int] = (250, 500, 1000),
    levels: Sequence[int] = (7,),
    seeds: Sequence[int] = (0,),
    projections: Sequence[str] = ("kronecker",),
    candidates: int = 1,
    progress: ProgressOption = None,
    **training: Any,
) -> Compressed:
    """Compress a network with every combination of some settings, and return that of least bound.

    `Compressed.certificate` of the result pays ln K nats for the selection, where K is the product
    of the numbers of dimensions, levels, seeds, projections and `candidates`.

    Args:
        net, x, y: as in `compress`.
        dimensions: dimensions of the subspace to try.
        levels: numbers of levels to try.
        seeds: seeds of w₀, P and the order of the data to try.
        projections: "kronecker", "sparse", or both.
        candidates: number of further choices among which the caller will select, such as
            architectures. The certificate pays for them too.
        progress: called as progress(done, expected, what) after each epoch of all networks; True
            shows a progress bar.
        training: epochs, quantised_epochs, batch, learning_rate and entropy of `compress`, the same
            for every network.

    Returns:
        The network whose certificate has the least bound at δ = 0.05. It has `candidates` = K.

    Raises:
        ValueError: as in `compress`; a list of settings is empty or has a value twice. Settings are
            checked before the first network is trained.
        TypeError: as in `compress`; `training` has an argument of another name.

    Source: Lotfi et al. (2022), who search over the dimension; the payment is a union bound.

    Example:
        >>> import bayesgen as bg, torch
        >>> data = bg.data.load("digits", dtype=torch.float32)
        >>> net = bg.networks.MLP(64, (32,), 10)
        >>> small = compress_best(
        ...     net, data.x_train, data.y_train, dimensions=(50, 100), epochs=5, batch=64)
        >>> small.candidates, small.settings["dimension"] in (50, 100)
        (2, True)
        >>> [payment.reason for payment in small.certificate().payments]
        ['one of 2 settings stated beforehand']
    """
    checks.whole("candidates", candidates)
    for name in training:
        if name not in _TRAINING:
            raise TypeError(f"training must hold arguments among {_TRAINING}, got {name!r}")
    grid = list(
        itertools.product(
            _distinct("dimensions", dimensions),
            _distinct("levels", levels),
            _distinct("projections", projections),
            _distinct("seeds", seeds),
        )
    )
    for dimension, number, projection, seed in grid:
        CodeSettings(dimension, number, projection, 0.0, seed)
    if isinstance(net, nn.Module) and not any(map(nn.parameter.is_lazy, net.parameters())):
        parameters = sum(p.numel() for p in net.parameters())
        if 0 < parameters < max(dimensions):
            raise ValueError(
                f"dimensions must be at most the net's {parameters:,} parameters, got "
                f"{max(dimensions):,}"
            )
    found = []
    for i, (dimension, count, projection, seed) in enumerate(grid):
        found.append(
            compress(
                net,
                x,
                y,
                dimension=dimension,
                levels=count,
                projection=projection,
                seed=seed,
                progress=_part(progress, i, len(grid), f"dimension {dimension}"),
                **training,
            )
        )
    return least_bound(found, len(grid) * candidates)


def least_bound(found: Sequence[Compressed], candidates: int, delta: float = 0.05) -> Compressed:
    """The network of least bound, which keeps the number of candidates that its bound pays for.

    Args:
        found: networks that were compressed on the same data, not selected before.
        candidates: number of all settings that were stated, at least that of the networks.
        delta: δ of the bounds that are compared.

    Raises:
        ValueError: there is no network; one of them was selected already; they differ in the number
            of observations; there are more of them than candidates.
    """
    if not found:
        raise ValueError("found must be one or more compressed networks, got none")
    if checks.whole("candidates", candidates) < len(found):
        raise ValueError(
            f"candidates must be at least the number of networks, {len(found)}, got {candidates}"
        )
    if any(each.candidates != 1 for each in found):
        raise ValueError("found must hold networks that were not selected before")
    if len({each.n for each in found}) > 1:
        raise ValueError(
            f"found must hold networks of one sample, got {sorted({each.n for each in found})} "
            "observations"
        )
    best = min(found, key=lambda c: (c.certificate(delta, candidates=candidates).bound, c.bits))
    return dataclasses.replace(best, candidates=candidates)


def _distinct(name: str, values: Any) -> tuple[Any, ...]:
    """Check for one or more different values."""
    if isinstance(values, str) or not isinstance(values, Sequence):
        raise ValueError(f"{name} must be a list of settings, got {values!r}")
    if not values or len(set(values)) < len(values):
        raise ValueError(f"{name} must be one or more different settings, got {values!r}")
    return tuple(values)


def _part(progress: Progress | None, i: int, count: int, name: str) -> Progress | None:
    """Progress of one network as a part of that of all."""
    if progress is None:
        return None

    def report(done: int, expected: int, what: str) -> None:
        progress(i * expected + done, count * expected, f"{name}, {what}")

    return report
