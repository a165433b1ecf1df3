"""The command `bayesgen`."""

from __future__ import annotations

import shlex
import shutil
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
import xarray as xr
from matplotlib.figure import Figure
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from bayesgen import sharded
from bayesgen._options import on_device, parse_groups, parse_levels, parse_sizes
from bayesgen._terminal import plain, table, tell, tell_models, tell_plan
from bayesgen.errors import DivergedError, RankLostError

app = typer.Typer(
    help="Models judged by their marginal likelihood.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)

# Options that several commands share.
Data = Annotated[str, typer.Option(help="digits, cifar10, cifar100 or fashion-mnist.")]
DataDir = Annotated[
    Path | None, typer.Option(help="Folder with the data's official files; else a download.")
]
Train = Annotated[int | None, typer.Option(help="Training points; all by default.")]
Test = Annotated[int | None, typer.Option(help="Test points; all by default.")]
Seeds = Annotated[int, typer.Option(help="Corruptions of each level.")]
Levels = Annotated[str, typer.Option(help="Shares of labels to redraw: START:STOP:STEP, or a,b,c.")]

_DTYPES = {"float64": torch.float64, "float32": torch.float32}


def main() -> None:
    """Run the command; bad input prints one clear error and exits with 2."""
    errors = Console(stderr=True, soft_wrap=True, highlight=False)

    def note(message: Warning | str, *_: Any, **__: Any) -> None:
        errors.print(f"[yellow]note:[/] {plain(message)}")

    warnings.showwarning = note
    try:
        with sharded.joined():
            app()
    except (
        ValueError,
        TypeError,
        OSError,
        MemoryError,
        ImportError,
        DivergedError,
        RankLostError,
    ) as err:
        errors.print(f"[red]error:[/] {plain(err)}")
        sys.exit(2)


@app.callback()
def _group() -> None:
    """Models judged by their marginal likelihood."""


@app.command()
def corruption(
    data: Data = "digits",
    data_dir: DataDir = None,
    train: Train = None,
    test: Test = None,
    levels: Levels = "0:1:0.1",
    model: Annotated[
        str, typer.Option(help="gp, or several of gp,polynomial,dkl,gp-laplace,mlp,resnet.")
    ] = "gp",
    seeds: Seeds = 3,
    seed: Annotated[int, typer.Option(help="The first seed.")] = 0,
    kernel: Annotated[str, typer.Option(help="rbf, matern12, matern32 or matern52.")] = "rbf",
    targets: Annotated[str, typer.Option(help="one-hot or dirichlet.")] = "one-hot",
    noise: Annotated[
        float | None, typer.Option(help="Noise variance to keep; learnt by default.")
    ] = None,
    kind: Annotated[
        str, typer.Option(help="uniform redraws a label, flip moves it on.")
    ] = "uniform",
    device: Annotated[str, typer.Option(help="cpu, cuda or mps.")] = "cpu",
    dtype: Annotated[str, typer.Option(help="float64 or float32.")] = "float64",
    threads: Annotated[
        int | None, typer.Option(help="CPU threads; as the libraries choose by default.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(help="Local processes for several models' cells.")
    ] = None,
    scheduler: Annotated[
        str | None, typer.Option(help="Address of a Dask scheduler for them instead.")
    ] = None,
    engine: Annotated[
        str | None, typer.Option(help="spectrum or krylov; by size and memory by default.")
    ] = None,
    work: Annotated[
        Path | None,
        typer.Option(
            help="Folder for what a large run can go on from: n² numbers; by default in --out."
        ),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for corruption.nc and corruption.png.")] = Path(
        "results/corruption"
    ),
) -> None:
    """Evidence, fit, complexity and errors of a Gaussian process as labels are corrupted."""
    from bayesgen import _checks, _output, experiments
    from bayesgen.experiments import sweep as sweeps
    from bayesgen.experiments.corruption import summary

    chosen = parse_levels(levels)
    if seeds < 1:
        raise ValueError(f"seeds must be at least 1, got {seeds}")
    place = on_device(device, dtype)
    _checks.one_of("dtype", dtype, tuple(_DTYPES))
    folder = _output.writable(out)
    several = [name.strip() for name in model.split(",")]
    settings: dict[str, Any] = {
        "levels": chosen,
        "seeds": list(range(seed, seed + seeds)),
        "kind": kind,
        "train": train,
        "test": test,
        "data_dir": data_dir,
        "dtype": _DTYPES[dtype],
        "device": place,
        "command": shlex.join(["bayesgen", *sys.argv[1:]]),
    }
    if several != ["gp"]:
        if (kernel, targets, noise) != ("rbf", "one-hot", None):
            raise ValueError("kernel, targets and noise are options of --model gp alone")
        if engine is not None or work is not None:
            raise ValueError("engine and work are options of --model gp alone")
        pool = sweeps.executor(workers, scheduler)
        with _threads(threads), pool as executor, _progress() as report:
            result = experiments.corruption_models(
                data,
                several,
                executor=executor,
                store=folder / "cells",
                progress=report,
                **settings,
            )
        _keep(result, experiments.corruption_models.plot(result), folder, "corruption")
        return tell_models(result, folder)
    if workers is not None or scheduler is not None:
        raise ValueError("workers and scheduler serve several models: --model gp is one fit")
    scratch = folder / "work" if work is None else work
    with _threads(threads), _progress() as report:
        result = experiments.corruption(
            data,
            kernel=kernel,
            targets=targets,
            noise=noise,
            engine=engine,
            work=scratch,
            progress=report,
            **settings,
        )
    if not sharded.first():
        return None
    _keep(result, experiments.corruption.plot(result), folder, "corruption")
    if work is None:
        shutil.rmtree(scratch, ignore_errors=True)  # the result is safe
    return tell(result, summary(result), folder)


@app.command()
def certify(
    data: Data = "digits",
    data_dir: DataDir = None,
    train: Train = None,
    test: Test = None,
    groups: Annotated[
        str | None,
        typer.Option(help="Classes to tell apart: 0/1, or 0,1,2,3,4/5,6,7,8,9; all by default."),
    ] = None,
    levels: Levels = "0:1:0.2",
    seeds: Seeds = 1,
    kernel: Annotated[
        str, typer.Option(help="rbf, matern12, matern32, matern52, or convolutional (images).")
    ] = "rbf",
    delta: Annotated[float, typer.Option(help="Each bound may fail with this probability.")] = 0.05,
    bound: Annotated[
        str, typer.Option(help="maurer, mcallester, quadratic, catoni, catoni_union or alquier.")
    ] = "maurer",
    threads: Annotated[int | None, typer.Option(help="CPU threads.")] = None,
    out: Annotated[Path, typer.Option(help="Folder for certify.nc and certify.png.")] = Path(
        "results/certify"
    ),
) -> None:
    """PAC-Bayes certificates of Gaussian processes, and their evidence, as labels are corrupted."""
    from bayesgen import _output, experiments
    from bayesgen.experiments.certify import summary

    chosen, parts = parse_levels(levels), None if groups is None else parse_groups(groups)
    folder = _output.writable(out)
    with _threads(threads), _progress() as report:
        result = experiments.certify(
            data,
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
            command=shlex.join(["bayesgen", *sys.argv[1:]]),
        )
    _keep(result, experiments.certify.plot(result), folder, "certify")
    console = Console(highlight=False, soft_wrap=True)
    attrs = result.attrs
    title = f"{attrs['data']}, n = {attrs['n']:,}, {attrs['classes']} classes: δ = {delta:g}"
    console.print(table(summary(result), title, {"KL": ",.1f"}))
    guessing = 1 - 1 / attrs["classes"]
    choice = "one prior, stated beforehand"
    if attrs["priors"] > 1:
        choice = f"ln {attrs['priors']} nats paid for the choice of prior"
    console.print(
        f"{attrs['bound_name']}; {choice}; the noise tuned for free. Guessing has a risk of "
        f"{guessing:.3g}.\n"
        f"Wrote {folder / 'certify.png'} and {folder / 'certify.nc'}"
    )


@app.command()
def select(
    csv: Annotated[Path | None, typer.Option(help="A table with a header line.")] = None,
    target: Annotated[str | None, typer.Option(help="The column to explain.")] = None,
    demo: Annotated[str | None, typer.Option(help="bishop: x + cos πx and noise.")] = None,
    threads: Annotated[int | None, typer.Option(help="CPU threads.")] = None,
    out: Annotated[
        Path, typer.Option(help="Folder for ranking.csv, ranking.png and fits.png.")
    ] = Path("results/select"),
) -> None:
    """Polynomials, Fourier series and Gaussian processes on a table, ranked by their evidence."""
    from bayesgen import _checks, _output, plots
    from bayesgen.select import figure
    from bayesgen.select import table as tables

    if (csv is None) == (demo is None):
        raise ValueError("one of --csv FILE (with --target COL) and --demo bishop must be given")
    if demo is not None:
        _checks.one_of("demo", demo, ("bishop",))
        data = tables.bishop()
    elif csv is not None:
        if target is None:
            raise ValueError("target must be given with --csv: the column to explain")
        data = tables.read(csv, target)
    folder = _output.writable(out)
    with _threads(threads), _progress() as report:
        selection = tables.select(data, report)
    ranking = selection.ranking
    _output.write(folder / "ranking.csv", ranking.to_csv)
    fits, bars = figure.figure(selection), plots.comparison(ranking)
    _output.write(folder / "fits.png", lambda p: fits.savefig(p, dpi=120))
    _output.write(folder / "ranking.png", lambda p: bars.savefig(p, dpi=120))
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


@app.command()
def reproduce(
    name: Annotated[str, typer.Argument(help="fig1abc, fig5, occam, germain or rotation.")],
    out: Annotated[Path, typer.Option(help="Folder for NAME.nc and NAME.png.")] = Path(
        "results/reproduce"
    ),
) -> None:
    """One figure of the literature, computed anew: NAME.png and NAME.nc."""
    from bayesgen import _checks, _output
    from bayesgen.experiments import REPRODUCTIONS

    experiment = REPRODUCTIONS[_checks.one_of("name", name, tuple(REPRODUCTIONS))]
    folder = _output.writable(out)
    result = experiment(command=shlex.join(["bayesgen", *sys.argv[1:]]))
    _keep(result, experiment.plot(result), folder, name)
    console = Console(highlight=False, soft_wrap=True)
    console.print(f"{result.attrs['title']}: wrote {folder / name}.png and {folder / name}.nc")


@app.command()
def info(
    sizes: Annotated[
        list[str] | None, typer.Argument(help="More of --plan: d=3072 outputs=110.", hidden=True)
    ] = None,
    plan: Annotated[
        str | None,
        typer.Option(help="n=50000 d=3072 outputs=110: which engine would take it, and why."),
    ] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda or mps; of the plan.")] = "cpu",
    dtype: Annotated[str, typer.Option(help="float64 or float32; of the plan.")] = "float64",
    work: Annotated[
        Path | None, typer.Option(help="Folder for the Gram matrix; its disk is timed.")
    ] = None,
) -> None:
    """Versions, devices and threads, as bayesgen sees them; or a plan for a problem's size."""
    from bayesgen import _checks, solvers
    from bayesgen.experiments.experiment import provenance

    if plan is not None:
        _checks.one_of("dtype", dtype, tuple(_DTYPES))
        machine = solvers.Machine.here(on_device(device, dtype), work)
        n, d, outputs = parse_sizes([plan, *(sizes or [])])
        kind, keep = _DTYPES[dtype], work is not None
        made = solvers.plan(n, d, outputs, machine=machine, dtype=kind, keep=keep)
        return tell_plan(made, machine)

    shown = Table(show_header=False, box=None)
    facts = provenance("bayesgen info")
    shown.add_row("versions", facts["versions"])
    shown.add_row("python", f"{facts['python']} on {facts['platform']}")
    shown.add_row("threads", str(torch.get_num_threads()))
    shown.add_row("cuda", torch.cuda.get_device_name() if torch.cuda.is_available() else "none")
    shown.add_row("mps", "yes" if torch.backends.mps.is_available() else "none")
    return Console().print(shown)


@contextmanager
def _threads(count: int | None) -> Iterator[None]:
    """The whole process on so many CPU threads; torch and the BLAS under SciPy both."""
    if count is None:
        yield
        return
    if count < 1:
        raise ValueError(f"threads must be at least 1, got {count}")
    from threadpoolctl import threadpool_limits

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    with threadpool_limits(count):
        yield
    torch.set_num_threads(before)


@contextmanager
def _progress() -> Iterator[Any]:
    """A progress bar on stderr, as a function progress(done, expected, what)."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TimeElapsedColumn(),
        TextColumn("ETA"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), disable=not sharded.first()) as bar:
        task = bar.add_task("loading", total=None)

        def report(done: int, expected: int, what: str) -> None:
            bar.update(task, completed=done, total=expected, description=what)

        yield report
        bar.update(task, description="done", completed=1, total=1)


def _keep(result: xr.Dataset, figure: Figure, folder: Path, name: str) -> None:
    """NAME.nc and NAME.png."""
    from bayesgen import _output

    _output.write(folder / f"{name}.nc", lambda p: result.to_netcdf(p, engine="h5netcdf"))
    _output.write(folder / f"{name}.png", lambda p: figure.savefig(p, dpi=120))
