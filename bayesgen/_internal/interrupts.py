"""SIGINT and SIGTERM as one exception, which ends a command without a traceback."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stopped(BaseException):
    """The process was asked to end.

    It is no `KeyboardInterrupt`, which argument parsers catch and print in their own words.

    Attributes:
        number: number of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class Watch:
    """Which signal has arrived.

    Attributes:
        number: number of the signal, or None.
    """

    number: int | None = None

    def check(self) -> None:
        """Raise `Stopped` where a signal has arrived, even if its exception was swallowed."""
        if self.number is not None:
            raise Stopped(self.number)


_watch = Watch()


@contextmanager
def watched() -> Iterator[Watch]:
    """Raise `Stopped` in the main thread at the first signal, and end at once at the second.

    Code that is interrupted inside an import or a destructor may print or swallow the exception,
    or raise another one. While a signal is pending nothing is printed of such an exception, and
    `Watch.number` tells that one has arrived. In another thread than the main one nothing is done.
    """
    global _watch
    _watch = watch = Watch()

    def handle(number: int, _: Any) -> None:
        if watch.number is not None:
            _end_children()
            os._exit(128 + number)
        watch.number = number
        raise Stopped(number)

    if threading.current_thread() is not threading.main_thread():
        yield watch
        return
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    unraisable, in_thread = sys.unraisablehook, threading.excepthook
    sys.unraisablehook = lambda about: None if watch.number is not None else unraisable(about)
    threading.excepthook = lambda about: None if watch.number is not None else in_thread(about)
    try:
        for number, handler in before.items():
            if handler != signal.SIG_IGN:  # `nohup` and shells ignore signals on purpose
                signal.signal(number, handle)
        yield watch
    finally:
        sys.unraisablehook, threading.excepthook = unraisable, in_thread
        for number, handler in before.items():
            # A second signal while the interpreter ends would print a traceback.
            signal.signal(number, handler if watch.number is None else signal.SIG_IGN)


def check() -> None:
    """Raise `Stopped` where a signal has arrived in the command that is running."""
    _watch.check()


@contextmanager
def kept_from_children() -> Iterator[None]:
    """Start processes inside that SIGINT does not reach; their parent ends them.

    A key press sends SIGINT to all processes of a terminal, and workers would each print a
    traceback. A signal that arrives meanwhile reaches this process at the end of the block.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _end_children() -> None:
    processes = sys.modules.get("multiprocessing")
    for child in processes.active_children() if processes else ():
        child.kill()
