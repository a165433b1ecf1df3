"""Precision of float32 products on a GPU, where torch allows TF32 (10-bit mantissa) by default."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


@contextmanager
def tf32(allowed: bool) -> Iterator[None]:
    """Compute float32 products and convolutions with or without TF32; settings are restored.

    It also works as a decorator of functions. It has no effect on a CPU or on float64.

    Example:
        >>> with tf32(False):
        ...     torch.backends.cudnn.allow_tf32
        False
    """
    # torch refuses to read its older switches after its newer ones were set, so only the kind of
    # switch that the user has set is read and written.
    try:
        before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    except RuntimeError:
        with _newer("tf32" if allowed else "ieee"):
            yield
        return
    try:
        torch.set_float32_matmul_precision("high" if allowed else "highest")
        torch.backends.cudnn.allow_tf32 = allowed
        yield
    finally:
        torch.set_float32_matmul_precision(before[0])
        torch.backends.cudnn.allow_tf32 = before[1]


@contextmanager
def _newer(precision: str) -> Iterator[None]:
    backends: tuple[Any, ...] = (
        torch.backends.cuda.matmul,
        torch.backends.cudnn.conv,  # type: ignore[attr-defined]
        torch.backends.cudnn.rnn,
    )
    before = [backend.fp32_precision for backend in backends]
    try:
        for backend in backends:
            backend.fp32_precision = precision
        yield
    finally:
        for backend, own in zip(backends, before, strict=True):
            backend.fp32_precision = own
