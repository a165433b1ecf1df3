"""Columns of a table as numbers: the coding of one table, which new tables are read by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from bayesgen._internal.words import plural

if TYPE_CHECKING:
    import pandas as pd

# Largest number of different texts in a column that is coded by indicators.
CATEGORIES = 50
# Number of rows above which texts that are all different are no categories.
_ALL_DIFFERENT = 10


@dataclass(frozen=True)
class Column:
    """One column of a table and its coding.

    Attributes:
        name: name of the column.
        kind: "number", "date" (coded as years) or "text" (coded by one indicator for each value).
        values: the values of a column of text, in sorted order.
    """

    name: str
    kind: str
    values: tuple[str, ...] = ()

    @classmethod
    def of(cls, name: str, values: pd.Series[Any]) -> Column:
        """The coding that a column needs.

        Raises:
            TypeError: it holds neither numbers nor dates nor texts.
            ValueError: it holds no value, or more than 50 different texts.
        """
        import pandas as pd

        if pd.api.types.is_datetime64_any_dtype(values):
            return cls(name, "date")
        if pd.api.types.is_bool_dtype(values) or _numeric(values):
            return cls(name, "number")
        inside = values.cat.categories if hasattr(values, "cat") else values
        kind = pd.api.types.infer_dtype(inside, skipna=True)
        if kind == "empty" or not len(values.dropna()):
            raise ValueError(f"column {name!r} must hold values, got none")
        if kind != "string" and not hasattr(values, "cat"):
            raise TypeError(
                f"column {name!r} must hold numbers, dates or texts, got {kind} values of dtype "
                f"{values.dtype}; convert it, or leave it out"
            )
        words = values.dropna()
        numbers = pd.to_numeric(words.astype(str), errors="coerce").notna()
        if not hasattr(values, "cat") and 0.5 < numbers.mean() < 1:
            place = int(np.argmin(numbers.to_numpy()))
            raise ValueError(
                f"column {name!r} must hold numbers or texts, got the text {words.iloc[place]!r} "
                f"at row {words.index[place]!r} among numbers"
            )
        texts = sorted(_words(words).unique())
        if len(texts) == len(words) > _ALL_DIFFERENT:
            raise ValueError(
                f"column {name!r} must have texts that repeat, got another one in each of "
                f"{len(words)} rows, such as {texts[0]!r}; convert it, or leave it out"
            )
        if len(texts) > CATEGORIES:
            raise ValueError(
                f"column {name!r} must hold numbers, dates or at most {CATEGORIES} different "
                f"texts, got {len(texts)}; leave it out"
            )
        return cls(name, "text", tuple(texts))

    @property
    def coded(self) -> tuple[str, ...]:
        """Names of the numbers that the column becomes."""
        return tuple(f"{self.name}={v}" for v in self.values) if self.values else (self.name,)

    @property
    def note(self) -> str:
        """A sentence about the coding; "" for numbers, which are taken as they are."""
        if self.kind == "date":
            return f"dates in {self.name!r} were coded as years"
        if self.kind == "text":
            return f"texts in {self.name!r} were coded by {plural(len(self.values), 'indicator')}"
        return ""


@dataclass(frozen=True)
class Columns:
    """The coding of the columns of a table.

    Attributes:
        each: the columns in order.
        single: whether all columns were float32, so that the numbers are too.

    Example:
        >>> import pandas as pd
        >>> table = pd.DataFrame({"size": [1.0, 2.0], "kind": ["a", "b"]})
        >>> columns = Columns.of(table)
        >>> columns.coded
        ('size', 'kind=a', 'kind=b')
        >>> columns.encode(table[["kind", "size"]])
        tensor([[1., 1., 0.],
                [2., 0., 1.]], dtype=torch.float64)
    """

    each: tuple[Column, ...]
    single: bool = False

    @classmethod
    def of(cls, table: pd.DataFrame) -> Columns:
        """The coding that the columns of a table need.

        Raises:
            TypeError: a column holds neither numbers nor dates nor texts.
            ValueError: two columns have the same name; there is none; a column holds no value, or
                more than 50 different texts.
        """
        _check_names("table", [str(key) for key in table.columns])
        found = [Column.of(str(key), table[key]) for key in table.columns]
        if not found:
            raise ValueError("table must have a column of inputs, got none")
        _check_names("table", [name for column in found for name in column.coded], coded=True)
        single = all(str(table[key].dtype) == "float32" for key in table.columns)
        return cls(tuple(found), single)

    @property
    def coded(self) -> tuple[str, ...]:
        """Names of the numbers, one for each column of the encoded inputs."""
        return tuple(name for column in self.each for name in column.coded)

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences about columns that are not numbers."""
        return tuple(column.note for column in self.each if column.note)

    def encode(self, table: pd.DataFrame, name: str = "table") -> Tensor:
        """The numbers of a table, (n, d), float64, or float32 where all columns were.

        Columns are found by name, in any order, and others are ignored.

        Args:
            table: a table with these columns.
            name: name of the argument, for messages.

        Raises:
            TypeError: a column holds values of another kind.
            ValueError: a column is missing; a text was not among the values of the coded table; a
                value is missing or infinite.
        """
        if not len(table):
            raise ValueError(f"{name} must have rows, got none")
        known = {column.name for column in self.each}
        _check_names(name, [str(key) for key in table.columns if str(key) in known])
        labels = {str(key): key for key in table.columns}
        lost = [column.name for column in self.each if column.name not in labels]
        if lost:
            raise ValueError(
                f"{name} must have the columns {_listed([c.name for c in self.each])}, but "
                f"{_listed(lost)} {'is' if len(lost) == 1 else 'are'} missing"
            )
        chosen = [table[labels[column.name]] for column in self.each]
        parts = [_numbers(c, v, name) for c, v in zip(self.each, chosen, strict=True)]
        values = np.concatenate(parts, 1).astype(np.float32 if self.single else np.float64)
        bad = ~np.isfinite(values)
        if bad.any():
            row, place = np.argwhere(bad)[0].tolist()
            raise ValueError(
                f"{name} must be finite, got "
                f"{plural(int(bad.sum()), 'NaN, missing or infinite value')}, "
                f"the first in column {self.coded[place]!r} at row {table.index[row]!r}"
            )
        return torch.from_numpy(values)


@dataclass(frozen=True)
class ColumnOrder:
    """The names of columns of numbers, by which new tables are put into the same order.

    Attributes:
        each: the columns in order.
    """

    each: tuple[Column, ...]

    @classmethod
    def of(cls, table: pd.DataFrame) -> ColumnOrder:
        """The order of the columns of a table."""
        return cls(Columns.of(table).each)

    @property
    def coded(self) -> tuple[str, ...]:
        """Names of the columns."""
        return tuple(column.name for column in self.each)

    def encode(self, table: pd.DataFrame, name: str = "table") -> Any:
        """The columns of a table in order, of their own dtype.

        Raises:
            ValueError: a column is missing, or occurs twice.
        """
        labels = [str(key) for key in table.columns]
        _check_names(name, [label for label in labels if label in self.coded])
        lost = [label for label in self.coded if label not in labels]
        if lost:
            raise ValueError(
                f"{name} must have the columns {_listed(self.coded)}, but {_listed(lost)} "
                f"{'is' if len(lost) == 1 else 'are'} missing"
            )
        return table.iloc[:, [labels.index(label) for label in self.coded]]


def _check_names(name: str, names: Sequence[str], *, coded: bool = False) -> None:
    """Check that names of columns differ.

    Raises:
        ValueError: one occurs twice; the message names it.
    """
    twice = next((each for i, each in enumerate(names) if each in names[:i]), None)
    if twice is not None:
        after = " after the texts of a column were coded" if coded else ""
        raise ValueError(f"{name} must have columns of different names, got {twice!r} twice{after}")


def _words(values: pd.Series[Any]) -> pd.Series[Any]:
    """Values as texts; whole numbers have no decimals, whatever the dtype of the column."""
    return values.map(
        lambda v: str(int(v)) if isinstance(v, float) and v == v and v.is_integer() else str(v)
    )


def is_table(value: Any) -> bool:
    """Whether a value is a DataFrame of pandas."""
    return type(value).__module__.split(".")[0] == "pandas" and hasattr(value, "columns")


def _numeric(column: pd.Series[Any]) -> bool:
    """Whether a column holds real numbers, also as Python objects such as decimals."""
    import pandas as pd

    if column.dtype != object:
        real = not pd.api.types.is_complex_dtype(column)
        return bool(pd.api.types.is_numeric_dtype(column)) and real
    kind = pd.api.types.infer_dtype(column, skipna=True)
    return kind in ("integer", "floating", "mixed-integer-float", "decimal", "boolean")


def _numbers(column: Column, values: pd.Series[Any], name: str) -> np.ndarray:
    """The numbers of one column, (n, 1), or (n, k) for text."""
    import pandas as pd

    if column.kind == "text":
        words = _words(values).where(values.notna(), other=None)
        new = sorted(set(words.dropna()) - set(column.values))
        if new:
            raise ValueError(
                f"{name} must hold {_listed(column.values)} in column {column.name!r}, got also "
                f"{_listed(new)}"
            )
        missing = values.isna().to_numpy()
        coded = np.stack([(words == v).to_numpy(dtype=float) for v in column.values], 1)
        coded[missing] = np.nan
        return coded
    if column.kind == "date":
        if not pd.api.types.is_datetime64_any_dtype(values):
            raise TypeError(
                f"{name} must hold dates in column {column.name!r}, got dtype {values.dtype}; "
                "convert them with pandas.to_datetime"
            )
        moment = pd.to_datetime(values, utc=True)
        time = (moment - moment.dt.normalize()) / pd.Timedelta(days=1)
        years = moment.dt.year + (moment.dt.day_of_year - 1 + time) / 365.25
        return years.to_numpy(dtype=float)[:, None]
    try:
        if not (pd.api.types.is_bool_dtype(values) or _numeric(values)) and values.notna().any():
            raise TypeError
        found: np.ndarray = values.to_numpy(dtype=np.float64, na_value=np.nan)[:, None]
    except (TypeError, ValueError):
        raise TypeError(
            f"{name} must hold numbers in column {column.name!r}, got dtype {values.dtype}"
        ) from None
    return found


def _listed(names: Sequence[str], most: int = 8) -> str:
    some = ", ".join(map(repr, names[:most]))
    return some if len(names) <= most else f"{some}, … ({len(names)} in all)"
