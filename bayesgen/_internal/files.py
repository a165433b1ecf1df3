"""Files that appear whole or not at all."""

from __future__ import annotations

import os
import tempfile
import uuid
from collections.abc import Callable
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch


def writable(folder: str | os.PathLike[str]) -> Path:
    """The folder, made if need be, once a file has been written there and removed again.

    Raises:
        OSError: it cannot be made or written to; the message names it.
    """
    path = Path(folder)
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as err:
        raise OSError(
            f"the output folder must be writable, {path} is not: {err.strerror or err}"
        ) from None
    return path


def write(path: Path, writer: Callable[[Path], None]) -> None:
    """Let `writer` fill a temporary file beside `path`, then rename it: all or nothing."""
    temporary = path.with_name(f".{path.stem}.{uuid.uuid4().hex[:12]}{path.suffix}")
    try:
        writer(temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def saved(path: Path) -> Any:
    """What torch saved in a file; None where it is not there, or cut in half."""
    try:
        return torch.load(path, weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError, UnpicklingError):
        return None
