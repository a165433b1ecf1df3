"""Checkpoints on disk: written whole or not at all, read without running code."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor


def save(path: Path, state: dict[str, Any]) -> None:
    """Write a state of tensors, numbers, texts, lists and dicts; a kill leaves the old one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        torch.save(state, part)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def load(path: Path, fingerprint: str, device: torch.device) -> dict[str, Any] | None:
    """A state that `save` wrote for the same run; None where there is none yet.

    Raises:
        ValueError: a file that cannot be read, or of another run.
    """
    if not path.exists():
        return None
    try:
        state: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
    except Exception as err:
        raise ValueError(
            f"checkpoint {path} cannot be read ({type(err).__name__}): delete it to start anew"
        ) from None
    if state.get("fingerprint") != fingerprint:
        raise ValueError(
            f"checkpoint {path} is of another run (other data, network or settings): delete it, "
            "or name another file"
        )
    return state


def fingerprint(*parts: Any) -> str:
    """A hash of tensors and texts, to tell one run from another."""
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, Tensor):
            digest.update(str((part.dtype, tuple(part.shape))).encode())
            digest.update(part.detach().cpu().contiguous().numpy().tobytes())
        else:
            digest.update(str(part).encode())
    return digest.hexdigest()[:16]
