"""Whether the targets of two data sets at the same inputs are the same ones.

Independent data sets on one design, such as the runs of a simulation, share their inputs and not
their targets. The same targets in another coding, unit or sign are recognised: classes by how well
those of one set tell those of the other, real targets by equal values and by their order.
"""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bayesgen._internal import checks

# Largest number of columns of targets that are kept and compared.
COLUMNS = 16
# Classes are at most this many different values, and at most this share of the observations.
_CLASSES, _SHARE = 32, 0.2
# Share of the errors of the best guess that classes of the other set must remove: 90 % equal pairs
# of balanced signs, for instance.
_TOLD = 0.8
# Share of equal real targets, above twice what chance gives, and rank correlation.
_EQUAL, _CORRELATED = 0.1, 0.999
# Least number of targets whose sequence tells a data set, of changes in it, and periods to exclude.
_LONG, _CHANGES, _PERIODS = 30, 8, 200


def numbers(y: Any) -> Tensor:
    """Targets of any kind as a tensor; texts become the numbers of their sorted order."""
    if not isinstance(y, Tensor):
        values = np.asarray(y)
        texts = values.dtype.kind == "O" and any(isinstance(v, str) for v in values.reshape(-1))
        if texts or values.dtype.kind == "U":
            codes = np.unique(values.astype(str), return_inverse=True)[1]
            return torch.from_numpy(codes.reshape(values.shape))
    return checks.as_tensor("data", y)


def classes(y: Tensor) -> Tensor:
    """Targets (n, ...) as class numbers where they are coded classes, else as they are, (n, k)."""
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


def columns(y: Tensor) -> np.ndarray | None:
    """Targets from `classes` in single precision, (n, k); None for more columns than are kept."""
    if y.shape[1] > COLUMNS:
        return None
    values: np.ndarray = y.to(device="cpu", dtype=torch.float32).numpy()
    return values


def related(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether some column of targets (n, k) is one of the others at the same inputs (n, k')."""
    return any(_related(u, v) for u in one.T for v in other.T)


def sequence(y: np.ndarray) -> bytes | None:
    """A hash of the targets (n, k) in the order of the rows, which an increasing map of real
    targets and another coding of classes leave as it is; None where the sequence tells nothing.
    """
    n = len(y)
    if n < _LONG:
        return None
    if y.shape[1] == 1 and _coded(y[:, 0]):
        coded = _by_appearance(y[:, 0])
        changes = coded[1:] != coded[:-1]
        periods = range(1, min(n // 3, _PERIODS) + 1)
        if changes.sum() < _CHANGES + coded.max() or any(
            (coded[p:] == coded[:-p]).all() for p in periods
        ):
            return None
        return _hash(coded)
    if len(np.unique(y, axis=0)) < n / 2:
        return None
    order = y.argsort(0, kind="stable")
    turns = (np.diff(np.sign(np.diff(y[:, 0]))) != 0).sum()
    return _hash(order if turns >= n / 4 else y)


def _hash(array: np.ndarray) -> bytes:
    return hashlib.blake2b(np.ascontiguousarray(array).tobytes(), digest_size=12).digest()


def _by_appearance(values: np.ndarray) -> np.ndarray:
    """Classes numbered by their first appearance, (n,)."""
    _, first, coded = np.unique(values, return_index=True, return_inverse=True)
    number = np.empty(len(first), dtype=np.int64)
    number[first.argsort()] = np.arange(len(first))
    result: np.ndarray = number[coded]
    return result


def _coded(values: np.ndarray) -> bool:
    """Whether values are classes: there are few different ones."""
    return len(np.unique(values)) <= max(2, min(_CLASSES, _SHARE * len(values)))


def _related(u: np.ndarray, v: np.ndarray) -> bool:
    if _coded(u) and _coded(v):
        return max(_told(u, v), _told(v, u)) > _TOLD
    if _coded(u) or _coded(v):
        return _ordered(u, v) if _coded(u) else _ordered(v, u)
    values, codes = np.unique(np.concatenate([u, v]), return_inverse=True)
    counts = [np.bincount(part, minlength=len(values)) for part in np.split(codes, [len(u)])]
    chance = float((counts[0] * counts[1]).sum()) / len(u) ** 2
    if (u == v).mean() > _EQUAL + 2 * chance:
        return True
    ranks = [w.argsort(kind="stable").argsort(kind="stable") for w in (u, v)]
    return bool(abs(np.corrcoef(ranks[0], ranks[1])[0, 1]) > _CORRELATED)


def _told(u: np.ndarray, v: np.ndarray) -> float:
    """Share of the errors of guessing v that knowing u removes (Goodman & Kruskal's λ)."""
    rows, columns_ = (np.unique(w, return_inverse=True)[1] for w in (u, v))
    table = np.zeros((rows.max() + 1, columns_.max() + 1))
    np.add.at(table, (rows, columns_), 1)
    errors = len(v) - table.sum(0).max()
    if errors == 0:  # one class only
        return float(len(table) == 1)
    return float(1 - (len(v) - table.max(1).sum()) / errors)


def _ordered(u: np.ndarray, v: np.ndarray) -> bool:
    """Whether classes u lie in few intervals of real targets v, as those of a threshold do."""
    shares = np.unique(u, return_counts=True)[1] / len(u)
    changes = (np.diff(u[v.argsort(kind="stable")]) != 0).sum()
    return bool(changes <= (1 - _TOLD) * (1 - np.square(shares).sum()) * len(u) and len(shares) > 1)
