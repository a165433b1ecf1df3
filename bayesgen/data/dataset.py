"""A classification data set as tensors, and functions that select classes or points from it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bayesgen._internal import checks


@dataclass(frozen=True)
class Dataset:
    """Inputs and labels of a classification problem, split into training and test points.

    It holds copies of the arrays that it is made from.

    Attributes:
        name: name of the data set.
        x_train, x_test: inputs, (n, d); pixels are scaled to [0, 1].
        y_train, y_test: labels in 0..C−1, (n,), int64.
        classes: names of the C classes.
        columns: names of the d inputs, or () where they have none.
        notes: sentences about what was left out, coded or scaled.

    Raises:
        TypeError: inputs or labels do not hold numbers of the right kind.
        ValueError: an input is not finite; a label is out of range; the numbers of inputs and
            labels differ; the columns of the training and test inputs differ.
    """

    name: str
    x_train: Tensor
    y_train: Tensor
    x_test: Tensor
    y_test: Tensor
    classes: tuple[str, ...]
    columns: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for part in ("train", "test"):
            x = checks.real(f"x_{part}", getattr(self, f"x_{part}"))
            y = checks.as_tensor(f"y_{part}", getattr(self, f"y_{part}"))
            if y.numel() or y.is_floating_point():
                y = checks.class_labels(f"y_{part}", y, self.num_classes)
            if x.ndim != 2 or tuple(y.shape) != (len(x),):
                raise ValueError(
                    f"x_{part} and y_{part} must have shapes (n, d) and (n,), got "
                    f"{tuple(x.shape)} and {tuple(y.shape)}"
                )
            object.__setattr__(self, f"x_{part}", checks.owned(x))
            object.__setattr__(self, f"y_{part}", checks.owned(y.long()))
        if self.x_train.shape[1] != self.x_test.shape[1]:
            raise ValueError(
                f"x_test must have {self.x_train.shape[1]} columns, as x_train has, got "
                f"{self.x_test.shape[1]}"
            )

    @property
    def num_classes(self) -> int:
        """Number of classes, C."""
        return len(self.classes)

    @property
    def fingerprint(self) -> str:
        """A hash of all inputs and labels, to tell whether two results used the same data."""
        digest = hashlib.sha256()
        for part in (self.x_train, self.y_train, self.x_test, self.y_test):
            digest.update(part.cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()[:16]

    def __repr__(self) -> str:
        return (
            f"Dataset({self.name}: {len(self.y_train)} training and {len(self.y_test)} test "
            f"points, d = {self.x_train.shape[1]}, C = {self.num_classes})"
        )


def restrict(data: Dataset, classes: tuple[int, ...]) -> Dataset:
    """Select the points of some classes and relabel them 0, 1, … in the order given.

    Args:
        data: any data set.
        classes: at least two different labels.

    Raises:
        ValueError: there are fewer than two classes; a class is repeated or not in the data set.

    Example:
        >>> from bayesgen.data import load
        >>> restrict(load("digits"), (3, 8)).classes
        ('3', '8')
    """
    given = [(c,) for c in classes] if isinstance(classes, Iterable) else classes
    return _merged(data, "classes", given)


def merge(data: Dataset, groups: Sequence[Sequence[int]]) -> Dataset:
    """Merge groups of classes into new classes 0, 1, …; points of other classes are left out.

    Args:
        data: any data set.
        groups: at least two groups of labels; no label occurs twice.

    Raises:
        ValueError: there are fewer than two groups; a group is empty; a label occurs twice or is
            not in the data set.

    Example:
        >>> from bayesgen.data import load
        >>> merge(load("digits"), (range(5), range(5, 10))).classes
        ('0, 1, 2, 3, 4', '5, 6, 7, 8, 9')
    """
    return _merged(data, "groups", groups)


def _merged(data: Dataset, name: str, groups: Any) -> Dataset:
    """Merge groups of labels; `name` is that of the argument that holds the labels."""
    _check(data)
    try:
        parts = [list(group) for group in groups]
    except TypeError:
        parts = []
    every = [label for part in parts for label in part]
    for label in every:
        checks.class_labels(name, [label], data.num_classes)
    if len(set(every)) != len(every) or len(parts) < 2 or not all(parts):
        raise ValueError(f"{name} must hold two or more different labels, got {groups!r}")
    table = torch.full((data.num_classes,), -1, device=data.y_train.device)
    for new, part in enumerate(parts):
        table[part] = new
    new_train, new_test = table[data.y_train], table[data.y_test]
    keep_train, keep_test = new_train >= 0, new_test >= 0
    return replace(
        data,
        x_train=data.x_train[keep_train],
        y_train=new_train[keep_train],
        x_test=data.x_test[keep_test],
        y_test=new_test[keep_test],
        classes=tuple(", ".join(data.classes[c] for c in part) for part in parts),
    )


def subset(
    data: Dataset, train: int | None = None, test: int | None = None, *, seed: int = 0
) -> Dataset:
    """Draw training and test points without replacement.

    Args:
        data: any data set.
        train, test: number of points to keep; None keeps all.
        seed: seed of the draw.

    Raises:
        ValueError: more points are asked for than there are.

    Example:
        >>> from bayesgen.data import load
        >>> subset(restrict(load("digits"), (3, 8)), 100)
        Dataset(digits: 100 training and 79 test points, d = 64, C = 2)
    """
    _check(data)
    generator = np.random.default_rng(checks.seed(seed))
    keep = [
        torch.from_numpy(draw(name, np.arange(len(y)), np.arange(len(y)), count, generator)[0])
        for name, y, count in (("train", data.y_train, train), ("test", data.y_test, test))
    ]
    return replace(
        data,
        x_train=data.x_train[keep[0]],
        y_train=data.y_train[keep[0]],
        x_test=data.x_test[keep[1]],
        y_test=data.y_test[keep[1]],
    )


def _check(data: Any) -> None:
    """Check for a data set."""
    if not isinstance(data, Dataset):
        raise TypeError(f"data must be a bayesgen.data.Dataset, got {type(data).__name__}")


def draw(
    name: str, x: np.ndarray, y: np.ndarray, count: int | None, generator: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Draw `count` rows of x and y without replacement; None keeps all.

    Raises:
        ValueError: more rows are asked for than there are.
    """
    if count is None:
        return x, y
    number = checks.integer(count)
    if number is None or not 1 <= number <= len(x):
        raise ValueError(f"{name} must be between 1 and the {len(x)} points there are, got {count}")
    keep = generator.choice(len(x), number, replace=False)
    return x[keep], y[keep]
