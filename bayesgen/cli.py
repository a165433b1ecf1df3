"""The command line `bayesgen`: how it starts, how it ends, and how errors are printed."""

from __future__ import annotations

import os
import sys
import warnings
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from bayesgen._internal import interrupts

# What bad input and a machine without room raise; anything else is a fault of the program.
_EXPECTED = (ValueError, TypeError, OSError, MemoryError, ImportError)


def main() -> None:
    """Run the command line.

    The exit status is 0, or 2 after bad input with one error on stderr, or 130 and 143 after an
    interruption with one sentence on stderr.
    """
    with interrupts.watched() as watch:
        try:
            _run()
        except BaseException as err:
            if watch.number is None:
                if not _print_error(err):
                    raise
                code = 2
            else:
                # The interruption may have become another error, as inside an import.
                _print_interruption(watch.number, err)
                code = 128 + watch.number
        sys.exit(code)


def _run() -> None:
    from bayesgen.commands import output
    from bayesgen.commands.app import app

    before = warnings.showwarning

    def note(message: Warning | str, *_: Any, **__: Any) -> None:
        output.current().note(f"note: {message}")

    warnings.showwarning = note
    try:
        with _processes():
            app(prog_name="bayesgen")
    finally:
        warnings.showwarning = before


def _print_error(err: BaseException) -> bool:
    """Print an expected error, and whether it is one."""
    from bayesgen.errors import DivergedError, NotConvergedError, RankLostError

    if not isinstance(err, (*_EXPECTED, DivergedError, NotConvergedError, RankLostError)):
        return False
    from bayesgen.commands.output import to_stderr

    to_stderr("[red]error:[/] {}", str(err) or type(err).__name__)
    return True


def _print_interruption(number: int, err: BaseException) -> None:
    how = "interrupted" if number == 2 else "ended by a signal"
    steps, kept = getattr(err, "steps", ""), getattr(err, "kept", "nothing was kept")
    sys.stderr.write(f"{how}{steps}: {kept}\n")


def _processes() -> AbstractContextManager[Any]:
    """The group of processes that `torchrun` started, or nothing in a process on its own."""
    if "WORLD_SIZE" not in os.environ:
        return nullcontext()
    from bayesgen.covariance import distributed

    return distributed.joined()
