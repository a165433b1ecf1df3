"""The command `bayesgen certify`: certificates against label corruption."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bayesgen.commands import folder, output
from bayesgen.commands.call import command_line
from bayesgen.commands.choices import KERNELS, choice
from bayesgen.commands.options import parse_groups, parse_levels
from bayesgen.commands.shared import (
    COMPUTATION,
    DATA,
    MODEL,
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

BOUNDS = ("maurer", "mcallester", "quadratic", "thiemann", "catoni", "catoni_union", "alquier")


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
            help="Groups of classes, e.g. 0/1 or 0,1,2,3,4/5,6,7,8,9. Default: every class.",
            rich_help_panel=DATA,
        ),
    ] = None,
    levels: Levels = "0:1:0.2",
    seeds: Seeds = 1,
    kernel: Annotated[
        str,
        choice(*KERNELS, "convolutional", help="Kernel (convolutional is for images)", panel=MODEL),
    ] = "rbf",
    features: Annotated[
        str | None,
        choice(
            "efficientnet-lite0",
            "efficientnet-lite1",
            "efficientnet-lite2",
            help="Published network on whose features of images the priors are linear",
            more='Its weights are in the extra "pretrained".',
            registry="bayesgen.pretrained.weights:PUBLISHED",
            panel=MODEL,
        ),
    ] = None,
    layers: Annotated[
        str | None,
        typer.Option(
            help="Layers of --features for the priors, e.g. head,stage7+head. Default: logits, "
            "and stage7+head+logits.",
            rich_help_panel=MODEL,
        ),
    ] = None,
    store: Annotated[
        Path | None,
        typer.Option(
            help="Folder in which --features are kept, so that they are computed once.",
            rich_help_panel=COMPUTATION,
        ),
    ] = None,
    delta: Annotated[
        float, typer.Option(help="Probability that a bound fails.", rich_help_panel=MODEL)
    ] = 0.05,
    bound: Annotated[
        str,
        choice(
            *BOUNDS,
            help="PAC-Bayes bound",
            registry="bayesgen.pacbayes.certificates.request:THEOREMS",
            panel=MODEL,
        ),
    ] = "maurer",
    threads: Threads = None,
    out: Annotated[
        Path | None, out_option("certify.nc and certify.png", "certify-DATA-KERNEL")
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """PAC-Bayes certificates of Gaussian processes, and their evidence, as labels are corrupted."""
    chosen, parts = parse_levels(levels), None if groups is None else parse_groups(groups)
    if not 0 < delta < 1:
        raise ValueError(f"delta must lie in (0, 1), got {delta:g}")
    if features is None and (layers is not None or store is not None):
        raise ValueError("--layers and --store are for --features")
    given = source(data, data_dir, csv, target, sep)
    names = ("certify.nc", "certify.png")
    with folder.results(out, (given.name, features or kernel), names, overwrite) as place:
        from bayesgen import experiments
        from bayesgen.experiments.certify import summary
        from bayesgen.reports.cautions import vacuous

        own = given.load(scaled_on="test")
        shown = output.current()
        with on_threads(threads), shown.progress() as report:
            result = experiments.certify(
                own,
                levels=chosen,
                seeds=seeds,
                kernel=kernel,
                groups=parts,
                features=features,
                layers=None if layers is None else layers.split(","),
                store=store,
                delta=delta,
                bound=bound,
                train=train,
                test=test,
                data_dir=data_dir,
                progress=report,
                command=command_line(),
            )
        attrs = result.attrs
        title = f"{attrs['data']}, n = {attrs['n']:,}, {attrs['classes']} classes: δ = {delta:g}"
        shown.table(summary(result), title, {"KL": ",.1f"})
        guessing = 1 - 1 / attrs["classes"]
        payment = "The prior was stated beforehand"
        if attrs["priors"] > 1:
            payment = f"The bound includes ln {attrs['priors']} nats for the choice of prior"
        shown.say(
            f"{attrs['bound_name']}. {payment}, and nothing for the noise. Guessing has a risk of "
            f"{guessing:.3g}."
        )
        for sentence in vacuous(result):
            shown.say(sentence)
        if float(result.rademacher.mean("seed").min()) >= guessing:
            shown.say("The Rademacher bound is vacuous at every level.")
        keep(result, experiments.certify.plot, place)
