"""Class labels of any kind, and their numbers 0 … C − 1."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

# Largest number of labels that an error message lists.
_LISTED = 8


class Classes:
    """The classes of some labels in sorted order, each with its number 0 … C − 1.

    Args:
        labels: the labels in the order of their numbers, all different: integers, booleans or
            strings.

    Attributes:
        labels: the labels, in the order of their numbers.

    Raises:
        ValueError: a label occurs twice, or there are fewer than two.

    Example:
        >>> Classes(["cat", "dog"]).encode(np.array(["dog", "cat", "dog"]))
        tensor([1, 0, 1])
    """

    def __init__(self, labels: Any) -> None:
        values = tuple(_plain(label) for label in labels)
        if len(set(values)) != len(values) or len(values) < 2:
            raise ValueError(
                f"classes must hold at least two labels, all different, got {_listed(values)}"
            )
        self.labels = values

    @classmethod
    def of(cls, labels: np.ndarray) -> Classes:
        """The classes of some labels: their different values, in sorted order.

        Labels that are all 0 or 1 have the classes 0 and 1, even where only one of them occurs.

        Raises:
            ValueError: there is only one label, and it is neither 0 nor 1.
        """
        values = np.unique(labels).tolist()
        if set(values) <= {0, 1}:
            booleans = all(isinstance(value, bool) for value in values)
            return cls((False, True) if booleans else (0, 1))
        if len(values) == 1:
            raise ValueError(
                f"y must hold at least two classes, got {values[0]!r} only; name the others, e.g. "
                f"classes=[{values[0]!r}, ...] of the likelihood"
            )
        return cls(values)

    @property
    def plain(self) -> bool:
        """Whether the labels are their own numbers."""
        return self.labels == tuple(range(len(self.labels)))

    def encode(self, labels: np.ndarray) -> Tensor:
        """The numbers of labels, int64, of their shape.

        Raises:
            ValueError: a label is not one of the classes.
        """
        number = {label: k for k, label in enumerate(self.labels)}
        values, where = np.unique(labels, return_inverse=True)
        unknown = [value for value in values.tolist() if value not in number]
        if unknown:
            raise ValueError(
                f"y must hold the classes {_listed(self.labels)}, got also {_listed(unknown)}"
            )
        codes = np.array([number[value] for value in values.tolist()], dtype=np.int64)
        return torch.from_numpy(codes[where].reshape(labels.shape))

    def __len__(self) -> int:
        return len(self.labels)

    def __repr__(self) -> str:
        return f"Classes({_listed(self.labels)})"


def read(y: Any, *, whole: bool) -> np.ndarray:
    """Labels as an array of integers, booleans or strings.

    Args:
        y: a tensor, an array, a list, or a pandas series or categorical.
        whole: whether reals that are whole numbers are read as integers.

    Raises:
        TypeError: the labels are neither integers nor booleans nor strings.
        ValueError: a label is missing, NaN, infinite or not whole; there are no labels.
    """
    if isinstance(y, Tensor):
        y = y.detach().cpu().numpy()
    elif hasattr(y, "to_numpy"):  # pandas
        y = y.to_numpy()
    try:
        labels = np.asarray(y)
    except ValueError as err:
        raise TypeError(f"y must be an array of labels, got {err}") from None
    if labels.size == 0:
        raise ValueError(f"y is empty: got shape {labels.shape}")
    if labels.dtype.kind == "O":
        labels = _of_objects(labels)
    kind = labels.dtype.kind
    if kind == "f" and whole:
        if not np.isfinite(labels).all():
            raise ValueError("y must be finite, got NaN or infinite labels")
        if (labels != np.round(labels)).any():
            raise ValueError(
                "y must hold labels 0 and 1, or other whole numbers or strings, got fractions from "
                f"{labels.min():g} to {labels.max():g}"
            )
        return labels.astype(np.int64)
    if kind not in "iubU":
        raise TypeError(
            "y must hold integer class labels, booleans or strings, got dtype "
            f"{labels.dtype}; convert it explicitly"
        )
    return labels


def has_texts(y: Any) -> bool:
    """Whether targets are texts, which no tensor can hold."""
    if isinstance(y, Tensor):
        return False
    values = y.to_numpy() if hasattr(y, "to_numpy") else y
    try:
        kind = np.asarray(values)
    except (TypeError, ValueError):
        return False
    if kind.dtype.kind == "O":
        return any(isinstance(label, str) for label in kind.reshape(-1).tolist())
    return kind.dtype.kind == "U"


def _of_objects(labels: np.ndarray) -> np.ndarray:
    """Objects as an array of one kind."""
    kinds = {type(label) for label in labels.reshape(-1).tolist()}
    if len(kinds) == 1 and kinds <= {str, int, bool, float}:
        return np.array(labels.tolist())
    names = ", ".join(sorted(kind.__name__ for kind in kinds))
    raise TypeError(
        f"y must hold class labels of one kind, integers, booleans or strings, got {names}; "
        "missing labels must be left out"
    )


def _plain(label: Any) -> Any:
    """A label as a Python object."""
    value = label.item() if isinstance(label, Tensor | np.generic) else label
    if isinstance(value, float) and value == int(value):
        return int(value)
    if not isinstance(value, int | str):
        raise TypeError(f"classes must hold integers, booleans or strings, got {value!r}")
    return value


def _listed(labels: Any) -> str:
    some = ", ".join(map(repr, list(labels)[:_LISTED]))
    return some if len(labels) <= _LISTED else f"{some}, … ({len(labels)} in all)"
