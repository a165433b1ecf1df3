"""Checks of arguments; each error message names the argument, what was passed and what is valid."""

from __future__ import annotations

import math
import operator
from typing import Any

import numpy as np
import torch
from torch import Tensor


def real(name: str, value: Any, *, like: Tensor | None = None) -> Tensor:
    """Check for a finite floating-point tensor; with `like`, of its dtype and on its device."""
    tensor = value if isinstance(value, Tensor) else as_tensor(name, value)
    if not tensor.is_floating_point():
        raise TypeError(
            f"{name} must hold real numbers (float64 or float32), got dtype {tensor.dtype}; "
            f"convert it explicitly, e.g. {name}.double()"
        )
    if like is not None:
        if tensor.dtype != like.dtype:
            raise TypeError(
                f"{name} must have the dtype of the other inputs, {like.dtype}, got "
                f"{tensor.dtype}; convert one of them explicitly"
            )
        if tensor.device != like.device:
            raise ValueError(
                f"{name} is on device {tensor.device} but the other inputs are on {like.device}; "
                f"move one of them explicitly"
            )
    bad = ~torch.isfinite(tensor)
    if bad.any():
        first = tuple(int(i) for i in bad.nonzero()[0])
        raise ValueError(
            f"{name} must be finite, got {int(bad.sum())} NaN or infinite value(s), "
            f"the first at index {first}"
        )
    return tensor


def as_tensor(name: str, value: Any) -> Tensor:
    """Convert `value` to a tensor, without a copy where none is needed."""
    if isinstance(value, Tensor):
        return value
    if isinstance(value, float):  # Python's float is double precision
        return torch.tensor(value, dtype=torch.float64)
    if isinstance(value, list | tuple):  # their floats become float64
        try:
            value = np.asarray(value)
        except ValueError as err:
            raise TypeError(f"{name} must be a tensor or an array, got {err}") from None
    if isinstance(value, np.ndarray) and not value.flags.writeable:
        value = value.copy()  # the tensor must not share read-only memory
    try:
        return torch.as_tensor(value)
    except (TypeError, ValueError, RuntimeError) as err:
        raise TypeError(
            f"{name} must be a tensor or an array, got {type(value).__name__} ({err})"
        ) from None


def inputs(name: str, value: Any) -> Tensor:
    """Check inputs x of shape (n, d); shape (n,) is read as (n, 1)."""
    tensor = real(name, value)
    if tensor.ndim == 1:
        tensor = tensor[:, None]
    if tensor.ndim != 2:
        raise ValueError(f"{name} must have shape (n, d) or (n,), got {tuple(tensor.shape)}")
    if tensor.numel() == 0:
        raise ValueError(f"{name} is empty: got shape {tuple(tensor.shape)}, needs n ≥ 1 and d ≥ 1")
    return tensor


def targets(name: str, value: Any, n: int, *, like: Tensor) -> Tensor:
    """Check targets of shape (n,), (n, C) or (B, n, C); they are returned in their own shape."""
    tensor = value if isinstance(value, Tensor) else as_tensor(name, value)
    if not tensor.is_floating_point():
        raise TypeError(
            f"{name} must hold real numbers, got dtype {tensor.dtype}; for class labels see "
            f"bayesgen.likelihoods.one_hot(labels, num_classes=...)"
        )
    tensor = real(name, tensor, like=like)
    if tensor.ndim not in (1, 2, 3):
        raise ValueError(
            f"{name} must have shape (n,), (n, C) or (B, n, C), got {tuple(tensor.shape)}"
        )
    rows = tensor.shape[0] if tensor.ndim == 1 else tensor.shape[-2]
    if rows != n:
        raise ValueError(
            f"{name} must have one row for each of the {n} inputs, got {rows} rows in shape "
            f"{tuple(tensor.shape)}"
        )
    if tensor.numel() == 0:
        raise ValueError(f"{name} is empty: got shape {tuple(tensor.shape)}")
    return tensor


def positive(name: str, value: Any, *, like: Tensor | None = None) -> Tensor:
    """Check for a positive finite tensor; numbers take the dtype and device of `like`."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        if not (math.isfinite(value) and value > 0):
            raise ValueError(f"{name} must be positive and finite, got {value}")
        if like is not None:
            return torch.tensor(value, dtype=like.dtype, device=like.device)
        return torch.tensor(value, dtype=torch.float64)
    tensor = real(name, value, like=like)
    if tensor.numel() and not (tensor > 0).all():
        raise ValueError(f"{name} must be positive, got a smallest value of {tensor.min().item()}")
    return tensor


def class_labels(name: str, value: Any, num_classes: int) -> Tensor:
    """Check for one or more integer labels in 0..C−1 and return them as int64."""
    if isinstance(num_classes, bool) or not isinstance(num_classes, int) or num_classes < 2:
        raise ValueError(f"num_classes must be an integer of at least 2, got {num_classes!r}")
    tensor = as_tensor(name, value)
    if tensor.is_floating_point() or tensor.is_complex() or tensor.dtype == torch.bool:
        raise TypeError(f"{name} must hold integer class labels, got dtype {tensor.dtype}")
    if tensor.numel() == 0:
        raise ValueError(f"{name} is empty: got shape {tuple(tensor.shape)}")
    low, high = int(tensor.min()), int(tensor.max())
    if low < 0 or high >= num_classes:
        raise ValueError(
            f"{name} must lie in 0..{num_classes - 1} (num_classes={num_classes}), "
            f"got values from {low} to {high}"
        )
    return tensor.long()


def whole(name: str, value: Any, least: int = 1) -> int:
    """Check for an integer of at least `least`."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"{name} must be an integer of at least {least}, got {value!r}")
    return value


def share(name: str, value: Any) -> float:
    """Check for a number in [0, 1]."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise TypeError(f"{name} must be a number in [0, 1], got {value!r}") from None
    if not 0.0 <= number <= 1.0:
        raise ValueError(f"{name} must lie in [0, 1], got {number}")
    return number


def one_of(name: str, value: Any, choices: tuple[str, ...]) -> str:
    """Check for one of the allowed strings."""
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, choices))}, got {value!r}")
    return value


def gram(matrix: Tensor, n: int, who: str) -> Tensor:
    """Check that a matrix is finite, symmetric and of shape (n, n), and return it."""
    if tuple(matrix.shape) != (n, n):
        raise ValueError(
            f"{who} must give a square ({n}, {n}) matrix on {n} inputs, "
            f"got shape {tuple(matrix.shape)}"
        )
    size = matrix.abs().max()
    if not torch.isfinite(size):
        raise ValueError(f"{who} must be finite, got NaN or infinite values")
    block = 512  # rows at a time, to keep the temporaries small
    skew = max(
        (matrix[start : start + block] - matrix[:, start : start + block].mT).abs().max()
        for start in range(0, n, block)
    )
    allowed = 1e3 * torch.finfo(matrix.dtype).eps * size
    if skew > allowed:
        raise ValueError(
            f"{who} must be symmetric, k(x, x') = k(x', x): the largest difference is "
            f"{skew.item():.2g}, but rounding allows {allowed.item():.2g}"
        )
    return matrix


def psd(smallest: float, largest: float, n: int, dtype: torch.dtype, who: str) -> None:
    """Raise a ValueError if the smallest eigenvalue is negative beyond rounding."""
    floor = 10 * n * torch.finfo(dtype).eps * abs(largest)
    if smallest < -floor:
        raise ValueError(
            f"{who} must be positive semi-definite: its smallest eigenvalue on these "
            f"{n} inputs is {smallest:.3g}, but rounding allows −{floor:.2g}"
        )


def twin(name: str, value: Any, net: torch.nn.Module) -> dict[str, Tensor]:
    """Values, in a network of the same architecture, of the parameters that `net` trains."""
    network(name, value)
    theirs = dict(value.named_parameters())
    found = {}
    for own, parameter in net.named_parameters():
        if parameter.requires_grad:
            if own not in theirs or theirs[own].shape != parameter.shape:
                got = tuple(theirs[own].shape) if own in theirs else "none"
                raise ValueError(
                    f"{name} must be a network of the same architecture, with a parameter {own!r} "
                    f"of shape {tuple(parameter.shape)}, got {got}"
                )
            if theirs[own].device != parameter.device:
                raise ValueError(
                    f"{name} is on device {theirs[own].device} but the network is on "
                    f"{parameter.device}; move one of them explicitly"
                )
            found[own] = theirs[own].detach()
    return found


def network(name: str, value: Any) -> torch.nn.Module:
    """Check for a module with trainable parameters."""
    if not isinstance(value, torch.nn.Module):
        raise TypeError(f"{name} must be a torch.nn.Module, got {type(value).__name__}")
    if not any(p.requires_grad for p in value.parameters()):
        raise ValueError(f"{name} must have trainable parameters, got a module without any")
    return value


def index(name: str, value: Any, count: int) -> int:
    """An index in 0..count − 1; integers of numpy and torch are accepted.

    Raises:
        ValueError: the value is not an integer, or out of range.
    """
    try:
        number = -1 if isinstance(value, bool) else operator.index(value)
    except TypeError:
        number = -1
    if not 0 <= number < count:
        raise ValueError(f"{name} must be an integer in 0..{count - 1}, got {value!r}")
    return number
