"""How a card multiplies float32: torch lets convolutions drop to TF32's ten bits unasked."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


@contextmanager
def tf32(allowed: bool) -> Iterator[None]:
    """Products and convolutions of float32 in TF32 or in float32 itself; then as it was before.

    Also a decorator of functions. Without effect on a CPU and on float64.

    Example:
        >>> with tf32(False):
        ...     torch.backends.cudnn.allow_tf32
        False
    """
    # torch refuses to read its older switches once its newer ones were set, so each user's own kind
    # is used, and read and set by that alone.
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
