"""The observations of a fit or of a certificate, by hashes of their rows.

Two data sets share observations where they share a row of inputs with its target, in single
precision and whatever the coding of classes (signs, one-hot rows or numbers), or more than a tenth
of their inputs: a prior that depends on the inputs of the sample depends on the sample. Where all
inputs coincide, as in a simulation on one design, the targets decide; see
`bayesgen.provenance.targets`. The same sequence of 30 or more targets is that of the same data,
whatever was made of the inputs.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bayesgen._internal import checks
from bayesgen.provenance import targets

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


@dataclass(frozen=True)
class _Hashes:
    """Hashes of the rows of some data.

    Attributes:
        rows: hashes of the different inputs, sorted; those kept.
        pairs: hashes of the different observations, sorted; those kept.
        total: the fingerprint.
        y: targets at `rows`, (m, k); None where inputs are repeated or targets unknown or many.
        sequence: a hash of the targets in the order of the rows, or None.
    """

    rows: np.ndarray
    pairs: np.ndarray
    total: int
    y: np.ndarray | None
    sequence: bytes | None

    @classmethod
    def of(cls, x: Tensor, y: Tensor | None) -> _Hashes:
        rows = row_hashes(x)
        coded = None if y is None else targets.classes(y)
        pairs = rows if coded is None else rows ^ (row_hashes(coded) * _SPREAD)
        pairs = (pairs ^ (pairs >> np.uint64(31))) * _SPREAD
        total = int(pairs.sum(dtype=np.uint64))
        each, first = np.unique(rows, return_index=True)
        values = None if coded is None else targets.columns(coded)
        sequence = None if values is None else targets.sequence(values)
        if len(each) < len(rows):
            values = None
        kept = None if values is None else values[first[:_ROWS]]
        return cls(each[:_ROWS], np.unique(pairs)[:_ROWS], total, kept, sequence)


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
        self._made: _Hashes | None = None

    @property
    def size(self) -> int:
        """How many numbers are held."""
        if self._made is not None:
            columns = 1 if self._made.y is None else self._made.y.shape[1]
            return len(self._made.rows) * columns
        assert self._held is not None
        return sum(t.numel() for t in self._held if t is not None)

    def hashed(self) -> _Hashes:
        """Hashes of the inputs and of the observations."""
        if self._made is None:
            assert self._held is not None
            self._made = _Hashes.of(*self._held)
            self._held = None
        return self._made

    @property
    def fingerprint(self) -> str:
        """A hash of the pairs of inputs and targets, whatever their order."""
        return f"{self.hashed().total:016x}"

    def shared(self, other: Data) -> int:
        """How many rows the data share, or 0 where they are taken to be independent.

        The latter holds where a few inputs coincide but no observation does, and where all inputs
        coincide but the targets are different ones. Of more than 65,536 rows, those kept are
        counted.
        """
        one, two = self.hashed(), other.hashed()
        common = np.intersect1d(one.rows, two.rows, assume_unique=True)
        inputs = len(common)
        if inputs > _FEW * min(len(one.rows), len(two.rows)):
            # Hashes are sorted: where all coincide, the targets are in the same order.
            whole = inputs == len(one.rows) == len(two.rows) and self.n == other.n
            if whole and one.y is not None and two.y is not None:
                return inputs if targets.related(one.y, two.y) else 0
            return inputs
        if self.n == other.n and one.sequence is not None and one.sequence == two.sequence:
            return self.n
        return len(np.intersect1d(one.pairs, two.pairs, assume_unique=True))

    def within(self, other: Data) -> bool:
        """Whether every observation, input and target, is equal to one of other data."""
        own, theirs = self.hashed().pairs, other.hashed().pairs
        if len(theirs) == _ROWS:  # the smallest hashes are kept
            own = own[own <= theirs[-1]]
        return bool(np.isin(own, theirs).all())

    def __getstate__(self) -> dict[str, Any]:
        """The hashes, without the observations that they were made from."""
        return {"n": self.n, "_held": None, "_made": self.hashed()}

    def __deepcopy__(self, _: Any) -> Data:
        return self

    def __str__(self) -> str:
        return f"{self.n:,} observations ({self.fingerprint})"


# Remark of a certificate whose certifying inputs are not all new.
EQUAL = (
    "The inputs of {count:,} of these are equal to some of the others. The bound holds where they "
    "are independent draws, and not where they are copies."
)


def shared_rows(x: Any, data: Data) -> Tensor:
    """Which rows of inputs x (n, ...) are among those of the data, (n,) bool."""
    return torch.from_numpy(np.isin(row_hashes(x), data.hashed().rows))
