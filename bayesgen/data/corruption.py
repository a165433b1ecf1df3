"""Corruption of class labels: independent draws, and nested between levels of one seed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from bayesgen._internal import checks

# Replacement labels for every point: (labels, C, generator) → new labels.
Replacement = Callable[[Tensor, int, torch.Generator], Tensor]


def _uniform(labels: Tensor, num_classes: int, generator: torch.Generator) -> Tensor:
    """Any of the C classes with probability 1/C, including the true one (Zhang et al. 2017)."""
    return torch.randint(num_classes, labels.shape, generator=generator)


def _flip(labels: Tensor, num_classes: int, _: torch.Generator) -> Tensor:
    """The next class, cyclically; for two classes, the other (pair flipping, Han et al. 2018)."""
    return (labels + 1) % num_classes


KINDS: dict[str, Replacement] = {"uniform": _uniform, "flip": _flip}


def corrupt_labels(
    labels: Any, level: float, *, num_classes: int, seed: int = 0, kind: str = "uniform"
) -> tuple[Tensor, Tensor]:
    """Replace each label independently with probability `level`.

    Point i draws uᵢ ~ U(0, 1) and a replacement rᵢ, both determined by the seed. Its label becomes
    rᵢ where uᵢ < level. The number of replaced labels is therefore random, and the corrupted sample
    is i.i.d. whenever the clean one is, as generalisation bounds require. Under one seed, the
    labels replaced at a level include those replaced at every lower level.

    Args:
        labels: integers in 0..C−1, (n,).
        level: p in [0, 1].
        num_classes: C ≥ 2.
        seed: seed of the draws; the result does not depend on the labels' device.
        kind: "uniform" redraws from all C classes, including the true one, so that a fraction
            p (1 − 1/C) changes on average; "flip" moves to the next class, c → (c + 1) mod C.

    Returns:
        The labels, (n,) int64 on the labels' device, and a mask of those that differ from the
        original, (n,) bool.

    Raises:
        TypeError: the labels are not integers.
        ValueError: a label is outside 0..C−1; the level is outside [0, 1]; the kind is unknown; the
            seed is not an integer from 0 to 2⁶³ − 1.

    Source: Zhang et al. (2017), section 2.2; Patrini et al. (2017) for the pairwise flip.

    Example:
        >>> corrupt_labels([0, 1, 2, 3], 1.0, num_classes=4, kind="flip")
        (tensor([1, 2, 3, 0]), tensor([True, True, True, True]))
    """
    labels = checks.class_labels("labels", labels, num_classes)
    if labels.ndim != 1:
        raise ValueError(f"labels must have shape (n,), got {tuple(labels.shape)}")
    level = checks.share("level", level)
    replace = KINDS[checks.one_of("kind", kind, tuple(KINDS))]
    generator = torch.Generator().manual_seed(checks.seed(seed))
    hit = torch.rand(len(labels), generator=generator, dtype=torch.float64) < level
    clean = labels.cpu()
    corrupted = torch.where(hit, replace(clean, num_classes, generator), clean)
    return corrupted.to(labels.device), (corrupted != clean).to(labels.device)
