"""The command `bayesgen laplace`: one network by several curvatures."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from bayesgen.commands.console import table
from bayesgen.commands.options import dtype_named, on_device
from bayesgen.commands.shared import (
    Csv,
    Data,
    DataDir,
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


def laplace(
    data: Data = "digits",
    data_dir: DataDir = None,
    csv: Csv = None,
    target: Target = None,
    sep: Sep = ",",
    train: Train = None,
    test: Test = None,
    network: Annotated[
        str, typer.Option(help="mlp, convnet, lenet, preresnet20 or resnet18.")
    ] = "mlp",
    curvature: Annotated[
        str, typer.Option(help="Several, with commas, of ggn, hessian, kron, diag, last_layer.")
    ] = "ggn,kron,diag,last_layer",
    level: Annotated[float, typer.Option(help="Share of labels that are drawn anew.")] = 0.0,
    prior_precision: Annotated[
        float | None,
        typer.Option(help="Prior precision of every weight. Default: one learnt for each layer."),
    ] = None,
    epochs: Annotated[int, typer.Option(help="Epochs of Adam.")] = 100,
    steps: Annotated[int, typer.Option(help="Largest number of L-BFGS steps to a mode.")] = 300,
    seed: Annotated[
        int,
        typer.Option(help="Seed of the corruption, the first weights and the order of the data."),
    ] = 0,
    device: Annotated[str, typer.Option(help="cpu, cuda or mps.")] = "cpu",
    dtype: Annotated[str, typer.Option(help="float64 or float32.")] = "float64",
    threads: Annotated[int | None, typer.Option(help="Number of CPU threads.")] = None,
    out: Annotated[Path, typer.Option(help="Folder for laplace.nc and laplace.png.")] = Path(
        "results/laplace"
    ),
) -> None:
    """Train a network and compute its Laplace evidence and predictions by each curvature."""
    from bayesgen import experiments
    from bayesgen._internal import files
    from bayesgen.experiments.laplace import summary

    place = on_device(device, dtype)
    arithmetic = dtype_named(dtype)
    given = own_data(data, data_dir, csv, target, sep, dtype=arithmetic)
    folder = files.writable(out)
    with on_threads(threads), progress_bar() as report:
        result = experiments.laplace(
            given,
            network,
            [name.strip() for name in curvature.split(",")],
            level=level,
            prior_precision=prior_precision,
            epochs=epochs,
            steps=steps,
            seed=seed,
            train_points=train,
            test=test,
            data_dir=data_dir,
            dtype=arithmetic,
            device=place,
            progress=report,
            command=command_line(),
        )
    keep(result, experiments.laplace.plot(result), folder, "laplace")
    attrs, console = result.attrs, Console(highlight=False, soft_wrap=True)
    title = (
        f"{network} ({attrs['parameters']:,} weights) on {attrs['data']}, n = {attrs['n']:,}, "
        f"train error {attrs['train_error']:.3f}"
    )
    console.print(table(summary(result), title, {"N_eff": ",.0f"}))
    learnt = ", ".join(f"{value:.3g}" for value in result.prior_precision.values)
    how = "learnt" if prior_precision is None else "given"
    console.print(f"Prior precision of each layer ({how}): {learnt}.")
    for name, excluded in zip(result.curvature.values, result.excludes.values, strict=True):
        if excluded:
            console.print(
                f"{name}: the complexity excludes the {excluded}; not comparable with the others."
            )
    console.print(
        "The evidence is in nats per observation; uniform guessing has "
        f"{-math.log(attrs['classes']):.3f}. Gain is what a Newton step to the mode would gain; "
        "above about 0.2 nats per observation the weights are not at a mode. Error, negative "
        "log-likelihood (NLL) and expected calibration error (ECE) are those of clean test "
        "labels.\n"
        f"Wrote {folder / 'laplace.png'} and {folder / 'laplace.nc'}"
    )
