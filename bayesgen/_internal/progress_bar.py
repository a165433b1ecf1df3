"""A progress bar on stderr, drawn by rich."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from bayesgen._internal.progress import Progress

P = ParamSpec("P")
R = TypeVar("R")


@contextmanager
def reporting(
    progress: Progress | bool | None, title: str = "training", after: float = 0.0
) -> Iterator[Progress | None]:
    """The given progress function, None, or for True one that draws a progress bar on stderr.

    Args:
        progress: function progress(done, expected, what), True, or None or False for no report.
        title: first description of the bar.
        after: seconds before the bar is drawn; work that ends earlier shows none.
    """
    if progress is not None and not isinstance(progress, bool) and not callable(progress):
        raise TypeError(
            "progress must be a function progress(done, expected, what), True or None, got "
            f"{type(progress).__name__}"
        )
    if progress is not True:
        yield progress or None
        return
    bar, start = made(), time.monotonic()
    task = bar.add_task(title, total=None)
    shown = False

    def report(done: int, expected: int, what: str) -> None:
        nonlocal shown
        if not shown and time.monotonic() - start >= after:
            bar.start()
            shown = True
        bar.update(task, completed=done, total=expected, description=what)

    try:
        if after <= 0:
            bar.start()
            shown = True
        yield report
    finally:
        if shown:
            bar.stop()


def made(*, disable: bool = False) -> Any:
    """A progress bar on stderr, which is not started; a disabled one draws nothing."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress as Bar,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    return Bar(*columns, console=Console(stderr=True), disable=disable)


def shows_progress(function: Callable[P, R]) -> Callable[P, R]:
    """A function whose keyword `progress` may also be True, for a progress bar on stderr.

    Raises:
        TypeError: progress is neither a function nor True, False or None.
    """

    @wraps(function)
    def shown(*args: P.args, **kwargs: P.kwargs) -> R:
        if "progress" not in kwargs:
            return function(*args, **kwargs)
        given: Any = kwargs["progress"]
        with reporting(given, function.__name__) as report:
            kwargs["progress"] = report
            return function(*args, **kwargs)

    return shown
