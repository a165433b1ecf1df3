"""The command `bayesgen select`: models of a table ranked by their evidence."""

from __future__ import annotations

from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bayesgen.commands import folder, output, structures
from bayesgen.commands.choices import choice
from bayesgen.commands.options import parse_models
from bayesgen.commands.report import Study
from bayesgen.commands.shared import (
    DATA,
    MODEL,
    MODEL_FILE,
    OUTPUT,
    Overwrite,
    Sep,
    Threads,
    on_threads,
    out_option,
    own_table,
    png,
    write,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from bayesgen.select import Selection

_FILES = ("ranking.csv", "ranking.png", "fits.png")
_NAMES = {
    "log_evidence": "log p(D)",
    "per_observation": "per row",
    "delta": "Δ",
    "probability": "prob.",
    "fit": "fit",
    "complexity": "KL",
    "n_eff": "N_eff",
}


def select(
    csv: Annotated[
        Path | None,
        typer.Option(help="Your table: CSV, Parquet or .npz.", rich_help_panel=DATA),
    ] = None,
    target: Annotated[
        str | None,
        typer.Option(help="Column of --csv with the targets.", rich_help_panel=DATA),
    ] = None,
    sep: Sep = ",",
    demo: Annotated[
        str | None,
        choice("bishop", help="Example data in place of a table, x + cos πx and noise", panel=DATA),
    ] = None,
    task: Annotated[
        str | None,
        choice(
            "classification",
            "regression",
            help="What the target is",
            more="Default: texts, and at most 10 different whole numbers with 5 rows for each on "
            "average, are classes.",
            panel=DATA,
        ),
    ] = None,
    models: Annotated[
        str | None,
        typer.Option(
            help="Models with commas between: linear, polynomial:DEGREE, fourier:ORDER, gp:KERNEL "
            "(rbf, matern12, matern32, matern52) and null. A third part :decaying or :best is for "
            "polynomials and Fourier series, :ard for gp. Default: six or seven of them.",
            rich_help_panel=MODEL,
        ),
    ] = None,
    search: Annotated[
        bool,
        typer.Option(
            "--search",
            help="Search sums and products of kernels for a real target, and say what each part of "
            "the best one is.",
            rich_help_panel=MODEL,
        ),
    ] = False,
    targets: Annotated[
        str | None,
        choice(
            "labels",
            "one-hot",
            help="What of classes is fitted, by Laplace's approximation or exactly",
            more="Default: labels for at most 2000 rows times classes.",
            panel=MODEL,
        ),
    ] = None,
    threads: Threads = None,
    save: Annotated[
        Path | None,
        typer.Option(
            help="File for the best model, which `bayesgen predict` reads. Default: "
            f"{MODEL_FILE} in --out.",
            dir_okay=False,
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    out: Annotated[
        Path | None,
        out_option("ranking.csv, ranking.png, fits.png and the best model", "select-TABLE-TARGET"),
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Rank polynomials, Fourier series and Gaussian processes on a table by their evidence."""
    if (csv is None) == (demo is None):
        raise ValueError("one of --csv FILE (with --target COL) and --demo bishop must be given")
    if demo is not None and target is not None:
        raise ValueError("--target names a column of --csv, which was not given")
    parts = None if models is None else parse_models(models)
    frame = None if csv is None else own_table(csv, target, sep, "the column to explain")
    words = (demo or "",) if csv is None else (csv.stem, target or "")
    if search and (models or targets or task == "classification"):
        raise ValueError("--search must not be given together with --models, --targets or classes")
    names = ("ranking.csv", "components.png") if search else _FILES
    beside = nullcontext() if save is None else folder.opened(save.parent, save.stem)
    with folder.results(out, words, names, overwrite) as place, beside, on_threads(threads):
        from bayesgen.select import candidates, table as tables

        if frame is None:
            data = tables.bishop()
        else:
            data = tables.from_frame(frame, target or "", task=task)
        for note in data.notes:
            output.current().note(f"note: {note}")
        if search:
            return structures.search(words[0], data, place, save)
        chosen = None if parts is None else partial(candidates.listed, parts)
        with output.current().progress() as report:
            selection = tables.select(data, report, chosen, targets)
        _print(selection)
        _write(words[0], selection, place, save)
        return None


def _print(selection: Selection) -> None:
    import torch

    data, ranking, shown = selection.table, selection.ranking, output.current()
    title = f"{data.target}: n = {len(data.y):,}, inputs {', '.join(data.inputs[:8])}"
    if len(data.inputs) > 8:
        title += f" and {len(data.inputs) - 8} more"
    if data.classes:
        title += f", {len(data.classes)} classes"
    formats = dict.fromkeys(("log_evidence", "delta", "fit", "complexity", "n_eff"), ",.1f")
    shown.table(ranking, title, formats, name="ranking", headings=_NAMES)
    for name, others in ranking.get("same_as", {}).items():
        if others:
            shown.say(f"{name} is the same model at these data as {others}.")
    for name, why in selection.failed.items():
        shown.say(f"{name} did not converge and has no probability: {why}")
    ended = [
        name
        for name, posterior in selection.posteriors.items()
        if name in ranking.index and bool(torch.as_tensor(getattr(posterior, "at_bound", 0)).any())
    ]
    if ended:
        shown.say(
            f"An optimum without noise or without signal, on the bound of the search: "
            f"{', '.join(ended)}."
        )
    scaled = "inputs" if data.classes else "inputs and target"
    for note in selection.notes:
        shown.say(f"{note[0].upper()}{note[1:]}.")
    shown.say(
        f"Evidence in nats, of {scaled} standardised; hyperparameters of maximum evidence. "
        "Probabilities are among the models listed, each different one counted once."
    )


def _write(name: str, selection: Selection, place: folder.Results, save: Path | None) -> None:
    from bayesgen import plots, storage
    from bayesgen.select import figure, table as tables

    ranking, best = selection.ranking, tables.best(selection)
    converged = ranking[ranking.log_evidence.notna()]
    keep = partial(storage.save, selection.posteriors[best], columns=selection.table.columns)
    ranks, fits = plots.comparison(converged), figure.figure(selection)
    contents = {
        "ranking.csv": ranking.to_csv().encode(),
        "ranking.png": png(ranks),
        "fits.png": png(fits),
    }
    write(place, contents, _study(name, selection, ranks, fits))
    file = place.path / MODEL_FILE if save is None else save
    keep(file)
    output.current().wrote(file)
    output.current().attrs({"best": best, "target": selection.table.target})


def _study(name: str, selection: Selection, ranks: Figure, fits: Figure) -> Study:
    """What the report shows beside the ranking."""
    from bayesgen.reports.cautions import LAPLACE

    data = selection.table
    attrs: dict[str, Any] = {
        "data": name,
        "target": data.target,
        "n": len(data.y),
        "inputs": len(data.inputs),
    }
    if data.classes:
        attrs["classes"] = len(data.classes)
        attrs["names of the classes"] = list(data.classes)
    attrs["names of the inputs"] = list(data.inputs)
    cautions = [
        "The hyperparameters are those of maximum evidence: the evidence of a model with more of "
        "them is somewhat too high."
    ]
    if any("Laplace" in posterior.evidence.method for posterior in selection.posteriors.values()):
        cautions.append(LAPLACE)
    cautions += [f"{name} did not converge: {why}" for name, why in selection.failed.items()]
    figures = {
        "Evidence of each model, with its fit and complexity": ranks,
        "Predictions of the best models along each input, with bands of ± 2 sd": fits,
    }
    return Study(f"Models of {data.target} by their evidence", figures, attrs, cautions)
