"""Checks of arguments; each error message names the argument, what was passed and what is valid."""

from __future__ import annotations

import math
import numbers
import operator
from collections.abc import Sequence
from decimal import Decimal
from difflib import get_close_matches
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bayesgen._internal.words import plural

# Integers for which torch has few operations.
_UNSIGNED = (torch.uint16, torch.uint32, torch.uint64)


def real(name: str, value: Any, *, like: Tensor | None = None) -> Tensor:
    """Check for a finite floating-point tensor; with `like`, of its dtype and on its device."""
    tensor = as_tensor(name, value)
    if tensor.dtype not in (torch.float64, torch.float32):
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
            f"{name} must be finite, got {plural(int(bad.sum()), 'NaN or infinite value')}, "
            f"the first at index {first}"
        )
    return tensor


def as_tensor(name: str, value: Any) -> Tensor:
    """Convert `value` to a dense tensor, without a copy where none is needed.

    Tables and series (pandas, polars) and other objects with `__array__` count by position; their
    labels are ignored. Arrays of Python objects become float64, or int64 where all are integers.

    Raises:
        TypeError: the value does not hold numbers, or is sparse.
        ValueError: some values are masked.
    """
    if isinstance(value, Tensor):
        if value.layout != torch.strided:
            raise TypeError(f"{name} must be a dense tensor, got {value.layout}; use .to_dense()")
        return value.long() if value.dtype in _UNSIGNED else value
    if isinstance(value, float):  # Python's float is double precision
        return torch.tensor(value, dtype=torch.float64)
    if isinstance(value, list | tuple):  # their floats become float64
        try:
            value = np.asarray([v.detach() if isinstance(v, Tensor) else v for v in value])
        except (TypeError, ValueError, RuntimeError) as err:
            raise TypeError(f"{name} must be a tensor or an array, got {err}") from None
    if isinstance(value, np.ndarray) or hasattr(value, "__array__"):
        _check_columns(name, value)
        tensor = torch.from_numpy(_native(name, value))
        return tensor.long() if tensor.dtype in _UNSIGNED else tensor
    try:
        return torch.as_tensor(value)
    except (TypeError, ValueError, RuntimeError) as err:
        raise TypeError(
            f"{name} must be a tensor or an array, got {type(value).__name__} ({err})"
        ) from None


def reals(name: str, value: Any) -> Tensor:
    """Convert real numbers of any dtype, which may be missing or infinite, to a tensor.

    Raises:
        TypeError: the value does not hold real numbers.
    """
    tensor = as_tensor(name, value)
    if tensor.is_complex():
        raise TypeError(f"{name} must hold real numbers, got dtype {tensor.dtype}")
    return tensor


def _check_columns(name: str, value: Any) -> None:
    """Check that a table has columns of numbers only.

    Raises:
        TypeError: a column holds texts or dates; the message names it.
    """
    if not hasattr(value, "columns") or not hasattr(value, "dtypes"):
        return
    for key in value.columns:
        column = np.asarray(value[key])
        other = column.dtype.kind not in "biufcO"
        texts = column.dtype.kind == "O" and any(isinstance(v, str) for v in column.reshape(-1))
        if other or texts:
            raise TypeError(
                f"{name} must hold numbers, but column {str(key)!r} holds values such as "
                f"{column.reshape(-1)[0]!s:.40}; code it as numbers first, as "
                "bayesgen.data.from_table does"
            )


def _native(name: str, value: Any) -> np.ndarray:
    """An array that torch can read: of a native type, with memory that may be written."""
    if isinstance(value, np.ma.MaskedArray) and np.ma.getmaskarray(value).any():
        masked = np.argwhere(np.ma.getmaskarray(value))
        raise ValueError(
            f"{name} must have no masked values, got {len(masked)}, the first at index "
            f"{tuple(masked[0].tolist())}; leave them out"
        )
    array = np.asarray(value)
    if array.dtype == object:
        array = _of_objects(name, array)
    if array.dtype.kind not in "biufc":
        raise TypeError(
            f"{name} must be a tensor or an array of numbers, got dtype {array.dtype} "
            f"in a {type(value).__name__}"
        )
    if array.dtype.kind == "f" and array.dtype.itemsize > 8:
        array = array.astype(np.float64)
    array = array.astype(array.dtype.newbyteorder("="), copy=False)
    if not array.flags.writeable or any(stride < 0 for stride in array.strides):
        array = array.copy()  # the tensor must not share read-only memory
    return array


def _of_objects(name: str, array: np.ndarray) -> np.ndarray:
    """An array of Python objects as numbers; a missing value becomes NaN."""
    found = []
    for index, item in np.ndenumerate(array):
        if item is None or type(item).__name__ in ("NAType", "NaTType"):
            found.append(math.nan)
        elif isinstance(item, numbers.Integral):
            found.append(int(item))
        elif isinstance(item, numbers.Real | Decimal):
            found.append(float(item))
        else:
            hint = ""
            if isinstance(item, str):
                hint = "; texts may stand in a pandas DataFrame"
                if name == "y":
                    hint = '; texts are class labels, for likelihood="softmax" or "bernoulli"'
            raise TypeError(
                f"{name} must be a tensor or an array of numbers, got {item!r} at index "
                f"{index}{hint}"
            )
    whole = all(isinstance(item, int) for item in found)
    return np.array(found, dtype=np.int64 if whole and found else np.float64).reshape(array.shape)


def owned(tensor: Tensor) -> Tensor:
    """A copy in memory of its own, outside of any autograd graph and of inference mode.

    What a posterior keeps must not change when the caller overwrites the arrays that were passed.
    """
    with torch.inference_mode(False), torch.no_grad():
        return tensor.detach().clone(memory_format=torch.contiguous_format)


def inputs(name: str, value: Any) -> Tensor:
    """Check inputs x of shape (n, d), without autograd graph; shape (n,) is read as (n, 1)."""
    tensor = real(name, value).detach()
    if tensor.ndim == 1:
        tensor = tensor[:, None]
    if tensor.ndim != 2:
        raise ValueError(f"{name} must have shape (n, d) or (n,), got {tuple(tensor.shape)}")
    if tensor.numel() == 0:
        raise ValueError(f"{name} is empty: got shape {tuple(tensor.shape)}, needs n ≥ 1 and d ≥ 1")
    return tensor


def data(x: Any, y: Any, *, labels: bool) -> tuple[Tensor, Any]:
    """Copies of inputs x (n, d) and of targets y, which `targets` or a likelihood checks.

    Args:
        x: inputs, (n, d) or (n,).
        y: targets.
        labels: whether y may hold labels of any kind; they are left as they are.
    """
    return owned(inputs("x", x)), y if labels else owned(as_tensor("y", y))


def targets(name: str, value: Any, n: int, *, like: Tensor) -> Tensor:
    """Check targets of shape (n,), (n, C) or (B, n, C); they are returned in their own shape.

    The result has no autograd graph.
    """
    tensor = as_tensor(name, value).detach()
    if not tensor.is_floating_point():
        raise TypeError(
            f"{name} must hold real numbers, got dtype {tensor.dtype}; convert measurements with "
            f"{name}.astype(float) or {name}.double(), and for class labels see "
            "bayesgen.likelihoods.one_hot(labels, num_classes=...)"
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
    """Check for a positive finite tensor.

    With `like`, numbers and tensors take its dtype; numbers take its device too.
    """
    if isinstance(value, numbers.Real) and not isinstance(value, bool):
        number = float(value)
        if not (math.isfinite(number) and number > 0):
            raise ValueError(f"{name} must be positive and finite, got {value}")
        if like is None:
            return torch.tensor(number, dtype=torch.float64)
        tensor = torch.tensor(number, dtype=like.dtype, device=like.device)
    else:
        tensor = real(name, value)
        if like is not None:
            tensor = real(name, tensor.to(like.dtype), like=like)
    if tensor.numel() == 0:
        raise ValueError(f"{name} is empty: got shape {tuple(tensor.shape)}")
    if not (tensor > 0).all():
        raise ValueError(f"{name} must be positive, got a smallest value of {tensor.min().item()}")
    return tensor


def positive_number(name: str, value: Any) -> float:
    """Check for one positive finite number: a Python number, or one of numpy or torch."""
    tensor = positive(name, value)
    if tensor.numel() != 1:
        raise ValueError(f"{name} must be one number, got shape {tuple(tensor.shape)}")
    return float(tensor)


def class_labels(name: str, value: Any, num_classes: int) -> Tensor:
    """Check for one or more integer labels in 0..C−1 and return them as int64."""
    num_classes = whole("num_classes", num_classes, 2)
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


def integer(value: Any) -> int | None:
    """The value as an integer, also one of numpy or torch; None for anything else."""
    try:
        return None if isinstance(value, bool | np.bool_) else operator.index(value)
    except TypeError:
        return None


def whole(name: str, value: Any, least: int = 1) -> int:
    """Check for an integer of at least `least`; integers of numpy and torch are accepted."""
    number = integer(value)
    if number is None or number < least:
        raise ValueError(f"{name} must be an integer of at least {least}, got {value!r}")
    return number


def seed(value: Any, name: str = "seed") -> int:
    """Check for a seed, an integer from 0 to 2⁶³ − 1."""
    number = whole(name, value, 0)
    if number >= 2**63:
        raise ValueError(f"{name} must be below 2⁶³, got {number}")
    return number


def number(name: str, value: Any, least: float = -math.inf) -> float:
    """Check for one finite number of at least `least`, of Python, numpy or torch."""
    try:
        if isinstance(value, bool | str):
            raise TypeError
        found = float(value)
    except (TypeError, ValueError, RuntimeError):
        raise TypeError(f"{name} must be a number, got {value!r:.60}") from None
    if not (math.isfinite(found) and found >= least):
        words = "" if least == -math.inf else f" and at least {least:g}"
        raise ValueError(f"{name} must be finite{words}, got {found:g}")
    return found


def amount(name: str, value: Any) -> float:
    """Check for one finite number of at least 0: a Python number, or one of numpy or torch."""
    return number(name, value, 0.0)


def increasing(name: str, value: Any, least: int = 1, *, count: int = 1) -> list[int]:
    """Check for at least `count` increasing integers of at least `least`."""
    try:
        given = list(value)
    except TypeError:
        given = []
    found = [whole(name, each, least) for each in given]
    if len(found) < count or found != sorted(set(found)):
        more = "one" if count == 1 else "two"
        raise ValueError(f"{name} must be increasing numbers, {more} or more, got {value!r}")
    return found


def names(name: str, value: Any, choices: tuple[str, ...]) -> list[str]:
    """Check for one or more different names among some."""
    if isinstance(value, str) or not isinstance(value, Sequence | np.ndarray):
        given = []
    else:
        given = list(value)
    if not given or len({str(each) for each in given}) < len(given):
        raise ValueError(f"{name} must be one or more different names, got {value!r}")
    return [one_of(name, each if isinstance(each, str) else repr(each), choices) for each in given]


def image_shape(value: Any, name: str = "image") -> tuple[int, int, int]:
    """Check for the shape (channels, height, width) of an image."""
    if not isinstance(value, Sequence) or isinstance(value, str) or len(value) != 3:
        raise ValueError(f"{name} must be (channels, height, width), got {value!r}")
    channels, height, width = (whole(name, each) for each in value)
    return channels, height, width


def flag(name: str, value: Any) -> bool:
    """Check for True or False; those of numpy are accepted."""
    if not isinstance(value, bool | np.bool_):
        raise TypeError(f"{name} must be True or False, got {value!r}")
    return bool(value)


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
        near = get_close_matches(str(value), choices, 1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(
            f"{name} must be one of {', '.join(map(repr, choices))}, got {value!r}{hint}"
        )
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
    number = integer(value)
    if number is None or not 0 <= number < count:
        raise ValueError(f"{name} must be an integer in 0..{count - 1}, got {value!r}")
    return number
