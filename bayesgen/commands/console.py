"""Tables and texts as the command line prints them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rich import box
from rich.table import Table

if TYPE_CHECKING:
    import pandas as pd


def table(frame: pd.DataFrame, title: str, formats: Mapping[str, str]) -> Table:
    """A data frame as a table for the console, its index first."""
    made = Table(title=title, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    words = frame.index.dtype.kind not in "if"
    made.add_column(str(frame.index.name), justify="left" if words else "right", no_wrap=True)
    for name in frame.columns:
        text = frame[name].dtype.kind not in "iufb"
        made.add_column(
            plain(name), justify="left" if text else "right", vertical="bottom", no_wrap=words
        )
    for index, row in frame.iterrows():
        cells = [_cell(value, formats.get(str(name), ".3f")) for name, value in row.items()]
        made.add_row(plain(index) if words else f"{index:g}", *cells)
    return made


def _cell(value: Any, form: str) -> str:
    if isinstance(value, str):
        return plain(value)
    if isinstance(value, bool) or getattr(getattr(value, "dtype", None), "kind", "") == "b":
        return "yes" if value else "no"
    return "–" if value != value else format(value, form)


def plain(message: object) -> str:
    """A message with its brackets escaped, so that rich does not read them as markup."""
    return str(message).replace("[", r"\[")
