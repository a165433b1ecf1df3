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
    backends: tuple[Any, ...] = (
        torch.backends.cuda.matmul,
        torch.backends.cudnn.conv,  # type: ignore[attr-defined]
        torch.backends.cudnn.rnn,
    )
    before = [backend.fp32_precision for backend in backends]
    # The older switches set the newer ones, and both can then be read.
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = allowed
    try:
        yield
    finally:
        for backend, precision in zip(backends, before, strict=True):
            backend.fp32_precision = precision
