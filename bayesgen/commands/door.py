"""Errors in the words of the command line: arguments of functions become names of options."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

# Arguments of inner functions that are called otherwise than the option that sets them.
_OTHERS = {
    "name": "data",
    "models": "model",
    "curvatures": "curvature",
    "train_points": "train",
    "path": "text",
    "labels": "target",
    "table": "csv",
}
# The first words of a message up to its verb, such as "workers and scheduler".
_SUBJECT = re.compile(
    r"^(?P<subject>[a-z_]+(?:, [a-z_]+)*(?:,? and [a-z_]+)?)"
    r"(?= (?:must|is|are|has|have|can|need|needs|serve)\b)"
)
# What an experiment says of a setting that it does not have.
_SETTING = re.compile(r"has no setting '(\w+)'")
_FULL = ("no space left", "disk quota", "errno = 28", "errno = 122")


def worded(message: str, options: Mapping[str, str]) -> str:
    """A message that begins with names of arguments, with the options that set them.

    Args:
        message: the message of an error.
        options: name of each parameter of the command → the option, such as "--data-dir".

    Example:
        >>> worded("data_dir must be a folder", {"data_dir": "--data-dir"})
        '--data-dir must be a folder'
        >>> worded("x must hold images", {"data_dir": "--data-dir"})
        'x must hold images'
    """
    message = _SETTING.sub(lambda m: f"has no option {options.get(m[1], m[1])}", message)
    found = _SUBJECT.match(message)
    if found is None:
        return message

    def option(word: re.Match[str]) -> str:
        name = word[0]
        return options.get(name) or options.get(_OTHERS.get(name, ""), name)

    subject = re.sub(r"(?<![\w-])[a-z_]+(?![\w-])", option, found["subject"])
    return subject + message[found.end() :]


def is_full(err: BaseException) -> bool:
    """Whether an error, of the system or of HDF5, means that a disk is full."""
    if isinstance(err, OSError) and err.errno in (errno.ENOSPC, errno.EDQUOT):
        return True
    return isinstance(err, OSError | RuntimeError) and any(w in str(err).lower() for w in _FULL)


def full(folder: Path, wanted: int | None = None) -> OSError:
    """The error that there is no room in a folder.

    Args:
        folder: the folder.
        wanted: number of bytes that should have been written.
    """
    import shutil

    need = "" if wanted is None else f"; {_size(wanted)} are wanted"
    there = next(path for path in (folder, *folder.absolute().parents) if path.is_dir())
    left = _size(shutil.disk_usage(there).free)
    return OSError(
        f"the disk is full: {folder} has {left} left{need}. Free some space, or choose another "
        "folder with --out, and run the command again"
    )


def _size(count: int) -> str:
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{count / size:,.1f} {unit}"
    return f"{count} bytes"


def options_of(params: Iterable[object]) -> dict[str, str]:
    """Name of each parameter of a command → how it is written on the command line."""
    from bayesgen.commands.choices import shown

    return {str(getattr(param, "name", "")): shown(param) for param in params}
