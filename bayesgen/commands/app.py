"""The commands as one application, as `bayesgen --help` lists them."""

from __future__ import annotations

from typing import Annotated

import typer

import bayesgen
from bayesgen.commands.certify import certify
from bayesgen.commands.command import command
from bayesgen.commands.corruption import corruption
from bayesgen.commands.dkl import dkl
from bayesgen.commands.info import info
from bayesgen.commands.laplace import laplace
from bayesgen.commands.predict import predict
from bayesgen.commands.reproduce import reproduce
from bayesgen.commands.select import select

app = typer.Typer(
    help="Models judged by their marginal likelihood.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)
for function in (corruption, certify, select, predict, laplace, dkl, reproduce, info):
    app.command()(command(function))


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
