"""The command `bayesgen reproduce`: figures of the literature."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from bayesgen.commands.shared import command_line, keep


def reproduce(
    name: Annotated[
        str,
        typer.Argument(
            help="Name of the figure, e.g. occam or fig5. A wrong name lists all names."
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder for NAME.nc and NAME.png.")] = Path(
        "results/reproduce"
    ),
) -> None:
    """Compute a figure of the literature and write it to NAME.png and NAME.nc."""
    from bayesgen._internal import checks, files
    from bayesgen.experiments import REPRODUCTIONS

    experiment = REPRODUCTIONS[checks.one_of("name", name, tuple(REPRODUCTIONS))]
    folder = files.writable(out)
    result = experiment(command=command_line())
    keep(result, experiment.plot(result), folder, name)
    console = Console(highlight=False, soft_wrap=True)
    console.print(f"{result.attrs['title']}: wrote {folder / name}.png and {folder / name}.nc")
