"""What the commands share: common options, the user's table, threads, and the files they write.

The modules of this room import torch and the models inside functions, so that the help of the
command line and its errors about options need neither.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bayesgen.commands import choices, door, output, report
from bayesgen.commands.choices import choice
from bayesgen.commands.report import Study

if TYPE_CHECKING:
    import pandas as pd
    import torch
    import xarray as xr
    from matplotlib.figure import Figure

    from bayesgen.commands.folder import Results
    from bayesgen.data.dataset import Dataset

# Headings of the help.
DATA, MODEL, COMPUTATION, OUTPUT = "Data", "Model", "Computation", "Output"

# Name of the file of a selected model.
MODEL_FILE = "model.bayesgen"

# Options that several commands share.
Data = Annotated[str, choice(*choices.DATA, help="Data set", registry=choices.READERS, panel=DATA)]
DataDir = Annotated[
    Path | None,
    typer.Option(
        help="Folder with the data set's official files. Default: they are downloaded.",
        rich_help_panel=DATA,
    ),
]
Csv = Annotated[
    Path | None,
    typer.Option(
        help="Your own table in place of --data: CSV, Parquet or .npz. Its columns are scaled to "
        "mean 0 and standard deviation 1, and a fifth of its rows are test points.",
        rich_help_panel=DATA,
    ),
]
Target = Annotated[
    str | None,
    typer.Option(help="Column of --csv with the class labels.", rich_help_panel=DATA),
]
Sep = Annotated[
    str,
    typer.Option(
        help="Separator of the columns of --csv; \\t is a tab.",
        callback=lambda value: value.replace("\\t", "\t"),
        rich_help_panel=DATA,
    ),
]
Train = Annotated[
    int | None,
    typer.Option(min=1, help="Number of training points. Default: all.", rich_help_panel=DATA),
]
Test = Annotated[
    int | None,
    typer.Option(min=1, help="Number of test points. Default: all.", rich_help_panel=DATA),
]
Seeds = Annotated[
    int,
    typer.Option(min=1, help="Number of corruptions at each level.", rich_help_panel=DATA),
]
Levels = Annotated[
    str,
    typer.Option(
        help="Shares of labels that are corrupted: START:STOP:STEP, or a,b,c.", rich_help_panel=DATA
    ),
]
Device = Annotated[str, choice(*choices.DEVICES, help="Device", panel=COMPUTATION)]
Dtype = Annotated[str, choice(*choices.DTYPES, help="Precision", panel=COMPUTATION)]
Threads = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Number of CPU threads. Default: the libraries' choice.",
        rich_help_panel=COMPUTATION,
    ),
]
Overwrite = Annotated[
    bool,
    typer.Option(
        "--overwrite",
        help="Overwrite a result of other settings in the folder.",
        rich_help_panel=OUTPUT,
    ),
]


def out_option(files: str, default: str) -> Any:
    """The option --out of a command.

    Args:
        files: the files that the command writes.
        default: what the name of the default folder is made of.
    """
    return typer.Option(
        help=f"Folder for {files}, and for report.html, which shows them. Default: "
        f"results/{default}, or the same with a number where that holds a result of other "
        "settings.",
        rich_help_panel=OUTPUT,
    )


@dataclass(frozen=True)
class StudyData:
    """The data of a command.

    Attributes:
        name: name of the data set, or the name of the table's file.
        frame: the user's table, or None for a data set by name.
        target: column of the class labels.
    """

    name: str
    frame: pd.DataFrame | None = None
    target: str = ""

    def load(self, scaled_on: str = "training", dtype: torch.dtype | None = None) -> str | Dataset:
        """The name of the data set, or the user's table as a `Dataset`.

        Args:
            scaled_on: points on which the columns of a table are scaled, "training" or "test".
            dtype: dtype of the inputs of a table; None for float64.
        """
        if self.frame is None:
            return self.name
        from dataclasses import replace

        from bayesgen import data as datasets

        own = datasets.from_table(self.frame, self.target, standardise=scaled_on)
        for note in own.notes:
            output.current().note(f"{self.name}: {note}")
        own = replace(own, name=self.name)
        if dtype is not None:
            own = replace(own, x_train=own.x_train.to(dtype), x_test=own.x_test.to(dtype))
        return own


def source(
    data: str, data_dir: Path | None, csv: Path | None, target: str | None, sep: str
) -> StudyData:
    """The data that options name. A table is read and checked here, before torch is imported.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: options do not go together; the table cannot be used.
    """
    check_folder("--data-dir", data_dir)
    if csv is None:
        if target is not None:
            raise ValueError(f"--target names a column of --csv, which was not given: {target!r}")
        return StudyData(data)
    if data != "digits" or data_dir is not None:
        raise ValueError("--csv must not be given together with --data or --data-dir")
    return StudyData(
        csv.stem, own_table(csv, target, sep, "the column with the class labels"), target or ""
    )


def check_folder(option: str, folder: Path | None) -> None:
    """Check that a folder exists, where one is given.

    Raises:
        FileNotFoundError: it does not.
    """
    if folder is not None and not folder.is_dir():
        raise FileNotFoundError(f"{option} must be a folder, {folder} is not")


def own_table(csv: Path, target: str | None, sep: str, what: str) -> pd.DataFrame:
    """The user's table, checked to have the target.

    Args:
        csv, target, sep: the options.
        what: what the target is.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: no target is named, or the table does not have it; it has no rows, or infinite
            numbers.
    """
    if target is None:
        raise ValueError(f"--target must be given with --csv: {what}")
    if not csv.is_file():
        raise FileNotFoundError(f"--csv must be a file, {csv} is not")
    from bayesgen._internal import table_files

    frame = table_files.read_table(csv, sep=sep)
    table_files.check_columns(frame, target)
    return frame


@contextmanager
def on_threads(count: int | None) -> Iterator[None]:
    """Run with a number of CPU threads, in torch and in the BLAS that SciPy uses."""
    if count is None:
        yield
        return
    import torch
    from threadpoolctl import threadpool_limits

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        with threadpool_limits(count):
            yield
    finally:
        torch.set_num_threads(before)


def keep(result: xr.Dataset, plot: Callable[[xr.Dataset], Figure], place: Results) -> None:
    """Write a result to NAME.nc, its figure to NAME.png, its settings, and a report of it.

    It is called after the result was printed, so that a full disk does not lose it.

    Args:
        result: the result.
        plot: result → figure.
        place: the folder.

    Raises:
        OSError: there is no room; the message says how much is wanted, and how much is left.
    """
    from bayesgen._internal import files
    from bayesgen.reports import Section
    from bayesgen.reports.cautions import cautions
    from bayesgen.reports.contents import values

    output.current().attrs(result.attrs)
    title, figure = str(result.attrs["title"]), plot(result)
    write(
        place,
        {f"{place.name}.nc": files.netcdf(result), f"{place.name}.png": png(figure)},
        Study(
            title,
            {title: figure},
            result.attrs,
            cautions(result),
            [Section("All values", values(result))],
        ),
    )


def write(place: Results, contents: dict[str, bytes], study: Study) -> None:
    """Write the files of a result, its settings in NAME.toml and a report, and print their paths.

    Args:
        place: the folder.
        contents: contents of each file by its name.
        study: what the report shows beside what was printed.

    Raises:
        OSError: there is no room; the message says how much is wanted, and how much is left.
    """
    from bayesgen._internal import files

    contents = contents | {report.NAME: report.page(study)}
    try:
        for number, (name, content) in enumerate(contents.items()):
            files.write_bytes(place.path / name, content)
            if number == 0:  # the file whose presence means a result
                place.record()
    except OSError as err:
        if not door.is_full(err):
            raise
        raise door.full(place.path, sum(map(len, contents.values()))) from err
    place.done = True
    output.current().wrote(*(place.path / name for name in contents))


def png(figure: Figure) -> bytes:
    """A figure as PNG."""
    stream = BytesIO()
    figure.savefig(stream, dpi=120, format="png")
    return stream.getvalue()
