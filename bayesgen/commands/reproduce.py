"""The command `bayesgen reproduce`: figures and claims of the literature."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich import box
from rich.console import Console
from rich.table import Table

from bayesgen.commands.console import plain
from bayesgen.commands.shared import command_line, on_threads, save_figure

if TYPE_CHECKING:
    import xarray as xr

# Seconds before a progress bar is drawn.
_LATE = 2.0


def reproduce(
    name: Annotated[
        str | None,
        typer.Argument(help="Name of a figure or claim, such as fig1 or occam, or all."),
    ] = None,
    listing: Annotated[
        bool, typer.Option("--list", help="List all names with what they show.")
    ] = False,
    quick: Annotated[
        bool,
        typer.Option(
            "--quick", help="Small settings: under two minutes each, and 25 minutes for all."
        ),
    ] = False,
    data: Annotated[
        str | None,
        typer.Option(
            help="Data set of fig1d, fig1e, fig1f, fig1g, fig7, flatness and others with images."
        ),
    ] = None,
    data_dir: Annotated[
        Path | None,
        typer.Option(help="Folder with the data set's official files. Default: a download."),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(help="Part of fig2: classifier or language. Default: both on one page."),
    ] = None,
    text: Annotated[
        Path | None,
        typer.Option(
            help="File or folder with the text of fig2b. Default: the standard library's sources."
        ),
    ] = None,
    pattern: Annotated[
        str | None,
        typer.Option(help="Pattern of the files in the folder of --text, such as *.md."),
    ] = None,
    device: Annotated[
        str | None, typer.Option(help="cpu, cuda or mps, for experiments with networks or images.")
    ] = None,
    threads: Annotated[
        int | None, typer.Option(help="Number of CPU threads. Default: the libraries' choice.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder for NAME.nc, NAME.png, the table and unfinished work. Default: "
            "results/reproduce, or results/reproduce-quick with --quick."
        ),
    ] = None,
) -> None:
    """Compute figures and claims of the literature and compare them with what the source says.

    Each writes NAME.png, NAME.nc and a row of table.md. A finished result of the same settings is
    read from NAME.nc. Interrupted studies of networks continue with the cells that they kept.
    """
    from bayesgen import experiments
    from bayesgen._internal import checks, files
    from bayesgen.commands.options import on_device
    from bayesgen.experiments.reproductions import described, part_of

    console = Console(highlight=False, soft_wrap=True)
    lines = described()
    if listing:
        if name is not None:
            raise ValueError(f"--list takes no name, got {name!r}")
        _list(console, lines)
        return
    if name is None:
        raise ValueError("name must be given; `bayesgen reproduce --list` shows all names")
    checks.one_of("name", name, ("all", *lines))
    if model is not None:
        name = part_of(name, model)
    settings: dict[str, Any] = {
        "data": data,
        "data_dir": data_dir,
        "text": text,
        "pattern": pattern,
    }
    settings = {key: value for key, value in settings.items() if value is not None}
    if device is not None:
        settings["device"] = on_device(device, "float32")
    default = "results/reproduce-quick" if quick else "results/reproduce"
    folder = files.writable(default if out is None else out)
    with on_threads(threads):
        if name in experiments.REPRODUCTIONS:
            _run(console, name, name, folder, quick, settings)
            failed = []
        else:
            failed = _run_several(console, name, folder, quick, settings)
    _tabulate(folder)
    if failed:
        raise ValueError(f"{len(failed)} experiment(s) failed, see above: {', '.join(failed)}")


def _run_several(
    console: Console, name: str, folder: Path, quick: bool, settings: dict[str, Any]
) -> list[str]:
    """Run all reproductions or those of a page, draw the pages, and return what failed."""
    from bayesgen import experiments
    from bayesgen._internal import files
    from bayesgen.experiments.reproductions import accepted

    every = list(experiments.REPRODUCTIONS)
    names = every if name == "all" else list(experiments.PAGES[name].parts)
    results: dict[str, xr.Dataset] = {}
    failed = []
    for one in names:
        try:
            results[one] = _run(console, name, one, folder, quick, accepted(one, settings))
        except Exception as err:  # The others are run all the same.
            failed.append(one)
            console.print(f"[red]{one} failed:[/] {plain(f'{type(err).__name__}: {err}')}")
    for page, made in experiments.PAGES.items():
        parts = {part: results[part] for part in made.parts if part in results}
        if name in ("all", page) and len(parts) == len(made.parts):
            save_figure(made.plot(parts), folder / f"{page}.png")
            files.write(folder / f"{page}.nc", partial(_write_tree, parts))
            console.print(f"[bold]{page}[/]: wrote {folder / page}.png and {folder / page}.nc")
    return failed


def _run(
    console: Console, asked: str, name: str, folder: Path, quick: bool, settings: dict[str, Any]
) -> xr.Dataset:
    """Run one reproduction, alone or as one of several, draw its figure, and print its claim."""
    from bayesgen import experiments
    from bayesgen._internal.progress_bar import reporting

    start = time.monotonic()
    with reporting(True, name, _LATE) as report:
        result = experiments.reproduce(
            name,
            quick=quick,
            store=folder,
            progress=report,
            command=command_line(**{asked: name}),
            **settings,
        )
    save_figure(experiments.REPRODUCTIONS[name].plot(result), folder / f"{name}.png")
    console.print(f"[bold]{name}[/]: {result.attrs['title']} ({time.monotonic() - start:.0f} s)")
    if "holds" in result.attrs:
        shown = Table(show_header=False, box=box.SIMPLE)
        shown.add_column(no_wrap=True)
        shown.add_row("paper", result.attrs["paper"])
        shown.add_row("here", result.attrs["found"])
        shown.add_row("holds", result.attrs["holds"])
        console.print(shown)
    if "table" in result.attrs:
        console.print(plain(result.attrs["table"]))
    console.print(f"wrote {folder / name}.png and {folder / name}.nc")
    return result


def _list(console: Console, lines: dict[str, str]) -> None:
    shown = Table(box=box.SIMPLE_HEAD)
    shown.add_column("name", no_wrap=True)
    shown.add_column("shows")
    for name, line in lines.items():
        shown.add_row(name, line)
    console.print(shown)


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

    def writer(path: Path) -> None:
        path.write_text(text, encoding="utf-8")

    files.write(folder / "table.md", writer)


def _write_tree(parts: dict[str, xr.Dataset], path: Path) -> None:
    """Write several results to one NetCDF file, each as a group."""
    import xarray as xr

    xr.DataTree.from_dict(parts).to_netcdf(path, engine="h5netcdf")
