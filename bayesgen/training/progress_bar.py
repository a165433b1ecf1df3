"""A progress bar for training, drawn by rich."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress as Bar,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from bayesgen._internal.progress import Progress


@contextmanager
def reporting(progress: Progress | bool | None) -> Iterator[Progress | None]:
    """The given progress function, None, or for True one that draws a progress bar on stderr."""
    if progress is not True:
        yield progress or None
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Bar(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("training", total=None)

        def report(done: int, expected: int, what: str) -> None:
            bar.update(task, completed=done, total=expected, description=what)

        yield report
