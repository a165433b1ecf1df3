"""The command `bayesgen dkl`: deep kernels beside a fixed kernel."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from bayesgen.commands import folder, output
from bayesgen.commands.call import command_line
from bayesgen.commands.options import parse_levels
from bayesgen.commands.printed import print_models
from bayesgen.commands.shared import (
    Csv,
    Data,
    DataDir,
    Levels,
    Overwrite,
    Seeds,
    Sep,
    Target,
    Test,
    Threads,
    Train,
    keep,
    on_threads,
    out_option,
    source,
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
    threads: Threads = None,
    out: Annotated[Path | None, out_option("dkl.nc and dkl.png", "dkl-DATA")] = None,
    overwrite: Overwrite = False,
) -> None:
    """Compare deep kernels, remedies against their overfitting, and a fixed kernel."""
    chosen = parse_levels(levels)
    given = source(data, data_dir, csv, target, sep)
    with folder.results(out, (given.name,), ("dkl.nc", "dkl.png"), overwrite) as place:
        from bayesgen import experiments

        own = given.load()
        with on_threads(threads), output.current().progress() as report:
            result = experiments.corruption_models(
                own,
                _MODELS,
                levels=chosen,
                seeds=seeds,
                train=train,
                test=test,
                data_dir=data_dir,
                store=place.path / "cells",
                progress=report,
                command=command_line(),
            )
        print_models(result)
        keep(result, experiments.corruption_models.plot, place)
