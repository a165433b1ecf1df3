"""The command `bayesgen select`: models of a table ranked by their evidence."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from bayesgen.commands.console import plain, table
from bayesgen.commands.shared import on_threads, progress_bar


def select(
    csv: Annotated[Path | None, typer.Option(help="CSV file with a header line.")] = None,
    target: Annotated[str | None, typer.Option(help="Column with the targets.")] = None,
    demo: Annotated[
        str | None,
        typer.Option(help="Example data in place of a table: bishop (x + cos πx and noise)."),
    ] = None,
    threads: Annotated[int | None, typer.Option(help="Number of CPU threads.")] = None,
    out: Annotated[
        Path, typer.Option(help="Folder for ranking.csv, ranking.png and fits.png.")
    ] = Path("results/select"),
) -> None:
    """Rank polynomials, Fourier series and Gaussian processes on a table by their evidence."""
    from bayesgen import plots
    from bayesgen._internal import checks, files
    from bayesgen.select import figure, table as tables

    if (csv is None) == (demo is None):
        raise ValueError("one of --csv FILE (with --target COL) and --demo bishop must be given")
    if demo is not None:
        checks.one_of("demo", demo, ("bishop",))
        data = tables.bishop()
    elif csv is not None:
        if target is None:
            raise ValueError("target must be given with --csv: the column to explain")
        data = tables.read(csv, target)
    folder = files.writable(out)
    with on_threads(threads), progress_bar() as report:
        selection = tables.select(data, report)
    ranking = selection.ranking
    files.write(folder / "ranking.csv", ranking.to_csv)
    fits, bars = figure.figure(selection), plots.comparison(ranking)
    files.write(folder / "fits.png", lambda p: fits.savefig(p, dpi=120))
    files.write(folder / "ranking.png", lambda p: bars.savefig(p, dpi=120))
    console = Console(highlight=False, soft_wrap=True)
    names = {
        "log_evidence": "log p(D)",
        "per_observation": "per row",
        "delta": "Δ",
        "probability": "prob.",
        "fit": "fit",
        "complexity": "KL",
        "n_eff": "N_eff",
    }
    shown = ranking[list(names)].rename(columns=names)
    title = f"{data.target}: n = {len(data.y):,}, inputs {', '.join(data.inputs)}"
    console.print(
        table(shown, title, dict.fromkeys(("log p(D)", "Δ", "fit", "KL", "N_eff"), ",.1f"))
    )
    for note in data.notes:
        console.print(f"note: {plain(note)}")
    console.print(
        "Evidence in nats, of inputs and target standardised; hyperparameters of maximum "
        f"evidence.\nWrote ranking.csv, ranking.png and fits.png to {folder}"
    )
