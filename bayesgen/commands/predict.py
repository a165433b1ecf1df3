"""The command `bayesgen predict`: predictions of a saved model at the rows of a table."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bayesgen.commands import folder, output
from bayesgen.commands.choices import nearest
from bayesgen.commands.report import Study
from bayesgen.commands.shared import DATA, MODEL, Overwrite, Sep, out_option, write

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor

    from bayesgen.data.columns import Columns
    from bayesgen.data.scaled_columns import ScaledColumns

# Number of rows that are printed.
_SHOWN = 10


def predict(
    model: Annotated[
        Path,
        typer.Option(
            help="File of `posterior.save` or of `bayesgen select`.",
            rich_help_panel=MODEL,
        ),
    ],
    csv: Annotated[
        Path,
        typer.Option(
            help="Table with the inputs: CSV, Parquet or .npz. Its columns are found by name where "
            "the model knows their names, and are taken in their order otherwise.",
            rich_help_panel=DATA,
        ),
    ],
    sep: Sep = ",",
    drop: Annotated[
        list[str] | None,
        typer.Option(
            help="Column to leave out, for a model without names; may be given several times.",
            rich_help_panel=DATA,
        ),
    ] = None,
    level: Annotated[
        float,
        typer.Option(help="Probability of the predictive intervals.", rich_help_panel=MODEL),
    ] = 0.95,
    out: Annotated[Path | None, out_option("predictions.csv", "predict-MODEL-TABLE")] = None,
    overwrite: Overwrite = False,
) -> None:
    """Predict the rows of a table with a saved model, with intervals or class probabilities.

    predictions.csv has a line for each row without missing values: mean, sd, lower and upper of a
    new observation, or the label and the probability of each class.
    """
    if not 0 < level < 1:
        raise ValueError(f"level must lie in (0, 1), got {level:g}")
    if not model.is_file():
        raise FileNotFoundError(f"--model must be a file, {model} is not")
    if not csv.is_file():
        raise FileNotFoundError(f"--csv must be a file, {csv} is not")
    from bayesgen._internal import table_files

    frame = table_files.read_table(csv, sep=sep).rename(columns=str)
    for column in drop or []:
        if column not in frame.columns:
            raise ValueError(
                f"--drop must be a column of the table ({', '.join(frame.columns)}), got {column!r}"
                + nearest(column, frame.columns)
            )
    frame = frame.drop(columns=drop or [])
    table_files.check_finite(frame)
    names = ("predictions.csv",)
    with folder.results(out, (model.stem, csv.stem), names, overwrite) as place:
        from bayesgen import storage
        from bayesgen.select.predictions import predictions

        columns = storage.load_columns(model)
        posterior = storage.load(model)
        x, rows = _inputs(frame, posterior.columns if columns is None else columns)
        y = posterior.observed.y
        x = x.to(y.device, y.dtype if y.is_floating_point() else x.dtype)
        found = predictions(posterior, x, level, columns)
        found.index = rows.rename("row")
        target = "" if columns is None else f"{columns.target}: "
        title = f"{target}{len(found):,} predictions of {model.name}"
        if len(found) > _SHOWN:
            title += f", the first {_SHOWN}"
        formats = dict.fromkeys((str(name) for name in found), ".4g")
        output.current().table(found, title, formats, name="predictions", rows=_SHOWN)
        if "lower" in found or "lower0" in found:
            output.current().say(
                f"lower and upper are the ends of the central interval of probability {level:g} of "
                "a new observation."
            )
        study = Study(
            f"Predictions of {model.name}",
            attrs={"data": csv.name, "n": len(found), "inputs": x.shape[1], "level": level},
        )
        write(place, {"predictions.csv": found.to_csv().encode()}, study)


def _inputs(
    frame: pd.DataFrame, columns: ScaledColumns | Columns | None
) -> tuple[Tensor, pd.Index[int]]:
    """The inputs of the rows without missing values, and the numbers of these rows from 1."""
    import pandas as pd
    import torch

    from bayesgen._internal import checks, table_files

    if columns is not None:
        frame = frame[[c.name for c in columns.each if c.name in frame.columns]]
    dropped, note = table_files.missing(frame)
    if note is not None:
        output.current().note(f"note: {note}")
    if dropped.all():
        raise ValueError("table must have rows without missing values, got none")
    rows = pd.Index([i + 1 for i, left in enumerate(dropped) if not left])
    whole = frame.loc[~dropped]
    if columns is not None:
        for each in columns.each:
            if each.kind == "date" and each.name in whole:
                whole = whole.assign(**{each.name: _dates(whole[each.name])})
        return checks.as_tensor("table", columns.encode(whole)), rows
    texts = [c for c in whole if not pd.api.types.is_numeric_dtype(whole[c])]
    if texts:
        raise ValueError(
            f"table must hold numbers, the column {texts[0]!r} holds texts; leave it out with "
            f"--drop {texts[0]}"
        )
    return torch.tensor(whole.to_numpy(dtype=float)), rows


def _dates(column: pd.Series[Any]) -> pd.Series[Any]:
    """A column as dates.

    Raises:
        ValueError: a value is no date.
    """
    import pandas as pd

    found = pd.to_datetime(column, errors="coerce")
    if found.isna().any():
        wrong = column[found.isna()].iloc[0]
        raise ValueError(f"table must hold dates in column {str(column.name)!r}, got {wrong!r}")
    return found
