"""Checkpoints on disk, written completely or not at all and read without running code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from bayesgen._internal import files


def save(path: Path, state: dict[str, Any]) -> None:
    """Write a state of tensors, numbers, strings, lists and dicts.

    An interruption leaves the old file as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    files.write(path, lambda part: torch.save(state, part))


def load(path: Path, fingerprint: str, device: torch.device) -> dict[str, Any] | None:
    """Read a state that `save` wrote for the same run, or None where there is no file.

    Raises:
        ValueError: the path is that of a folder; the file cannot be read or belongs to another run.
    """
    if path.is_dir():
        raise ValueError(f"checkpoint must be a file, got the folder {path}")
    if not path.exists():
        return None
    try:
        state: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
    except Exception as err:
        raise ValueError(
            f"checkpoint {path} cannot be read ({type(err).__name__}): delete it to start again"
        ) from None
    if state.get("fingerprint") != fingerprint:
        raise ValueError(
            f"checkpoint {path} is of another run (other data, network or settings): delete it, "
            "or name another file"
        )
    return state
