"""Warnings that point at the line of the user's program."""

from __future__ import annotations

import os
import sys
import sysconfig
import warnings
from pathlib import Path

# Folders of this package, of the standard library and of installed packages.
_OURS = str(Path(__file__).resolve().parents[1]) + os.sep
_LIBRARIES = tuple(
    str(Path(folder).resolve()) + os.sep
    for name in ("stdlib", "platstdlib", "purelib", "platlib")
    if (folder := sysconfig.get_paths().get(name))
)


def warn(message: str, category: type[Warning] = RuntimeWarning) -> None:
    """Warn at the innermost line that lies neither in this package nor in a library.

    Where there is no such line, as on the command line, the outermost one is taken.

    Args:
        message: what happened and what to do.
        category: class of the warning.

    Example:
        >>> with warnings.catch_warnings(record=True) as caught:
        ...     warnings.simplefilter("always")
        ...     warn("the noise is small")
        >>> caught[0].category.__name__, str(caught[0].message)
        ('RuntimeWarning', 'the noise is small')
    """
    frame, level, outermost = sys._getframe(1), 2, 2
    found = 0
    while frame is not None:
        if not found and not _inside(frame.f_code.co_filename):
            found = level - 1
        outermost, level = level - 1, level + 1
        frame = frame.f_back  # type: ignore[assignment]
    warnings.warn(message, category, stacklevel=(found or outermost) + 1)


def _inside(file: str) -> bool:
    """Whether a file belongs to this package, to a library or to the import system."""
    if file.startswith("<frozen"):
        return True
    path = os.path.realpath(file)
    return path.startswith(_OURS) or path.startswith(_LIBRARIES)
