"""The command `bayesgen reproduce`: figures and claims of the literature."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from bayesgen.commands.shared import command_line, keep, progress_bar


def reproduce(
    name: Annotated[
        str,
        typer.Argument(
            help="Name of the figure, e.g. occam or fig5. A wrong name lists all names."
        ),
    ],
    quick: Annotated[
        bool, typer.Option("--quick", help="Run with small settings, in under two minutes.")
    ] = False,
    out: Annotated[Path, typer.Option(help="Folder for NAME.nc and NAME.png.")] = Path(
        "results/reproduce"
    ),
) -> None:
    """Compute a figure of the literature and write it to NAME.png and NAME.nc."""
    from bayesgen import experiments
    from bayesgen._internal import checks, files

    experiment = experiments.REPRODUCTIONS[
        checks.one_of("name", name, tuple(experiments.REPRODUCTIONS))
    ]
    folder = files.writable(out)
    settings: dict[str, Any] = {"quick": quick, "store": folder / "cells"}
    with progress_bar() as report:
        result = experiments.reproduce(name, progress=report, command=command_line(), **settings)
    keep(result, experiment.plot(result), folder, name)
    console = Console(highlight=False, soft_wrap=True)
    console.print(f"{result.attrs['title']}: wrote {folder / name}.png and {folder / name}.nc")
