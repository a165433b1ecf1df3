"""The columns of a table as a model takes them: coded, scaled, and without those that are constant.

What is decided on one table is kept, so that another table with the same columns gives inputs with
the same meaning.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from bayesgen.data.columns import Column, Columns

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class ScaledColumns:
    """The inputs and the target of a model in the units of a table.

    Attributes:
        columns: the coding of the columns of the inputs.
        centre, size: subtracted from each kept input, and then its divisor, (d,).
        kept: indices of the inputs that are used, among those of all columns.
        target: name of the target.
        classes: names of the classes; empty for a real target.
        target_centre, target_size: the same for a real target.
    """

    columns: Columns
    centre: Tensor
    size: Tensor
    kept: tuple[int, ...]
    target: str
    classes: tuple[str, ...] = ()
    target_centre: float = 0.0
    target_size: float = 1.0

    @property
    def each(self) -> tuple[Column, ...]:
        """The columns of the inputs."""
        return self.columns.each

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the inputs that are used."""
        return tuple(self.columns.coded[i] for i in self.kept)

    def encode(self, table: pd.DataFrame) -> Tensor:
        """The scaled inputs of a table, (n, d); its columns are found by name.

        Raises:
            TypeError, ValueError: a column is missing, or holds something else than the table of
                the fit.
        """
        return (self.columns.encode(table)[:, list(self.kept)] - self.centre) / self.size

    def to_text(self) -> dict[str, Any]:
        """The same as values of JSON."""
        return {
            "columns": [[c.name, c.kind, list(c.values)] for c in self.columns.each],
            "centre": self.centre.tolist(),
            "size": self.size.tolist(),
            "kept": list(self.kept),
            "target": self.target,
            "classes": list(self.classes),
            "target_centre": self.target_centre,
            "target_size": self.target_size,
        }

    @classmethod
    def from_text(cls, text: Mapping[str, Any]) -> ScaledColumns:
        """The columns of `to_text`.

        Raises:
            ValueError: the values are something else.
        """
        try:
            columns = tuple(
                Column(str(n), str(k), tuple(map(str, v))) for n, k, v in text["columns"]
            )
            found = cls(
                Columns(columns),
                torch.tensor(text["centre"], dtype=torch.float64),
                torch.tensor(text["size"], dtype=torch.float64),
                tuple(int(i) for i in text["kept"]),
                str(text["target"]),
                tuple(map(str, text["classes"])),
                float(text["target_centre"]),
                float(text["target_size"]),
            )
            if not len(found.inputs) == len(found.centre) == len(found.size):
                raise ValueError
        except (KeyError, TypeError, ValueError, IndexError):
            raise ValueError("the description of the columns is damaged") from None
        return found
