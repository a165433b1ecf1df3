"""Files that are written completely or not at all."""

from __future__ import annotations

import os
import tempfile
import uuid
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any


def writable(folder: str | os.PathLike[str]) -> Path:
    """Create a folder if needed and check that files can be written there.

    Raises:
        TypeError: it is no path.
        OSError: the folder cannot be created or written to.
    """
    if not isinstance(folder, str | os.PathLike):
        raise TypeError(f"the output folder must be a path, got {folder!r:.60}")
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
    """Let `writer` fill a temporary file beside `path`, then rename it to `path`."""
    temporary = path.with_name(f".{path.stem}.{uuid.uuid4().hex[:12]}{path.suffix}")
    try:
        writer(temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_bytes(path: Path, content: bytes) -> None:
    """Write bytes to a file, completely or not at all."""

    def fill(part: Path) -> None:
        part.write_bytes(content)

    write(path, fill)


def netcdf(result: Any) -> bytes:
    """A Dataset or DataTree as the bytes of a NetCDF file.

    The file is made in memory, because HDF5 ends the process at its exit where the disk filled
    while it wrote a file.
    """
    try:
        return bytes(result.to_netcdf(engine="h5netcdf"))
    except (TypeError, ValueError, NotImplementedError):  # an older xarray
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "result.nc"
            result.to_netcdf(file, engine="h5netcdf")
            return file.read_bytes()


def saved(path: Path) -> Any:
    """Contents of a file written by torch.save, or None if it is missing or damaged."""
    from pickle import UnpicklingError

    import torch

    try:
        with zipfile.ZipFile(path) as archive:  # torch itself does not look at the checksums
            if archive.testzip() is not None:
                return None
        return torch.load(path, weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError, UnpicklingError, zipfile.BadZipFile):
        return None
