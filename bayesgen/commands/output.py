"""What a command prints: its result on stdout, and notes and progress on stderr."""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from bayesgen._internal import interrupts
from bayesgen.commands.console import plain, table

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Shown:
    """A table that a command showed, with the arguments of `Output.table`."""

    frame: pd.DataFrame
    title: str
    formats: Mapping[str, str]
    headings: Mapping[str, str] | None
    rows: int | None


class Output:
    """The output of one command.

    Args:
        quiet: whether notes and progress are left out.
        as_json: whether the result is one JSON document and not text. It holds `command`, `tables`
            (each a list of records), `attrs`, `notes` and `files`.

    Attributes:
        quiet, as_json: as given.
        tables: the tables of the result.
        said: sentences about the result.
        noted: notes, which are no part of the result.
    """

    def __init__(self, quiet: bool = False, as_json: bool = False) -> None:
        self.quiet, self.as_json = quiet, as_json
        self.tables: list[Shown] = []
        self.said: list[str] = []
        self.noted: list[str] = []
        self._document: dict[str, Any] = {"tables": {}, "attrs": {}, "notes": [], "files": []}

    def table(
        self,
        frame: pd.DataFrame,
        title: str,
        formats: Mapping[str, str] | None = None,
        *,
        name: str = "summary",
        rows: int | None = None,
        headings: Mapping[str, str] | None = None,
    ) -> None:
        """Show a table.

        Args:
            frame: the table.
            title: heading of the printed table.
            formats: format by column.
            headings: printed heading by column; None prints every column under its own name. Only
                these columns are printed.
            name: name of the table in the document.
            rows: number of rows that are printed; the document has all.
        """
        self.tables.append(Shown(frame, title, formats or {}, headings, rows))
        records = frame.reset_index().to_dict("records")
        self._document["tables"][name] = [
            {_key(key): _value(value) for key, value in record.items()} for record in records
        ]
        if not self.as_json:
            names = headings or {str(column): str(column) for column in frame}
            shown = frame.iloc[:rows][[*names]].rename(columns=dict(names))
            self._print(table(shown, title, {names[k]: v for k, v in (formats or {}).items()}))

    def facts(self, facts: Mapping[str, Any]) -> None:
        """Show names and values; the document has them among `attrs`."""
        self.attrs(facts)
        if not self.as_json:
            from rich.table import Table

            shown = Table(show_header=False, box=None)
            for key, value in facts.items():
                shown.add_row(key, plain(value))
            self._print(shown)

    def attrs(self, attrs: Mapping[str, Any]) -> None:
        """Add facts to the document."""
        self._document["attrs"] |= {str(key): _value(value) for key, value in attrs.items()}

    def say(self, text: str) -> None:
        """Print a sentence about the result; the document has it among `notes`."""
        self.said.append(text)
        if self.as_json:
            self._document["notes"].append(text)
        else:
            self._print(plain(text))

    def show(self, thing: Any) -> None:
        """Print something that rich draws, and that the document has in another form."""
        if not self.as_json:
            self._print(thing)

    def note(self, text: str) -> None:
        """Print a note on stderr, or nothing where the command is quiet."""
        self.noted.append(text.removeprefix("note: "))
        self._document["notes"].append(text.removeprefix("note: "))
        if not self.quiet:
            head, colon, rest = text.partition("note: ")
            to_stderr(
                "[yellow]note:[/] {}" if colon and not head else "{}", rest if colon else head
            )

    def wrote(self, *paths: Path) -> None:
        """Name the files that hold the result."""
        self._document["files"] += [str(path) for path in paths]
        if not self.as_json:
            names = [str(path) for path in paths]
            words = names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
            self._print(plain(f"Wrote {words}"))

    @contextmanager
    def progress(self, title: str = "loading") -> Iterator[Any]:
        """A progress bar on stderr, as a function progress(done, expected, what).

        Where the work is stopped, the exception gets an attribute `steps` about how far it was.
        """
        from bayesgen._internal import progress_bar
        from bayesgen.covariance import distributed

        off = self.quiet or not distributed.first()
        last: tuple[int, int, str] | None = None
        with progress_bar.made(disable=off) as bar:
            task = bar.add_task(title, total=None)

            def report(done: int, expected: int, what: str) -> None:
                nonlocal last
                last = done, expected, what
                interrupts.check()
                bar.update(task, completed=done, total=expected, description=what)

            try:
                yield report
            except BaseException as err:
                if last is not None:
                    err.__dict__["steps"] = f" at {last[2]} ({last[0]} of {last[1]} steps done)"
                bar.update(task, visible=False)
                raise
            bar.update(task, description="done", completed=1, total=1)

    @contextmanager
    def running(self, command: str) -> Iterator[None]:
        """Run a command inside, and print its document at the end.

        The document is printed in one piece. Where the command fails after its result is known, as
        on a full disk, the document has the result and the `error`.
        """
        if not self.as_json:
            yield
            return
        self._document = {"command": command, **self._document}
        real = sys.stdout
        try:
            with redirect_stdout(sys.stderr):
                yield
        except Exception as err:
            if self._document["tables"]:
                self._document["error"] = str(err)
                self._dump(real)
            raise
        self._dump(real)

    def _dump(self, stream: Any) -> None:
        if os.environ.get("RANK", "0") != "0":  # another process of `torchrun` prints it
            return
        json.dump(self._document, stream, ensure_ascii=False, indent=2, allow_nan=False)
        stream.write("\n")
        stream.flush()

    def _print(self, thing: Any) -> None:
        console = Console(highlight=False, soft_wrap=True)
        # A table that is wider than the terminal is not cut.
        wide = Console(width=10_000)
        least = 0 if isinstance(thing, str) else wide.measure(thing).minimum
        if least > console.width:
            console = Console(highlight=False, soft_wrap=True, width=least)
        console.print(thing)


_current: ContextVar[Output | None] = ContextVar("output", default=None)


def current() -> Output:
    """The output of the command that is running."""
    return _current.get() or Output()


@contextmanager
def made(quiet: bool, as_json: bool) -> Iterator[Output]:
    """The output of the command inside."""
    token = _current.set(Output(quiet, as_json))
    try:
        yield current()
    finally:
        _current.reset(token)


def to_stderr(markup: str, text: str) -> None:
    """Print a text on stderr, in place of {} in a text with markup."""
    console = Console(stderr=True, soft_wrap=True, highlight=False)
    console.print(markup.format(plain(text)))


def _key(name: object) -> str:
    """The name of a column, without the hyphen where its heading is broken."""
    return str(name).replace("- ", "")


def _value(value: Any) -> Any:
    """A value as JSON has it: numbers that are not finite become null."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, Mapping):
        return {str(key): _value(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_value(each) for each in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, bool | int | str) else str(value)
