"""Tables in files, read without torch: CSV, Parquet and `.npz`, with checks of their contents."""

from __future__ import annotations

import os
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bayesgen._internal.words import plural, without_rows

if TYPE_CHECKING:
    import pandas as pd

# A date in the form of ISO 8601, with or without a time.
_ISO = r"\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}(:\d{2}(\.\d+)?)?(Z|[+-]\d{2}:?\d{2})?)?"


def read_table(file: str | os.PathLike[str], *, sep: str = ",") -> pd.DataFrame:
    """Read a table from a CSV, Parquet or `.npz` file.

    Args:
        file: the file: CSV, Parquet (needs pyarrow), or an `.npz` of arrays (n,) and (n, d).
        sep: separator of the columns of a CSV file.

    Raises:
        FileNotFoundError: there is no such file.
        ImportError: a Parquet file is given and pyarrow is not installed.
        TypeError: the argument is no path.
        ValueError: the file holds no table, or no rows.
    """
    import pandas as pd

    if not isinstance(file, str | os.PathLike):
        raise TypeError(f"table must be a DataFrame or a file, got {type(file).__name__}")
    path = Path(file)
    if not path.is_file():
        raise FileNotFoundError(f"table must be a file, {path} is not")
    try:
        frame = _read(path, sep)
    except ImportError:
        raise ImportError("a Parquet file needs pyarrow: pip install pyarrow") from None
    except (ValueError, OSError, KeyError, pd.errors.ParserError) as err:
        words = str(err).splitlines()[0] if str(err) else type(err).__name__
        words += "; is it in UTF-8?" if isinstance(err, UnicodeDecodeError) else ""
        raise ValueError(f"table must hold columns with names, {path} does not: {words}") from None
    if not len(frame):
        raise ValueError(f"table must have rows, {path} has a header and no rows")
    return frame


def check_columns(frame: pd.DataFrame, target: str) -> None:
    """Check that a table has a column, columns of different names, and no infinite numbers.

    Raises:
        ValueError: it has not; the message names the column, and the row of an infinite number.
    """
    names = [str(column) for column in frame.columns]
    if target not in frame.columns:
        near = get_close_matches(str(target).lower(), {n.lower(): n for n in names}, 1, 0.6)
        found = next((n for n in names if near and n.lower() == near[0]), None)
        several = len(names) > 1 or ";" not in names[0]
        hint = f"; did you mean {found!r}?" if found else ""
        hint = hint if several else "; is the separator of columns another one?"
        shown = ", ".join(names if len(names) <= 30 else [*names[:30], "…"])
        raise ValueError(f"target must be a column of the table ({shown}), got {target!r}{hint}")
    if frame.columns.duplicated().any():
        twice = frame.columns[frame.columns.duplicated()][0]
        raise ValueError(f"table must have columns of different names, got {twice!r} twice")
    check_finite(frame)


def check_finite(frame: pd.DataFrame) -> None:
    """Check that a table has no infinite numbers; missing ones are allowed.

    Raises:
        ValueError: it has; the message names the column and the row.
    """
    for column in frame.columns:
        values = frame[column]
        if values.dtype.kind == "f":
            bad = np.flatnonzero(np.isinf(values.to_numpy(dtype=float, na_value=np.nan)))
            if len(bad):
                raise ValueError(
                    f"table must hold finite numbers, got "
                    f"{plural(len(bad), 'infinite value')} in the "
                    f"column {str(column)!r}, the first in row {bad[0] + 1} (rows are counted from "
                    "1, without the header)"
                )


def missing(frame: pd.DataFrame) -> tuple[np.ndarray, str | None]:
    """Which rows have a missing value, (n,), and a sentence about them or None."""
    holes = frame.isna().to_numpy()
    rows = np.asarray(holes.any(axis=1))
    if not rows.any():
        return rows, None
    row, column = (int(i[0]) for i in np.nonzero(holes))
    return rows, (
        f"{without_rows(int(rows.sum()))}, the first of them row "
        f"{row + 1} (column {str(frame.columns[column])!r})"
    )


def _with_dates(frame: pd.DataFrame) -> pd.DataFrame:
    """A table whose columns of ISO dates, such as 2024-05-31, are dates."""
    import pandas as pd

    for name in frame.columns if frame.columns.is_unique else ():
        column = frame[name]
        if pd.api.types.is_numeric_dtype(column) or pd.api.types.is_bool_dtype(column):
            continue
        known = column.dropna().astype(str)
        if len(known) and known.str.fullmatch(_ISO).all():
            dates = pd.to_datetime(column, format="ISO8601", errors="coerce", utc=True)
            if dates.notna().sum() == len(known):
                frame[name] = dates
    return frame


def _read(path: Path, sep: str) -> pd.DataFrame:
    import pandas as pd

    kind = path.suffix.lower()
    if kind in (".parquet", ".pq"):
        return pd.read_parquet(path)
    if kind != ".npz":
        return _with_dates(pd.read_csv(path, sep=sep))
    columns: dict[str, Any] = {}
    with np.load(path, allow_pickle=False) as arrays:
        for key in arrays.files:
            values = arrays[key]
            if values.ndim == 1:
                columns[key] = values
            elif values.ndim == 2:
                columns |= {f"{key}{i}": values[:, i] for i in range(values.shape[1])}
            else:
                raise ValueError(f"{key!r} has {values.ndim} axes, and a column has one or two")
    return pd.DataFrame(columns)
