"""The parts of a report as plain values: sections of tables, figures, facts, texts and cautions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Prose:
    """A paragraph.

    Attributes:
        text: the paragraph.
    """

    text: str


@dataclass(frozen=True)
class Cautions:
    """Sentences about what to be careful about.

    Attributes:
        sentences: the sentences.
    """

    sentences: Sequence[str]


@dataclass(frozen=True)
class Facts:
    """Names and values.

    Attributes:
        pairs: (name, value), in their order.
    """

    pairs: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class TableBlock:
    """A table of texts.

    Attributes:
        caption: what the table holds, with its units.
        columns: headings; the first is that of the names of the rows.
        rows: cells of each row; the first is the name of the row.
        right: whether each column is set to the right, as numbers are; left where it is empty.

    Raises:
        ValueError: a row has another number of cells than there are columns.
    """

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    right: Sequence[bool] = field(default=())

    def __post_init__(self) -> None:
        wrong = {len(row) for row in self.rows} - {len(self.columns)}
        if wrong:
            raise ValueError(
                f"rows must have {len(self.columns)} cells, one for each column, got {min(wrong)}"
            )


@dataclass(frozen=True)
class Picture:
    """A figure.

    Attributes:
        svg: an `<svg>` element, which is put on the page as it is.
        alt: what the figure shows, for readers who do not see it.
        caption: text below the figure.
        width: natural width in CSS pixels.
    """

    svg: str
    alt: str
    caption: str = ""
    width: float = 640.0


Block = Prose | Cautions | Facts | TableBlock | Picture


@dataclass(frozen=True)
class Section:
    """A part of a page under its own heading.

    Attributes:
        heading: the heading.
        blocks: what stands below it.
    """

    heading: str
    blocks: Sequence[Block]
