"""What a table of a report is made of."""

import math
from dataclasses import dataclass

from ppl_vae.runs.page_words import nats

Sortable = str | float | None


@dataclass(frozen=True)
class Cell:
    """A cell of a table.

    Attributes:
        text: what it shows.
        value: what it is sorted by; None comes last.

    Examples:
        >>> from ppl_vae.runs.page_cells import Cell
        >>> Cell("83.6%", 0.836).value
        0.836
    """

    text: str
    value: Sortable = None


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        heading: its heading.
        meaning: what it means; empty where the heading says it.
        cells: one for each row.

    Examples:
        >>> from ppl_vae.runs.page_cells import Cell, Column
        >>> len(Column("gap", "", [Cell("0.230", 0.23)]).cells)
        1
    """

    heading: str
    meaning: str
    cells: list[Cell]

    @property
    def is_words(self) -> bool:
        """Whether the cells are words rather than numbers."""
        return any(isinstance(cell.value, str) for cell in self.cells)


@dataclass(frozen=True)
class PageTable:
    """A table of the page.

    Attributes:
        title: above it.
        columns: from left to right, the first with the rows' names.
        note: below it.

    Examples:
        >>> from ppl_vae.runs.page_cells import Cell, Column, PageTable
        >>> PageTable("Guides", [Column("guide", "", [Cell("full", "full")])]).rows
        [[Cell(text='full', value='full')]]
    """

    title: str
    columns: list[Column]
    note: str = ""

    @property
    def rows(self) -> list[list[Cell]]:
        """The cells row by row."""
        return [list(row) for row in zip(*(column.cells for column in self.columns), strict=True)]


def number(value: float | None, error: float | None = None) -> Cell:
    """A number of nats, with its error where there is one.

    Examples:
        >>> from ppl_vae.runs.page_cells import number
        >>> number(-23.4211, 0.0012).text, number(None).text
        ('−23.421 ± 0.001', '–')
    """
    if value is None or math.isnan(value):
        return Cell("–")
    shown = nats(value) if error is None or math.isnan(error) else f"{nats(value)} ± {error:.3f}"
    return Cell(shown, value)
