"""The command `bayesgen corruption`: evidence against label corruption."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Annotated, Any

import typer

from bayesgen.commands.console import print_corruption, print_models
from bayesgen.commands.options import dtype_named, on_device, parse_levels
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


def corruption(
    data: Data = "digits",
    data_dir: DataDir = None,
    csv: Csv = None,
    target: Target = None,
    sep: Sep = ",",
    train: Train = None,
    test: Test = None,
    levels: Levels = "0:1:0.1",
    model: Annotated[
        str,
        typer.Option(
            help="One or several, with commas, of gp, polynomial, dkl, gp-laplace, mlp, resnet."
        ),
    ] = "gp",
    seeds: Seeds = 3,
    seed: Annotated[int, typer.Option(help="First seed.")] = 0,
    kernel: Annotated[str, typer.Option(help="rbf, matern12, matern32 or matern52.")] = "rbf",
    targets: Annotated[str, typer.Option(help="one-hot or dirichlet.")] = "one-hot",
    noise: Annotated[
        float | None, typer.Option(help="Noise variance to keep. Default: learnt.")
    ] = None,
    kind: Annotated[
        str, typer.Option(help="uniform draws a label anew, flip replaces it by the next class.")
    ] = "uniform",
    device: Annotated[str, typer.Option(help="cpu, cuda or mps.")] = "cpu",
    dtype: Annotated[str, typer.Option(help="float64 or float32.")] = "float64",
    threads: Annotated[
        int | None, typer.Option(help="Number of CPU threads. Default: the libraries' choice.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(help="Number of local processes, for several models.")
    ] = None,
    scheduler: Annotated[
        str | None, typer.Option(help="Address of a Dask scheduler, in place of local processes.")
    ] = None,
    engine: Annotated[
        str | None,
        typer.Option(help="spectrum, cholesky or krylov. Default: chosen by size and memory."),
    ] = None,
    work: Annotated[
        Path | None,
        typer.Option(
            help="Folder with what a large run resumes from (n² numbers). Default: in --out."
        ),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for corruption.nc and corruption.png.")] = Path(
        "results/corruption"
    ),
) -> None:
    """Compute the evidence, its parts and the errors of models as labels are corrupted."""
    chosen = parse_levels(levels)
    if seeds < 1:
        raise ValueError(f"seeds must be at least 1, got {seeds}")

    from bayesgen import experiments
    from bayesgen._internal import files
    from bayesgen.covariance import distributed
    from bayesgen.experiments import executor as sweeps
    from bayesgen.experiments.corruption import summary

    arithmetic = dtype_named(dtype)
    place = on_device(device, dtype)
    folder = files.writable(out)
    given = own_data(data, data_dir, csv, target, sep, dtype=arithmetic)
    several = [name.strip() for name in model.split(",")]
    settings: dict[str, Any] = {
        "levels": chosen,
        "seeds": list(range(seed, seed + seeds)),
        "kind": kind,
        "train": train,
        "test": test,
        "data_dir": data_dir,
        "dtype": arithmetic,
        "device": place,
        "command": command_line(),
    }
    if several != ["gp"]:
        if (kernel, targets, noise) != ("rbf", "one-hot", None):
            raise ValueError("kernel, targets and noise are options of --model gp alone")
        if engine is not None or work is not None:
            raise ValueError("engine and work are options of --model gp alone")
        pool = sweeps.executor(workers, scheduler)
        with on_threads(threads), pool as executor, progress_bar() as report:
            result = experiments.corruption_models(
                given,
                several,
                executor=executor,
                store=folder / "cells",
                progress=report,
                **settings,
            )
        keep(result, experiments.corruption_models.plot(result), folder, "corruption")
        return print_models(result, folder)
    if workers is not None or scheduler is not None:
        raise ValueError("workers and scheduler serve several models: --model gp is one fit")
    scratch = folder / "work" if work is None else work
    with on_threads(threads), progress_bar() as report:
        result = experiments.corruption(
            given,
            kernel=kernel,
            targets=targets,
            noise=noise,
            engine=engine,
            work=scratch,
            progress=report,
            **settings,
        )
    if not distributed.first():
        return None
    keep(result, experiments.corruption.plot(result), folder, "corruption")
    if work is None:
        shutil.rmtree(scratch, ignore_errors=True)  # the result is safe
    return print_corruption(result, summary(result), folder)
