"""The command `bayesgen corruption`: evidence against label corruption."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Annotated, Any

import typer

from bayesgen.commands import folder, output
from bayesgen.commands.call import command_line
from bayesgen.commands.choices import choice, kernel_text
from bayesgen.commands.options import check_device, dtype_named, on_device, parse_levels
from bayesgen.commands.printed import print_corruption, print_models
from bayesgen.commands.shared import (
    COMPUTATION,
    DATA,
    MODEL,
    Csv,
    Data,
    DataDir,
    Device,
    Dtype,
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

MODELS = ("gp", "polynomial", "dkl", "dkl-conditional", "dkl-lipschitz", "dkl-prior",
          "gp-laplace", "mlp", "resnet")  # fmt: skip
EVIDENCES = ("laplace", "tangent", "prequential", "annealed")
_FILES = ("corruption.nc", "corruption.png")


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
        choice(
            *MODELS,
            help="Models",
            registry="bayesgen.experiments.corruption_models:MODELS",
            several=True,
            panel=MODEL,
        ),
    ] = "gp",
    evidence: Annotated[
        str | None,
        choice(
            *EVIDENCES,
            help="Estimates of the evidence of mlp, resnet or gp-laplace",
            more="Default: the model's own.",
            registry="bayesgen.experiments.corruption_models:EVIDENCES",
            several=True,
            panel=MODEL,
        ),
    ] = None,
    seeds: Seeds = 3,
    seed: Annotated[int, typer.Option(min=0, help="First seed.", rich_help_panel=DATA)] = 0,
    kernel: Annotated[str, kernel_text(MODEL)] = "rbf",
    targets: Annotated[
        str, choice("one-hot", "dirichlet", help="Targets of gp", panel=MODEL)
    ] = "one-hot",
    noise: Annotated[
        float | None,
        typer.Option(help="Noise variance of gp to keep. Default: learnt.", rich_help_panel=MODEL),
    ] = None,
    kind: Annotated[
        str,
        choice(
            "uniform",
            "flip",
            help="A label is drawn anew, or replaced by the next class",
            panel=DATA,
        ),
    ] = "uniform",
    device: Device = "cpu",
    dtype: Dtype = "float64",
    threads: Threads = None,
    workers: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Number of local processes, for several models.",
            rich_help_panel=COMPUTATION,
        ),
    ] = None,
    scheduler: Annotated[
        str | None,
        typer.Option(
            help="Address of a Dask scheduler, in place of local processes.",
            rich_help_panel=COMPUTATION,
        ),
    ] = None,
    engine: Annotated[
        str | None,
        choice(
            "spectrum",
            "cholesky",
            "krylov",
            help="Engine of gp",
            more="Default: chosen by size and memory.",
            panel=COMPUTATION,
        ),
    ] = None,
    work: Annotated[
        Path | None,
        typer.Option(
            help="Folder with what a large run resumes from (n² numbers). Default: in --out.",
            file_okay=False,
            rich_help_panel=COMPUTATION,
        ),
    ] = None,
    out: Annotated[
        Path | None, out_option("corruption.nc and corruption.png", "corruption-DATA-MODEL")
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Compute the evidence, its parts and the errors of models as labels are corrupted."""
    chosen, several = parse_levels(levels), model.split(",")
    if evidence is not None and several == ["gp"]:
        raise ValueError(
            "evidence is an option of other models, such as --model mlp: that of gp is exact"
        )
    if several != ["gp"]:
        if (kernel, targets, noise) != ("rbf", "one-hot", None):
            raise ValueError("kernel, targets and noise are options of --model gp alone")
        if engine is not None or work is not None:
            raise ValueError("engine and work are options of --model gp alone")
    elif workers is not None or scheduler is not None:
        raise ValueError("workers and scheduler serve several models: --model gp is one fit")
    check_device(device, dtype)
    given = source(data, data_dir, csv, target, sep)
    names = (given.name, model) if evidence is None else (given.name, model, evidence)
    with folder.results(out, names, _FILES, overwrite) as place, on_threads(threads):
        settings: dict[str, Any] = {
            "levels": chosen,
            "seeds": list(range(seed, seed + seeds)),
            "kind": kind,
            "train": train,
            "test": test,
            "data_dir": data_dir,
            "dtype": dtype_named(dtype),
            "device": on_device(device, dtype),
            "command": command_line(),
        }
        own = given.load(dtype=settings["dtype"])
        if several == ["gp"]:
            settings |= {"kernel": kernel, "targets": targets, "noise": noise, "engine": engine}
            _process(own, place, work, settings)
        else:
            settings["evidence"] = None if evidence is None else evidence.split(",")
            _models(own, several, place, workers, scheduler, settings)


def _process(own: Any, place: folder.Results, work: Path | None, settings: dict[str, Any]) -> None:
    """The study of a Gaussian process."""
    from bayesgen import experiments
    from bayesgen._internal import files
    from bayesgen.covariance import distributed
    from bayesgen.experiments.corruption import summary

    scratch = place.path / "work" if work is None else files.writable(work)
    with output.current().progress() as report:
        result = experiments.corruption(own, work=scratch, progress=report, **settings)
    if not distributed.first():
        return
    print_corruption(result, summary(result))
    keep(result, experiments.corruption.plot, place)
    if work is None:
        shutil.rmtree(scratch, ignore_errors=True)  # the result is safe


def _models(
    own: Any,
    several: list[str],
    place: folder.Results,
    workers: int | None,
    scheduler: str | None,
    settings: dict[str, Any],
) -> None:
    """The study of several models."""
    from bayesgen import experiments
    from bayesgen.experiments import executor as sweeps

    pool = sweeps.executor(workers, scheduler)
    with pool as executor, output.current().progress() as report:
        result = experiments.corruption_models(
            own,
            several,
            executor=executor,
            store=place.path / "cells",
            progress=report,
            **settings,
        )
    print_models(result)
    keep(result, experiments.corruption_models.plot, place)
