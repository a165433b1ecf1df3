"""Hashes that identify a set of data or settings."""

from __future__ import annotations

import hashlib
from typing import Any

from torch import Tensor


def fingerprint(*parts: Any) -> str:
    """A hash of tensors and texts that identifies a run; no tensor is copied."""
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, Tensor):
            digest.update(str((part.dtype, tuple(part.shape))).encode())
            digest.update(part.detach().cpu().contiguous().numpy().data)
        else:
            digest.update(str(part).encode())
    return digest.hexdigest()[:16]
