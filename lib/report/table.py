"""Tables: cells hold numbers, columns say how to write them, and one writer makes Markdown and CSV."""

import math
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from lib.store import schema

MISSING = "–"
NOT_IN_PAPER = "n/a"


@dataclass(frozen=True)
class Number:
    """A number and what is known of it; NaN where there is none.

    `low`, `high`: its 95% interval. `half`: half the range over several seeds. `paper`: what the paper prints. `status`: why
    there is none, "stale" or "failed"; otherwise it is not computed. `form`: how it is written, where not as its column is.
    `records`: those that it is of, as `results.record_of` names them.
    """

    value: float = math.nan
    low: float = math.nan
    high: float = math.nan
    half: float = math.nan
    paper: float = math.nan
    status: str = ""
    form: str = ""
    records: tuple[str, ...] = ()

    @property
    def exists(self) -> bool:
        """Whether there is a number."""
        return math.isfinite(self.value)

    @property
    def difference(self) -> float:
        """Δ, ours minus the paper's."""
        return self.value - self.paper


@dataclass(frozen=True)
class Strong:
    """Words that stand out in a table."""

    text: str

    def __str__(self) -> str:
        return self.text


def _written(value: float, form: str) -> str:
    """A number by a format specification; what rounds to zero is never "-0.0"."""
    text = f"{value:{form}}"
    return text if re.search("[1-9a-z]", text) else f"{abs(value):{form}}"


@dataclass(frozen=True)
class Column:
    """A heading, and how the cells below it are written.

    `form`: of numbers, a format specification such as ".1f"; without one it is a column of words, and stands to the left.
    `unit` follows a number. `absent` stands where no number is. `delta`, `interval`: Δ and the 95% interval stand in brackets
    behind it; `bare_heading`: the heading does not say so. `write`: of cells that are more than a number, what they read.
    """

    heading: str
    form: str = ""
    unit: str = ""
    absent: str = MISSING
    delta: bool = False
    bare_heading: bool = False
    interval: bool = False
    write: Callable[..., str] | None = None
    left: bool | None = None

    @property
    def title(self) -> str:
        """The heading as it is printed."""
        return f"{self.heading} (Δ)" if self.delta and not self.bare_heading else self.heading

    @property
    def align(self) -> str:
        """Words to the left, numbers to the right."""
        return "left" if (not self.form if self.left is None else self.left) else "right"

    def text(self, cell: object) -> str:
        """The text of a cell: words as they are, nothing for None, and a number by the column's form."""
        if cell is None:
            return ""
        if isinstance(cell, Strong):
            return f"**{cell.text}**"
        if isinstance(cell, str):
            return cell
        if self.write:
            return self.write(cell)
        number = cell if isinstance(cell, Number) else Number(cell.item() if isinstance(cell, np.generic) else cell)
        if not number.exists:
            return "**failed**" if number.status == "failed" else number.status or self.absent  # a failure stands out
        form = number.form or self.form
        text = f"{_written(number.value, form)}{self.unit}"
        if math.isfinite(number.half):
            text += f" ± {number.half:{form}}"
        if self.interval:
            text += f" [{_written(number.low, form)}, {_written(number.high, form)}]"
        if self.delta and math.isfinite(number.difference):
            text += f" ({_written(number.difference, f'+{form}')})"
        return text


class Table:
    """Columns, and rows with one value a column: words, a number, or a thing that the column knows how to write."""

    def __init__(self, columns: Sequence[Column], rows: Sequence[Sequence[object]]) -> None:
        self.columns, self.rows = tuple(columns), tuple(map(tuple, rows))
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(f"a row needs {len(self.columns)} cells, given {len(row)}: {row}")

    def __getitem__(self, heading: str) -> list[object]:
        """The values below a heading."""
        return [row[[column.heading for column in self.columns].index(heading)] for row in self.rows]

    @property
    def text(self) -> pd.DataFrame:
        """The printed text, one column a heading; a table without rows gets one row of "–"."""
        rows = [[column.text(cell) for column, cell in zip(self.columns, row, strict=True)] for row in self.rows]
        return pd.DataFrame(rows or [[MISSING] * len(self.columns)], columns=[column.title for column in self.columns])

    def markdown(self) -> str:
        """The table as Markdown, words to the left and numbers to the right; a number leads to the records that it is of."""
        text = self.text
        for place, column in enumerate(self.columns):
            for line, row in enumerate(self.rows):
                if isinstance(row[place], Number) and row[place].exists and not column.write:
                    text.iat[line, place] = linked(column.text(row[place]), row[place].records)
        return text.to_markdown(index=False, colalign=[column.align for column in self.columns], disable_numparse=True)

    def values(self) -> pd.DataFrame:
        """The values, one column a heading; what is known of a number besides has columns of its own."""
        values: dict[str, list] = {}
        for place, column in enumerate(self.columns):
            cells = [row[place] for row in self.rows]
            numbers = [cell for cell in cells if isinstance(cell, Number)]
            values[column.heading] = [cell.value if isinstance(cell, Number) else _plain(cell, column) for cell in cells]
            if any(number.records for number in numbers):
                values[f"{column.heading}, records"] = ["; ".join(getattr(cell, "records", ())) for cell in cells]
            for name in ("low", "high", "half", "paper", "status"):
                if any(getattr(number, name) == getattr(number, name) and getattr(number, name) != "" for number in numbers):
                    values[f"{column.heading}, {name}"] = [getattr(cell, name, None) for cell in cells]
        return pd.DataFrame(values)


def linked(text: str, records: Sequence[str]) -> str:
    """Text whose number leads to its record, or to the folder that holds those of all seeds.

    The address is the file's, from a notebook's folder; in the book it is made that of the record's page.
    """
    if not records:
        return text
    folder = os.path.commonpath(records)
    number, bracket, rest = text.partition(" (")
    return f'<a class="record" href="../results/{folder}">{number}</a>{bracket}{rest}'


def _plain(cell: object, column: Column) -> object:
    if isinstance(cell, Strong):
        return cell.text
    return cell if cell is None or isinstance(cell, (str, int, float)) else column.text(cell)


def as_csv(rows: pd.DataFrame) -> str:
    """The table as a CSV file. A spreadsheet takes none of its texts for a formula: one that begins like it gets a quote."""
    texts = [column for column in rows if not pd.api.types.is_numeric_dtype(rows[column])]
    return rows.assign(**{str(column): rows[column].map(_safe) for column in texts}).rename(columns=_safe).to_csv(index=False)


def _safe(value: object) -> object:
    if not isinstance(value, str):
        return value
    line = schema.one_line(value)
    # A sign before a number, as in a difference, is no formula.
    return f"'{line}" if re.match(r"\s*(=|@|[+-](?![\d.,%\s()±to+–-]*$))", line) else line
