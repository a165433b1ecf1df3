"""Data sets of one's own: arrays, and tables with a column of class labels."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from bayesgen._internal import checks, table_files
from bayesgen._internal.table_files import read_table as read_table
from bayesgen.data.columns import Columns
from bayesgen.data.dataset import Dataset

if TYPE_CHECKING:
    import pandas as pd

# Fewest rows, so that there are points for training and for testing.
_FEWEST = 4


def from_arrays(
    x: Any,
    y: Any,
    *,
    test: float | int = 0.2,
    seed: int = 0,
    standardise: str = "no",
    name: str = "arrays",
) -> Dataset:
    """Make a `Dataset` from inputs and class labels, with a random part of them as test points.

    Args:
        x: inputs, (n, …); several axes, such as those of images, are flattened to (n, d). A
            DataFrame may have columns of text and of dates; see `from_table`.
        y: labels, (n,): integers, texts or booleans. The classes are the different labels in sorted
            order, and `Dataset.classes` holds their names.
        test: number of test points, or their share in (0, 1).
        seed: seed of the draw.
        standardise: "training" or "test" scales the columns to mean 0 and standard deviation 1 on
            these points and leaves out columns that are constant there; "no" keeps their units. A
            certificate needs "test" or "no", because a prior that depends on the training inputs
            was not chosen before them.
        name: name of the data set.

    Returns:
        The data set. Its `notes` say what was left out, coded or scaled.

    Raises:
        TypeError: the inputs are no numbers; the labels are real numbers.
        ValueError: lengths differ; a value is missing or infinite; there is one class; a class has
            no training point; `test` leaves no points.

    Example:
        >>> import numpy as np
        >>> x = np.random.default_rng(0).normal(size=(50, 3))
        >>> from_arrays(x, np.where(x[:, 0] > 0, "yes", "no"), test=10).classes
        ('no', 'yes')
    """
    import pandas as pd

    notes: list[str] = []
    if isinstance(x, pd.DataFrame):
        frame, dropped = _complete(x, notes)
        labels = np.asarray(y, dtype=object).reshape(-1)
        if len(labels) != len(x):
            raise ValueError(f"y must have {len(x)} labels, one for each row, got {len(labels)}")
        values, columns = _coded(frame, notes)
        found = _classes("y", labels[~dropped], len(values))
        return _split(values, found, columns, test, seed, standardise, name, notes)
    inputs = checks.real("x", x)
    if inputs.ndim < 2 or not inputs.numel():
        raise ValueError(f"x must have shape (n, …) and not be empty, got {tuple(inputs.shape)}")
    values = inputs.reshape(len(inputs), -1)
    labels = np.asarray(y.tolist() if isinstance(y, Tensor) else y)
    columns = tuple(f"x{i}" for i in range(values.shape[1]))
    found = _classes("y", labels, len(values))
    return _split(values, found, columns, test, seed, standardise, name, notes)


def from_table(
    table: pd.DataFrame | str | os.PathLike[str],
    target: str,
    *,
    sep: str = ",",
    test: float | int = 0.2,
    seed: int = 0,
    standardise: str = "no",
    missing: str = "drop",
) -> Dataset:
    """Make a `Dataset` from a table with one column of class labels.

    Numbers and booleans are taken as they are. A column of text is coded by one indicator for each
    of its values, and a column of dates by its years. `Dataset.notes` says so.

    Args:
        table: a DataFrame, or a file: CSV, Parquet (needs pyarrow), or an `.npz` of arrays (n,)
            and (n, d).
        target: name of the column of labels: texts, integers or booleans.
        sep: separator of the columns of a CSV file.
        test, seed, standardise: as in `from_arrays`.
        missing: "drop" leaves out rows with a missing value and counts them in the notes; "refuse"
            raises an error.

    Raises:
        FileNotFoundError: there is no such file.
        ImportError: a Parquet file is given and pyarrow is not installed.
        TypeError: the table is something else.
        ValueError: the file holds no table or no rows; there is no such column, or no other; the
            target holds real numbers or one value; values are missing or infinite; a text column
            has more than 50 values.

    Example:
        >>> import pandas as pd
        >>> table = pd.DataFrame({"size": range(40), "kind": ["a", "b"] * 20})
        >>> from_table(table, "kind")
        Dataset(table: 32 training and 8 test points, d = 1, C = 2)
    """
    import pandas as pd

    checks.one_of("missing", missing, ("drop", "refuse"))
    name = "table"
    if not isinstance(table, pd.DataFrame):
        file, table = table, read_table(table, sep=sep)
        name = Path(file).stem
    table_files.check_columns(table, target)
    notes: list[str] = []
    if missing == "refuse" and table.isna().to_numpy().any():
        holes = [str(c) for c in table.columns if table[c].isna().any()]
        raise ValueError(f"table must have no missing values, got some in {', '.join(holes)}")
    whole, _ = _complete(table, notes)
    if len(whole) < _FEWEST:
        raise ValueError(
            f"table must have at least {_FEWEST} rows without missing values, got {len(whole)} of "
            f"{len(table)}"
        )
    values, columns = _coded(whole.drop(columns=[target]), notes)
    labels = whole[target].to_numpy()
    found = _classes(f"the target {target!r}", labels, len(values))
    return _split(values, found, columns, test, seed, standardise, name, notes)


def _complete(frame: pd.DataFrame, notes: list[str]) -> tuple[pd.DataFrame, np.ndarray]:
    """The rows without a missing value, and a mask of the others."""
    dropped, note = table_files.missing(frame)
    if note is not None:
        notes.append(note)
    return frame.loc[~dropped], dropped


def _coded(frame: pd.DataFrame, notes: list[str]) -> tuple[Tensor, tuple[str, ...]]:
    """The columns as numbers, (n, d), float64, and their names."""
    columns = Columns.of(frame)
    notes.extend(columns.notes)
    return columns.encode(frame).double(), columns.coded


def _split(
    x: Tensor,
    labels: tuple[Tensor, tuple[str, ...]],
    columns: tuple[str, ...],
    test: float | int,
    seed: int,
    standardise: str,
    name: str,
    notes: list[str],
) -> Dataset:
    """The data set of inputs (n, d), of labels (n,) and of the names of their classes."""
    checks.one_of("standardise", standardise, ("no", "training", "test"))
    if not torch.isfinite(x).all():
        bad = [c for c, column in zip(columns, x.T, strict=True) if not column.isfinite().all()]
        raise ValueError(f"inputs must be finite, got NaN or infinite values in {bad[0]!r}")
    y, classes = labels
    count = _test_points(test, len(x))
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(checks.seed(seed)))
    held, kept = order[:count].sort().values, order[count:].sort().values
    lost = [c for i, c in enumerate(classes) if not bool((y[kept] == i).any())]
    if lost:
        raise ValueError(
            f"each class must have a training point, class {lost[0]!r} has none of "
            f"the {len(kept)}; take fewer test points or leave the class out"
        )
    if standardise != "no":
        rows = kept if standardise == "training" else held
        x, columns = _scaled(x, rows, columns, notes, standardise)
    return Dataset(
        name, x[kept], y[kept], x[held], y[held], classes, columns=columns, notes=tuple(notes)
    )


def _classes(name: str, labels: np.ndarray, n: int) -> tuple[Tensor, tuple[str, ...]]:
    """Labels 0..C − 1, and the names of the classes."""
    if labels.ndim != 1 or len(labels) != n:
        raise ValueError(f"{name} must have shape ({n},), got {labels.shape}")
    if labels.dtype.kind == "c":
        raise TypeError(f"{name} must hold classes, got complex numbers")
    if any(value is None or value != value for value in labels.tolist()):
        raise ValueError(f"{name} must have no missing labels, got None or NaN")
    if labels.dtype.kind == "f" or any(isinstance(value, float) for value in labels.tolist()):
        numbers = labels.astype(float)
        if not np.array_equal(numbers, np.round(numbers)):
            raise TypeError(
                f"{name} must hold classes, got real numbers such as {numbers[0]:g}; round or "
                "group them first"
            )
        labels = numbers.astype(np.int64)
    kinds = {isinstance(value, str) for value in labels.tolist()}
    values = sorted(set(labels.tolist()), key=str if len(kinds) > 1 else None)
    if len(values) < 2:
        raise ValueError(f"{name} must hold at least two classes, got {values}")
    place = {value: i for i, value in enumerate(values)}
    return torch.tensor([place[v] for v in labels.tolist()]), tuple(map(str, values))


def _test_points(test: float | int, n: int) -> int:
    """Number of test points of n."""
    count = checks.integer(test)
    if count is None:
        count = math.ceil(checks.share("test", test) * n)
    if not 1 <= count < n:
        raise ValueError(f"test must leave points for training and testing of {n}, got {test}")
    return count


def _scaled(
    x: Tensor, rows: Tensor, columns: tuple[str, ...], notes: list[str], which: str
) -> tuple[Tensor, tuple[str, ...]]:
    """Columns of mean 0 and standard deviation 1 on some rows."""
    centre, size = x[rows].mean(0), x[rows].std(0, correction=0)
    varies = size > 1e-12 * x[rows].abs().amax(0)
    if not varies.any():
        raise ValueError(f"inputs must vary, each column is constant on the {which} points")
    if not varies.all():
        constant = [c for c, v in zip(columns, varies.tolist(), strict=True) if not v]
        notes.append(f"constant columns were left out: {', '.join(constant)}")
    notes.append(f"columns were scaled to mean 0 and standard deviation 1 on the {which} points")
    left = tuple(c for c, v in zip(columns, varies.tolist(), strict=True) if v)
    return ((x - centre) / size)[:, varies], left
