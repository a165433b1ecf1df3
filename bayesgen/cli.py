"""The command line `bayesgen`: its commands, its options, and how errors are printed."""

from __future__ import annotations

import os
import sys
import warnings
from contextlib import AbstractContextManager, nullcontext
from typing import Annotated, Any

import typer
from rich.console import Console

import bayesgen
from bayesgen.commands import COMMANDS
from bayesgen.commands.console import plain
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
        with _processes():
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


def _processes() -> AbstractContextManager[Any]:
    """The group of processes that `torchrun` started, or nothing in a process on its own."""
    if "WORLD_SIZE" not in os.environ:
        return nullcontext()
    from bayesgen.covariance import distributed

    return distributed.joined()


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"bayesgen {bayesgen.__version__}")
        raise typer.Exit


@app.callback()
def _group(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    """Models judged by their marginal likelihood."""
