"""The command `bayesgen`."""

from __future__ import annotations

import sys
import warnings
from typing import Any

import typer
from rich.console import Console

from bayesgen.commands import COMMANDS
from bayesgen.commands.console import plain
from bayesgen.covariance import distributed
from bayesgen.errors import DivergedError, RankLostError

app = typer.Typer(
    help="Models judged by their marginal likelihood.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)
for command in COMMANDS:
    app.command()(command)


def main() -> None:
    """Run the command; bad input prints one clear error and exits with 2."""
    errors = Console(stderr=True, soft_wrap=True, highlight=False)

    def note(message: Warning | str, *_: Any, **__: Any) -> None:
        errors.print(f"[yellow]note:[/] {plain(message)}")

    warnings.showwarning = note
    try:
        with distributed.joined():
            app()
    except (
        ValueError,
        TypeError,
        OSError,
        MemoryError,
        ImportError,
        DivergedError,
        RankLostError,
    ) as err:
        errors.print(f"[red]error:[/] {plain(err)}")
        sys.exit(2)


@app.callback()
def _group() -> None:
    """Models judged by their marginal likelihood."""
