"""What the commands share: common options, threads, a progress bar, and the files they write.

The modules of this room import torch and the models inside functions, so that the help of the
command line and its errors about options need neither.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

if TYPE_CHECKING:
    import torch
    import xarray as xr
    from matplotlib.figure import Figure

    from bayesgen.data.dataset import Dataset

# Options that several commands share.
Data = Annotated[str, typer.Option(help="Data set: digits, cifar10, cifar100 or fashion-mnist.")]
DataDir = Annotated[
    Path | None,
    typer.Option(help="Folder with the data set's official files. Default: they are downloaded."),
]
Csv = Annotated[
    Path | None,
    typer.Option(
        help="Your own table in place of --data: CSV, Parquet or .npz. Its columns are scaled to "
        "mean 0 and standard deviation 1, and a fifth of its rows are test points."
    ),
]
Target = Annotated[str | None, typer.Option(help="Column of --csv with the class labels.")]
Sep = Annotated[str, typer.Option(help="Separator of the columns of --csv.")]
Train = Annotated[int | None, typer.Option(help="Number of training points. Default: all.")]
Test = Annotated[int | None, typer.Option(help="Number of test points. Default: all.")]
Seeds = Annotated[int, typer.Option(help="Number of corruptions at each level.")]
Levels = Annotated[
    str, typer.Option(help="Shares of labels that are corrupted: START:STOP:STEP, or a,b,c.")
]


def own_data(
    data: str,
    data_dir: Path | None,
    csv: Path | None,
    target: str | None,
    sep: str,
    *,
    scaled_on: str = "training",
    dtype: torch.dtype | None = None,
) -> str | Dataset:
    """The data of a command: a name with its settings, or the user's own table.

    Args:
        data, data_dir, csv, target, sep: the options.
        scaled_on: points on which the columns of a table are scaled, "training" or "test".
        dtype: dtype of the inputs of a table; None for float64.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: options do not go together; the table cannot be used.
    """
    if csv is None:
        if target is not None:
            raise ValueError(f"--target names a column of --csv, which was not given: {target!r}")
        return data
    if not csv.is_file():
        raise FileNotFoundError(f"--csv must be a file, {csv} is not")
    if target is None:
        raise ValueError("--target must be given with --csv: the column with the class labels")
    if data != "digits" or data_dir is not None:
        raise ValueError("--csv must not be given together with --data or --data-dir")
    from dataclasses import replace

    from bayesgen import data as datasets

    own = datasets.from_table(csv, target, sep=sep, standardise=scaled_on)
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    for note in own.notes:
        console.print(f"{csv.name}: {note}", markup=False)
    if dtype is not None:
        own = replace(own, x_train=own.x_train.to(dtype), x_test=own.x_test.to(dtype))
    return own


@contextmanager
def on_threads(count: int | None) -> Iterator[None]:
    """Run with a number of CPU threads, in torch and in the BLAS that SciPy uses."""
    if count is None:
        yield
        return
    if count < 1:
        raise ValueError(f"threads must be at least 1, got {count}")
    import torch
    from threadpoolctl import threadpool_limits

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    with threadpool_limits(count):
        yield
    torch.set_num_threads(before)


@contextmanager
def progress_bar() -> Iterator[Any]:
    """A progress bar on stderr, as a function progress(done, expected, what)."""
    from bayesgen.covariance import distributed

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TimeElapsedColumn(),
        TextColumn("ETA"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), disable=not distributed.first()) as bar:
        task = bar.add_task("loading", total=None)

        def report(done: int, expected: int, what: str) -> None:
            bar.update(task, completed=done, total=expected, description=what)

        yield report
        bar.update(task, description="done", completed=1, total=1)


def command_line(**other: str) -> str:
    """The command line as it was given, which results record.

    Args:
        other: arguments to replace by others, such as all="fig5" where one command makes several
            results.
    """
    return shlex.join(["bayesgen", *(other.get(word, word) for word in sys.argv[1:])])


def keep(result: xr.Dataset, figure: Figure, folder: Path, name: str) -> None:
    """Write a result to NAME.nc and its figure to NAME.png in a folder."""
    from bayesgen._internal import files

    files.write(folder / f"{name}.nc", lambda p: result.to_netcdf(p, engine="h5netcdf"))
    save_figure(figure, folder / f"{name}.png")


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure as PNG, completely or not at all."""
    from bayesgen._internal import files

    files.write(path, lambda p: figure.savefig(p, dpi=120))
