"""The command `bayesgen certify`: certificates against label corruption."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from bayesgen.commands.console import table
from bayesgen.commands.options import parse_groups, parse_levels
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


def certify(
    data: Data = "digits",
    data_dir: DataDir = None,
    csv: Csv = None,
    target: Target = None,
    sep: Sep = ",",
    train: Train = None,
    test: Test = None,
    groups: Annotated[
        str | None,
        typer.Option(
            help="Groups of classes, e.g. 0/1 or 0,1,2,3,4/5,6,7,8,9. Default: every class."
        ),
    ] = None,
    levels: Levels = "0:1:0.2",
    seeds: Seeds = 1,
    kernel: Annotated[
        str, typer.Option(help="rbf, matern12, matern32, matern52, or convolutional (images).")
    ] = "rbf",
    delta: Annotated[float, typer.Option(help="Probability that a bound fails.")] = 0.05,
    bound: Annotated[
        str,
        typer.Option(
            help="maurer, mcallester, quadratic, thiemann, catoni, catoni_union or alquier."
        ),
    ] = "maurer",
    threads: Annotated[int | None, typer.Option(help="Number of CPU threads.")] = None,
    out: Annotated[Path, typer.Option(help="Folder for certify.nc and certify.png.")] = Path(
        "results/certify"
    ),
) -> None:
    """PAC-Bayes certificates of Gaussian processes, and their evidence, as labels are corrupted."""
    chosen, parts = parse_levels(levels), None if groups is None else parse_groups(groups)

    from bayesgen import experiments
    from bayesgen._internal import files
    from bayesgen.experiments.certify import summary

    given = own_data(data, data_dir, csv, target, sep, scaled_on="test")
    folder = files.writable(out)
    with on_threads(threads), progress_bar() as report:
        result = experiments.certify(
            given,
            levels=chosen,
            seeds=seeds,
            kernel=kernel,
            groups=parts,
            delta=delta,
            bound=bound,
            train=train,
            test=test,
            data_dir=data_dir,
            progress=report,
            command=command_line(),
        )
    keep(result, experiments.certify.plot(result), folder, "certify")
    console = Console(highlight=False, soft_wrap=True)
    attrs = result.attrs
    title = f"{attrs['data']}, n = {attrs['n']:,}, {attrs['classes']} classes: δ = {delta:g}"
    console.print(table(summary(result), title, {"KL": ",.1f"}))
    guessing = 1 - 1 / attrs["classes"]
    choice = "The prior was stated beforehand"
    if attrs["priors"] > 1:
        choice = f"The bound includes ln {attrs['priors']} nats for the choice of prior"
    console.print(
        f"{attrs['bound_name']}. {choice}, and nothing for the noise. Guessing has a risk of "
        f"{guessing:.3g}.\n"
        f"Wrote {folder / 'certify.png'} and {folder / 'certify.nc'}"
    )
