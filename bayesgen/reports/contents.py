"""Tables and facts of a report from data frames, results and their attributes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from bayesgen.reports.blocks import Block, Facts, TableBlock

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

# Dims over which a table shows means.
REPEATS = ("seed", "repetition", "draw")
# Largest number of rows of a table.
MOST = 200
# Names of attributes, and where they stand.
DATA = {
    "data": "data",
    "n": "observations n",
    "n_test": "test observations",
    "inputs": "inputs d",
    "classes": "classes C",
    "corruption": "corruption of labels",
    "data_fingerprint": "fingerprint of the data",
}
MADE = {
    "command": "command",
    "versions": "versions",
    "python": "Python",
    "platform": "platform",
    "created": "made at",
}
CLAIM = {"paper": "claimed", "found": "found here", "holds": "does it hold?"}
_LEFT_OUT = {"title", "run", "table", "says", "experiment"}


def table(
    frame: pd.DataFrame,
    caption: str,
    formats: Mapping[str, str] | None = None,
    headings: Mapping[str, str] | None = None,
    default: str = ".4g",
) -> TableBlock:
    """A data frame as a table, its index first.

    Args:
        frame: the data frame.
        caption: what it holds, with its units.
        formats: format of the numbers by column.
        headings: heading by column; only these columns are shown. None shows all under their names.
        default: format of the other columns of real numbers.

    Example:
        >>> import pandas as pd
        >>> made = table(pd.DataFrame({"nats": [1.5, float("nan")]}, index=["a", "b"]), "Parts")
        >>> made.columns, made.rows
        (('', 'nats'), (('a', '1.5'), ('b', '–')))
    """
    names = headings or {str(column): str(column).replace("- ", "") for column in frame}
    shown = frame.rename(columns=str)[list(names)]
    forms = [(formats or {}).get(name, default) for name in names]
    index = "" if frame.index.name is None else str(frame.index.name)
    rows = tuple(
        (cell(label), *(cell(value, form) for value, form in zip(row, forms, strict=True)))
        for label, row in zip(shown.index, shown.itertuples(index=False, name=None), strict=True)
    )
    right = (
        frame.index.dtype.kind in "iuf",
        *(shown[name].dtype.kind in "iuf" for name in names),
    )
    return TableBlock(caption, (index, *names.values()), rows, right)


def cell(value: Any, form: str = ".4g") -> str:
    """A value as a text: a dash where it is missing, and lists with commas.

    Example:
        >>> cell(1234.5678), cell(float("nan")), cell(True), cell(["a", "b"]), cell(12)
        ('1,235', '–', 'yes', 'a, b', '12')
    """
    if hasattr(value, "tolist"):
        value = value.tolist()
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        plain = form == ".4g" and 999.5 <= abs(value) < 1e6
        return format(value, ",.0f" if plain else form)
    if isinstance(value, list | tuple):
        return ", ".join(cell(each, form) for each in value)
    return str(value)


def facts(attrs: Mapping[str, Any], names: Mapping[str, str]) -> list[Block]:
    """The attributes with these names, or nothing where there are none."""
    pairs = [(words, cell(attrs[key])) for key, words in names.items() if key in attrs]
    return [Facts(pairs)] if pairs else []


def made(attrs: Mapping[str, Any], now: Mapping[str, str]) -> list[Block]:
    """The command and versions that a result records, and those of now where it records none."""
    pairs = {words: cell(attrs[key]) for key, words in MADE.items() if key in attrs}
    return [Facts(list((pairs | {k: v for k, v in now.items() if k not in pairs}).items()))]


def settings(attrs: Mapping[str, Any]) -> list[Block]:
    """The other attributes of a result: its settings."""
    known = {*DATA, *MADE, *CLAIM, *_LEFT_OUT}
    others = {key: str(key).replace("_", " ") for key in attrs if key not in known}
    return facts(attrs, others)


def values(result: xr.Dataset) -> list[Block]:
    """Tables of the variables of a result: means over seeds, one table for each set of dims.

    A table of more than 200 rows is left out, as those of curves are.

    Args:
        result: a result; the attribute `units` of a variable stands in its heading.
    """
    repeats = [str(name) for name in result.dims if name in REPEATS]
    groups: dict[tuple[str, ...], list[str]] = {}
    for name, one in result.data_vars.items():
        dims = tuple(str(d) for d in one.dims if d not in REPEATS)
        if one.dtype.kind in "iufb" or not repeats or dims == one.dims:
            groups.setdefault(dims, []).append(str(name))
    found: list[Block] = []
    for dims, names in groups.items():
        of = ", means over " + " and ".join(repeats) if repeats else ""
        headings = {name: _heading(name, result[name].attrs.get("units", "")) for name in names}
        if not dims:
            means = {name: _mean(result[name]) for name in names}
            found.append(Facts([(headings[name], cell(one.item())) for name, one in means.items()]))
        elif math.prod(result.sizes[d] for d in dims) <= MOST:
            part = result[names]
            numbers = [name for name in names if part[name].dtype.kind in "iufb"]
            for name in numbers:
                part[name] = _mean(part[name])
            part = part.drop_vars([c for c in part.coords if c not in dims])
            frame = part.to_dataframe(dim_order=list(dims)).reset_index()
            made = table(
                frame.set_index(dims[0]), "", headings=dict.fromkeys(dims[1:], "") | headings
            )
            columns = (*dims, *made.columns[len(dims) :])
            found.append(TableBlock(f"By {' and '.join(dims)}{of}", columns, made.rows, made.right))
    return found


def _mean(values: xr.DataArray) -> xr.DataArray:
    over = [d for d in values.dims if d in REPEATS]
    return values.mean(over) if over else values


def _heading(name: str, units: str) -> str:
    words = name.replace("_", " ")
    return words if units in ("", "1") else f"{words}, {units}"


def listed(words: Iterable[str]) -> str:
    """Words with commas and an "and".

    Example:
        >>> listed(["a", "b", "c"])
        'a, b and c'
    """
    *others, last = words
    return f"{', '.join(others)} and {last}" if others else last
