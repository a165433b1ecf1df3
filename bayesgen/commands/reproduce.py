"""The command `bayesgen reproduce`: figures and claims of the literature."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich import box
from rich.table import Table

from bayesgen._internal import interrupts
from bayesgen._internal.words import plural
from bayesgen.commands import folder as folders, output
from bayesgen.commands.call import command_line
from bayesgen.commands.choices import DATA as NAMES_OF_DATA, DEVICES, READERS, choice
from bayesgen.commands.console import plain
from bayesgen.commands.shared import (
    COMPUTATION,
    DATA,
    OUTPUT,
    Threads,
    check_folder,
    on_threads,
    png,
)

if TYPE_CHECKING:
    import xarray as xr

# Seconds before a progress bar is drawn.
_LATE = 2.0
NAMES = ("all", "fig1", "fig2", "fig1abc", "fig1d", "fig1e", "fig1f", "fig1g", "fig2a", "fig2b",
         "fig4", "fig5", "fig6", "fig7", "table1", "guess-and-check", "occam", "certified-descent",
         "flatness", "germain", "rotation", "soft-bias", "bias-variance", "bumps", "contraction",
         "equivariance", "forest", "full-batch", "textbook")  # fmt: skip


def reproduce(
    name: Annotated[
        str | None,
        choice(
            *NAMES,
            help="Figure or claim, which --list describes",
            registry="bayesgen.experiments.reproductions:REPRODUCTIONS",
            argument=True,
        ),
    ] = None,
    listing: Annotated[
        bool, typer.Option("--list", help="List all names with what they show.")
    ] = False,
    quick: Annotated[
        bool,
        typer.Option(
            "--quick",
            help="Small settings: under two minutes each, and 25 minutes for all.",
            rich_help_panel=COMPUTATION,
        ),
    ] = False,
    data: Annotated[
        str | None,
        choice(
            *NAMES_OF_DATA,
            registry=READERS,
            help="Data set of fig1d, fig1e, fig1f, fig1g, fig7, flatness and others with images",
            panel=DATA,
        ),
    ] = None,
    data_dir: Annotated[
        Path | None,
        typer.Option(
            help="Folder with the data set's official files. Default: a download.",
            rich_help_panel=DATA,
        ),
    ] = None,
    model: Annotated[
        str | None,
        choice(
            "classifier",
            "language",
            help="Part of fig2",
            more="Default: both on one page.",
            panel=DATA,
        ),
    ] = None,
    text: Annotated[
        Path | None,
        typer.Option(
            help="File or folder with the text of fig2b. Default: the standard library's sources.",
            rich_help_panel=DATA,
        ),
    ] = None,
    pattern: Annotated[
        str | None,
        typer.Option(
            help="Pattern of the files in the folder of --text, such as *.md.", rich_help_panel=DATA
        ),
    ] = None,
    device: Annotated[
        str | None,
        choice(*DEVICES, help="Device of experiments with networks or images", panel=COMPUTATION),
    ] = None,
    threads: Threads = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder for NAME.nc, NAME.png, NAME.html, the table and unfinished work. Default: "
            "results/reproduce, or results/reproduce-quick with --quick; names of --data, --text, "
            "--pattern and --device are appended.",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
) -> None:
    """Compute figures and claims of the literature and compare them with what the source says.

    Each writes NAME.nc, NAME.png, a report NAME.html and a row of table.md. A finished result of
    the same settings is read from NAME.nc. Interrupted studies of networks continue with the cells
    that they kept.
    """
    if listing and name is not None:
        raise ValueError(f"--list takes no name, got {name!r}")
    if name is None and not listing:
        raise ValueError("NAME must be given; `bayesgen reproduce --list` shows all names")
    check_folder("--data-dir", data_dir)
    if text is not None and not text.exists():
        raise FileNotFoundError(f"--text must be a file or a folder, {text} is neither")

    from bayesgen.commands.options import on_device
    from bayesgen.experiments.reproductions import described, part_of

    if listing or name is None:
        _list(described())
        return
    if model is not None:
        name = part_of(name, model)
    settings: dict[str, Any] = {
        "data": data,
        "data_dir": data_dir,
        "text": text,
        "pattern": pattern,
        "device": None if device is None else on_device(device, "float32"),
    }
    settings = {key: value for key, value in settings.items() if value is not None}
    if out is None:
        words = [word for word in (data, text and text.name, pattern, device) if word]
        out = Path("results") / folders.slug("reproduce", *(["quick"] if quick else []), *words)
    with folders.opened(out, "table") as place, on_threads(threads):
        _reproduce(name, place.path, quick, settings)
        place.done = True


def _reproduce(name: str, folder: Path, quick: bool, settings: dict[str, Any]) -> None:
    from bayesgen import experiments

    if name in experiments.REPRODUCTIONS:
        _run(name, name, folder, quick, settings)
        failed = []
    else:
        failed = _run_several(name, folder, quick, settings)
    _tabulate(folder)
    if failed:
        count = plural(len(failed), "experiment")
        raise ValueError(f"{count} failed, see above: {', '.join(failed)}")


def _run_several(name: str, folder: Path, quick: bool, settings: dict[str, Any]) -> list[str]:
    """Run all reproductions or those of a page, draw the pages, and return what failed."""
    import xarray as xr

    from bayesgen import experiments
    from bayesgen._internal import files
    from bayesgen.experiments.reproductions import accepted
    from bayesgen.reports.report import of_page

    every = list(experiments.REPRODUCTIONS)
    names = every if name == "all" else list(experiments.PAGES[name].parts)
    results: dict[str, Any] = {}
    failed = []
    for one in names:
        try:
            results[one] = _run(name, one, folder, quick, accepted(one, settings))
        except Exception as err:  # The others are run all the same.
            interrupts.check()  # It may be what an interruption inside an import became.
            failed.append(one)
            output.current().say(f"{one} failed: {type(err).__name__}: {err}")
    for page, made in experiments.PAGES.items():
        parts = {part: results[part] for part in made.parts if part in results}
        if name in ("all", page) and len(parts) == len(made.parts):
            figure = made.plot(parts)
            _save_figure(figure, folder / f"{page}.png")
            text = of_page(made.says.rstrip("."), parts, figure)
            files.write_bytes(folder / f"{page}.html", text.encode())
            files.write_bytes(folder / f"{page}.nc", files.netcdf(xr.DataTree.from_dict(parts)))
            output.current().wrote(*(folder / f"{page}.{end}" for end in ("png", "nc", "html")))
    return failed


def _run(asked: str, name: str, folder: Path, quick: bool, settings: dict[str, Any]) -> xr.Dataset:
    """Run one reproduction, alone or as one of several, draw its figure, and print its claim."""
    from bayesgen import experiments
    from bayesgen._internal import files
    from bayesgen._internal.progress_bar import reporting
    from bayesgen.reports.report import of_dataset

    start, shown = time.monotonic(), output.current()
    with reporting(not shown.quiet, name, _LATE) as report:
        result = experiments.reproduce(
            name,
            quick=quick,
            store=folder,
            progress=_interruptible(report),
            command=command_line(**{asked: name}),
            on_result=lambda result: _print(name, result, time.monotonic() - start),
            **settings,
        )
    figure = experiments.REPRODUCTIONS[name].plot(result)
    _save_figure(figure, folder / f"{name}.png")
    text = of_dataset(result, result.attrs["title"], figure)
    files.write_bytes(folder / f"{name}.html", text.encode())
    shown.wrote(*(folder / f"{name}.{end}" for end in ("png", "nc", "html")))
    return result


def _print(name: str, result: xr.Dataset, seconds: float) -> None:
    shown = output.current()
    shown.show(f"[bold]{name}[/]: {plain(result.attrs['title'])} ({seconds:.0f} s)")
    shown.attrs({name: dict(result.attrs)})
    if "holds" in result.attrs:
        rows = Table(show_header=False, box=box.SIMPLE)
        rows.add_column(no_wrap=True)
        rows.add_row("paper", plain(result.attrs["paper"]))
        rows.add_row("here", plain(result.attrs["found"]))
        rows.add_row("holds", result.attrs["holds"])
        shown.show(rows)
    if "table" in result.attrs:
        shown.say(result.attrs["table"])


def _interruptible(report: Any) -> Any:
    """A progress function that ends the work after an interruption that was swallowed."""

    def step(done: int, expected: int, what: str) -> None:
        interrupts.check()
        if report is not None:
            report(done, expected, what)

    return step


def _save_figure(figure: Any, path: Path) -> None:
    from bayesgen._internal import files

    files.write_bytes(path, png(figure))


def _list(lines: dict[str, str]) -> None:
    shown = Table(box=box.SIMPLE_HEAD)
    shown.add_column("name", no_wrap=True)
    shown.add_column("shows")
    for name, line in lines.items():
        shown.add_row(name, plain(line))
    output.current().show(shown)
    output.current().attrs(lines)


def _tabulate(folder: Path) -> None:
    """Write the claims of all results in a folder to table.md."""
    from bayesgen import experiments
    from bayesgen._internal import files
    from bayesgen.experiments.reproductions import stored

    rows = ["| name | paper says | we get | holds | command |", "| --- | --- | --- | --- | --- |"]
    for name in experiments.REPRODUCTIONS:
        kept = stored(folder / f"{name}.nc")
        if kept is not None:
            said = {key: str(value).replace("|", r"\|") for key, value in kept.attrs.items()}
            cells = [said.get(key, "–") for key in ("paper", "found", "holds")]
            rows.append(f"| {name} | {' | '.join(cells)} | `{said.get('command', '–')}` |")
    text = "\n".join(rows) + "\n"
    files.write_bytes(folder / "table.md", text.encode())
