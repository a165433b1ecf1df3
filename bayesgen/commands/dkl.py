"""The command `bayesgen dkl`: deep kernels beside a fixed kernel."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bayesgen.commands.console import print_models
from bayesgen.commands.options import parse_levels
from bayesgen.commands.shared import (
    Csv,
    Data,
    DataDir,
    Levels,
    Seeds,
    Sep,
    Target,
    Test,
    Train,
    command_line,
    keep,
    on_threads,
    own_data,
    progress_bar,
)

_MODELS = ("gp", "dkl", "dkl-conditional", "dkl-lipschitz", "dkl-prior")


def dkl(
    data: Data = "digits",
    data_dir: DataDir = None,
    csv: Csv = None,
    target: Target = None,
    sep: Sep = ",",
    train: Train = 300,
    test: Test = None,
    levels: Levels = "0,0.5,1",
    seeds: Seeds = 1,
    threads: Annotated[int | None, typer.Option(help="Number of CPU threads.")] = None,
    out: Annotated[Path, typer.Option(help="Folder for dkl.nc and dkl.png.")] = Path("results/dkl"),
) -> None:
    """Compare deep kernels, remedies against their overfitting, and a fixed kernel."""
    chosen = parse_levels(levels)

    from bayesgen import experiments
    from bayesgen._internal import files

    given = own_data(data, data_dir, csv, target, sep)
    folder = files.writable(out)
    with on_threads(threads), progress_bar() as report:
        result = experiments.corruption_models(
            given,
            _MODELS,
            levels=chosen,
            seeds=seeds,
            train=train,
            test=test,
            data_dir=data_dir,
            store=folder / "cells",
            progress=report,
            command=command_line(),
        )
    keep(result, experiments.corruption_models.plot(result), folder, "dkl")
    print_models(result, folder, "dkl")
