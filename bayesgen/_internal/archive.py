"""Archives of JSON texts and arrays: zip files that are written completely or not at all.

An archive holds `NAME.json` for each text and `arrays/NUMBER.npy` for each array, in the formats of
JSON and of `numpy.save` without pickle. Reading one runs no code.
"""

from __future__ import annotations

import json
import struct
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from bayesgen._internal import files

# The date of every member, so that equal contents give equal files.
_DATE = (1980, 1, 1, 0, 0, 0)


# What the modules that read archives raise for damaged ones, beside ValueError and KeyError.
_UNREADABLE = (
    OSError,
    EOFError,
    NotImplementedError,
    RuntimeError,
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
)


class Archive(NamedTuple):
    """The contents of an archive.

    Attributes:
        texts: values of JSON (None, bool, int, float, str, list, dict) by name.
        arrays: arrays of numbers.
    """

    texts: Mapping[str, Any]
    arrays: Sequence[np.ndarray]


def write(path: Path, archive: Archive) -> None:
    """Write an archive; an interruption leaves the old file as it was.

    Raises:
        OSError: the file cannot be written.
    """
    files.write(path, lambda part: _fill(part, archive))


def _fill(path: Path, archive: Archive) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED, allowZip64=True) as target:
        for name, value in archive.texts.items():
            member = zipfile.ZipInfo(f"{name}.json", _DATE)
            member.compress_type = zipfile.ZIP_DEFLATED
            target.writestr(member, json.dumps(value, separators=(",", ":"), allow_nan=False))
        for number, array in enumerate(archive.arrays):
            member = zipfile.ZipInfo(_member(number), _DATE)
            with target.open(member, "w", force_zip64=True) as stream:
                np.lib.format.write_array(stream, array, allow_pickle=False)


def read_text(path: Path, name: str) -> Any:
    """One text of an archive.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError, KeyError: the file is no archive, is damaged, or has no text of this name.
    """
    try:
        with zipfile.ZipFile(path) as source:
            return json.loads(source.read(f"{name}.json"))
    except FileNotFoundError:
        raise
    except _UNREADABLE as err:
        raise ValueError(str(err)) from err


def read_arrays(path: Path, count: int) -> list[np.ndarray]:
    """The first `count` arrays of an archive.

    Raises:
        ValueError, KeyError: the file is no archive, is damaged, or has fewer arrays.
    """
    try:
        with zipfile.ZipFile(path) as source:
            found = []
            for number in range(count):
                with source.open(_member(number)) as stream:
                    found.append(np.lib.format.read_array(stream, allow_pickle=False))
            return found
    except _UNREADABLE as err:
        raise ValueError(str(err)) from err


def _member(number: int) -> str:
    return f"arrays/{number}.npy"
