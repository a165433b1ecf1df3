"""The command `bayesgen laplace`: one network by several curvatures."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bayesgen.commands import folder, output
from bayesgen.commands.call import command_line
from bayesgen.commands.choices import choice
from bayesgen.commands.options import check_device, dtype_named, on_device
from bayesgen.commands.shared import (
    COMPUTATION,
    DATA,
    MODEL,
    Csv,
    Data,
    DataDir,
    Device,
    Dtype,
    Overwrite,
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

if TYPE_CHECKING:
    import xarray as xr

NETWORKS = ("mlp", "convnet", "lenet", "preresnet20", "resnet18")
CURVATURES = ("ggn", "hessian", "kron", "diag", "last_layer")


def laplace(
    data: Data = "digits",
    data_dir: DataDir = None,
    csv: Csv = None,
    target: Target = None,
    sep: Sep = ",",
    train: Train = None,
    test: Test = None,
    network: Annotated[
        str,
        choice(
            *NETWORKS,
            help="Network",
            registry="bayesgen.experiments.laplace:NETWORKS",
            panel=MODEL,
        ),
    ] = "mlp",
    curvature: Annotated[
        str,
        choice(
            *CURVATURES,
            help="Curvatures",
            registry="bayesgen.curvature.factory:CURVATURES",
            several=True,
            panel=MODEL,
        ),
    ] = "ggn,kron,diag,last_layer",
    level: Annotated[
        float,
        typer.Option(
            min=0, max=1, help="Share of labels that are drawn anew.", rich_help_panel=DATA
        ),
    ] = 0.0,
    prior_precision: Annotated[
        float | None,
        typer.Option(
            help="Prior precision of every weight. Default: one learnt for each layer.",
            rich_help_panel=MODEL,
        ),
    ] = None,
    epochs: Annotated[
        int, typer.Option(min=1, help="Epochs of Adam.", rich_help_panel=COMPUTATION)
    ] = 100,
    steps: Annotated[
        int,
        typer.Option(
            min=1, help="Largest number of L-BFGS steps to a mode.", rich_help_panel=COMPUTATION
        ),
    ] = 300,
    seed: Annotated[
        int,
        typer.Option(
            min=0,
            help="Seed of the corruption, the first weights and the order of the data.",
            rich_help_panel=COMPUTATION,
        ),
    ] = 0,
    device: Device = "cpu",
    dtype: Dtype = "float64",
    threads: Threads = None,
    out: Annotated[
        Path | None, out_option("laplace.nc and laplace.png", "laplace-DATA-NETWORK")
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Train a network and compute its Laplace evidence and predictions by each curvature."""
    check_device(device, dtype)
    if prior_precision is not None and not 0 < prior_precision < math.inf:
        raise ValueError(f"prior_precision must be positive and finite, got {prior_precision:g}")
    given = source(data, data_dir, csv, target, sep)
    names = ("laplace.nc", "laplace.png")
    with folder.results(out, (given.name, network), names, overwrite) as place:
        from bayesgen import experiments

        place_of, arithmetic = on_device(device, dtype), dtype_named(dtype)
        own = given.load(dtype=arithmetic)
        with on_threads(threads), output.current().progress() as report:
            result = experiments.laplace(
                own,
                network,
                curvature.split(","),
                level=level,
                prior_precision=prior_precision,
                epochs=epochs,
                steps=steps,
                seed=seed,
                train_points=train,
                test=test,
                data_dir=data_dir,
                dtype=arithmetic,
                device=place_of,
                progress=report,
                command=command_line(),
            )
        _print(result, network, "learnt" if prior_precision is None else "given")
        keep(result, experiments.laplace.plot, place)


def _print(result: xr.Dataset, network: str, how: str) -> None:
    from bayesgen.experiments.laplace import summary

    attrs, shown = result.attrs, output.current()
    title = (
        f"{network} ({attrs['parameters']:,} weights) on {attrs['data']}, n = {attrs['n']:,}, "
        f"train error {attrs['train_error']:.3f}"
    )
    shown.table(summary(result), title, {"N_eff": ",.0f"})
    learnt = ", ".join(f"{value:.3g}" for value in result.prior_precision.values)
    shown.say(f"Prior precision of each layer ({how}): {learnt}.")
    for name, excluded in zip(result.curvature.values, result.excludes.values, strict=True):
        if excluded:
            shown.say(
                f"{name}: the complexity excludes the {excluded}; not comparable with the others."
            )
    shown.say(
        "The evidence is in nats per observation; uniform guessing has "
        f"{-math.log(attrs['classes']):.3f}. Gain is what a Newton step to the mode would gain; "
        "above about 0.01 nats per observation the weights are not at a mode. Error, negative "
        "log-likelihood (NLL) and expected calibration error (ECE) are those of clean test "
        "labels."
    )
