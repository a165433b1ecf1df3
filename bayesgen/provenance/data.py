"""The observations of a fit or of a certificate, by hashes of their rows.

Two data sets share observations where they share a row of inputs with its target, in single
precision and whatever the coding of classes (signs, one-hot rows or numbers), or more than a tenth
of their inputs: a prior that depends on the inputs of the sample depends on the sample.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bayesgen._internal import checks

# Largest number of rows that are kept of one data set: those of the smallest hashes.
_ROWS = 1 << 16
# Share of the inputs of the smaller of two data sets up to which they may coincide by chance, as
# the ends of intervals do.
_FEW = 0.1
# Number of entries that are hashed at a time.
_CHUNK = 1 << 16
_SPREAD = np.uint64(0x9E3779B97F4A7C15)


def joined(x: Any) -> Tensor:
    """Inputs (n, ...) as one tensor: an array, or a tuple, a mapping or `parts` of arrays."""
    several = getattr(x, "parts", x)
    if isinstance(several, Mapping):
        several = tuple(several.values())
    if not isinstance(several, tuple):
        return checks.as_tensor("data", x).detach()
    every = [checks.as_tensor("data", part).detach() for part in several]
    return torch.cat([part.reshape(len(part), -1).to(torch.float32) for part in every], 1)


def row_hashes(x: Any) -> np.ndarray:
    """A hash of each row of x (n, ...), in single precision, (n,) uint64."""
    x = joined(x)
    flat = x.reshape(len(x), -1)
    step = max(1, _CHUNK // max(1, flat.shape[1]))
    return np.concatenate([_hashed(part) for part in flat.split(step)])


def _hashed(rows: Tensor) -> np.ndarray:
    values = rows.to(device="cpu", dtype=torch.float32) + 0.0  # −0 becomes 0
    mixed = values.contiguous().numpy().view(np.uint32).astype(np.uint64)
    mixed *= _SPREAD
    mixed ^= mixed >> np.uint64(29)
    mixed *= _factors(mixed.shape[1])
    total: np.ndarray = mixed.sum(1, dtype=np.uint64)
    total ^= total >> np.uint64(32)
    return total


@functools.lru_cache(maxsize=16)
def _factors(d: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 1 << 64, d, dtype=np.uint64) | np.uint64(1)


def _smallest(hashes: np.ndarray) -> np.ndarray:
    return np.unique(hashes if len(hashes) <= _ROWS else np.partition(hashes, _ROWS)[:_ROWS])


def _classes(y: Tensor) -> Tensor:
    """Targets (n, ...) as class numbers where they are coded classes, else as they are."""
    flat = y.detach().reshape(len(y), -1)
    if flat.shape[1] == 1:
        size = flat.abs()
        if not bool((flat >= 0).all()) and bool((size == size[0]).all()):
            return (flat > 0).float()
        return flat
    low, high = flat.amin(), flat.amax()
    top = flat == high
    coded = bool((top | (flat == low)).all()) and bool((top.sum(1) == 1).all())
    return flat.argmax(1, keepdim=True) if coded else flat


class Data:
    """The observations of a fit or of a certificate, by hashes that are made when first needed.

    Args:
        x: inputs, (n, ...), or a tuple or mapping of them.
        y: targets in the order of the rows, (n, ...), for the fingerprint; or None.
    """

    def __init__(self, x: Any, y: Tensor | None = None) -> None:
        x = joined(x)
        self.n = len(x)
        self._held: tuple[Tensor, Tensor | None] | None = (x, y)
        self._made: tuple[np.ndarray, np.ndarray, int] | None = None

    @property
    def size(self) -> int:
        """How many numbers are held."""
        if self._held is None:
            return min(self.n, _ROWS)
        return sum(t.numel() for t in self._held if t is not None)

    def hashed(self) -> tuple[np.ndarray, np.ndarray, int]:
        """Sorted hashes of the inputs and of the observations, and the fingerprint."""
        if self._made is None:
            assert self._held is not None
            x, y = self._held
            rows = row_hashes(x)
            pairs = rows if y is None else rows ^ (row_hashes(_classes(y)) * _SPREAD)
            pairs = (pairs ^ (pairs >> np.uint64(31))) * _SPREAD
            total = int(pairs.sum(dtype=np.uint64))
            self._made = _smallest(rows), _smallest(pairs), total
            self._held = None
        return self._made

    @property
    def fingerprint(self) -> str:
        """A hash of the pairs of inputs and targets, whatever their order."""
        return f"{self.hashed()[2]:016x}"

    def shared(self, other: Data) -> int:
        """How many rows the data share, or 0 where a few inputs coincide but no observation does.

        Of more than 65,536 rows, those kept are counted.
        """
        (x, pairs, _), (x2, pairs2, _) = self.hashed(), other.hashed()
        inputs = len(np.intersect1d(x, x2, assume_unique=True))
        if inputs > _FEW * min(len(x), len(x2)):
            return inputs
        return len(np.intersect1d(pairs, pairs2, assume_unique=True))

    def __getstate__(self) -> dict[str, Any]:
        """The hashes only."""
        return {"n": self.n, "_held": None, "_made": self.hashed()}

    def __deepcopy__(self, _: Any) -> Data:
        return self

    def __str__(self) -> str:
        return f"{self.n:,} observations ({self.fingerprint})"


def shared_rows(x: Any, data: Data) -> Tensor:
    """Which rows of inputs x (n, ...) are among those of the data, (n,) bool."""
    return torch.from_numpy(np.isin(row_hashes(x), data.hashed()[0]))
