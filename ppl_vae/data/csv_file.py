"""A CSV file of numbers, read with pandas; a file that is no table is refused in one sentence."""

import csv
import io
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ppl_vae.errors import InputError

_MISSING = {"", "na", "n/a", "nan", "null", "none", "?", "inf", "-inf"}
_COARSE = 1e-4  # of a column's range: float32 may round its numbers by so much


class CsvFile:
    """A CSV file whose columns are read as float32; one sentence says what is wrong with a file that can't be.

    Args:
        path: the file.
        named: whether each column needs a name.

    Attributes:
        header: the names of the columns.
        lines: the number of each row's line in the file.
    """

    def __init__(self, path: Path, named: bool = True) -> None:
        self._path, self._text = path, _text(path)
        above, header = next(_records(self._text), (0, []))
        self.header = tuple(cell.strip() for cell in header)
        self._check_header(named)
        try:
            self._columns, self.lines = self._read(above)
        except (csv.Error, pd.errors.ParserError) as error:
            self._refuse_unequal_rows()
            reason = str(error).strip().splitlines()[0]
            raise InputError(f"{path} is no CSV text ({reason}): write it as UTF-8, with commas") from None

    def numbers(self, column: int) -> np.ndarray:
        """Returns a column as float32; InputError where it holds anything but numbers."""
        numbers, texts = self._parsed(column)
        if texts:
            row, cell = texts[0]
            raise InputError(
                f"{self._path}: the column {self.header[column]!r} holds text ({cell!r} in line {self.lines[row]}), "
                "expected numbers: remove it, write it as numbers, or name it by --target"
            )
        return self._single(column, numbers)

    def target(self, column: int) -> tuple[np.ndarray, tuple[str, ...]]:
        """Returns a column as float32 and, where it holds text, the names of the classes that its numbers stand for."""
        numbers, texts = self._parsed(column)
        if not texts:
            return self._single(column, numbers), ()
        if len(texts) < len(numbers):
            (text_row, text), row = texts[0], int(np.flatnonzero(~np.isnan(numbers))[0])
            number = self._columns[column][row]
            raise InputError(
                f"{self._path}: the target {self.header[column]!r} holds both numbers ({number!r} in line "
                f"{self.lines[row]}) and text ({text!r} in line {self.lines[text_row]}): correct the cell, or write "
                "every class as text"
            )
        classes, numbers = np.unique(self._columns[column], return_inverse=True)
        return numbers.astype(np.float32), tuple(str(name) for name in classes)

    def _read(self, above: int) -> tuple[dict[int, np.ndarray], np.ndarray]:
        """Reads all rows at once, then those columns again that hold more than numbers; leaves out blank rows.

        Returns:
            Each column, as float64 where it holds numbers alone, else as text; and the line of each row.
        """
        start = self._text.tell()
        _, first = next(_records(self._text), (0, []))
        if not first:
            raise InputError(f"{self._path} has a header and no rows")
        if len(first) != len(self.header):  # a longer one would give pandas an index
            self._refuse_unequal_rows()
        frame = self._parse(start)
        numeric = [column for column, kind in enumerate(frame.dtypes) if kind.kind in "iuf"]
        values = frame[numeric].to_numpy(np.float64)
        finite = ~np.isinf(values).any(axis=0)  # else the text says whether it is a number too large, or the word inf
        numeric, values = [column for column, good in zip(numeric, finite, strict=True) if good], values[:, finite]
        others = sorted(set(range(len(self.header))) - set(numeric))
        cells = self._cells(start, others)
        missing = np.isnan(values)
        blank = missing.all(axis=1)
        for column in others:
            blank &= cells[column] == ""
        if missing.any() or any((column == "").any() for column in cells.values()):
            self._refuse_unequal_rows()
        values = np.asfortranarray(values[~blank])
        columns = {column: values[:, index] for index, column in enumerate(numeric)}
        columns |= {column: text[~blank] for column, text in cells.items()}
        return columns, (above + 1 + np.arange(len(frame)))[~blank]

    def _cells(self, start: int, columns: list[int]) -> dict[int, np.ndarray]:
        """Reads some columns as text, as it stands in the file but for space around it."""
        if not columns:
            return {}
        texts = self._parse(start, usecols=columns, dtype=dict.fromkeys(columns, str), na_filter=False)
        return {column: texts[column].fillna("").str.strip().to_numpy(object) for column in columns}

    def _parse(self, start: int, **options: Any) -> pd.DataFrame:
        """Reads all rows, also blank ones, so that the number of a row tells its line."""
        self._text.seek(start)
        defaults = {"na_values": [""], "keep_default_na": False, "low_memory": False}
        names = range(len(self.header))
        return pd.read_csv(self._text, header=None, names=names, skip_blank_lines=False, **(defaults | options))

    def _check_header(self, named: bool) -> None:
        path, header = self._path, self.header
        if not header:
            raise InputError(f"{path} is empty: expected a header and rows of numbers")
        if all(_number(cell) is not None for cell in header):
            raise InputError(f"{path} has no header, its first row is {', '.join(header)}: name the columns there")
        if "" in header and named:
            raise InputError(
                f"{path}: column {header.index('') + 1} has no name: name it, or drop it where it only counts the rows "
                "(pandas: to_csv(..., index=False); R: write.csv(..., row.names = FALSE))"
            )
        repeated = [name for name, count in Counter(header).items() if count > 1]
        if repeated:
            raise InputError(f"{path}: two columns are named {repeated[0]!r}: give each a name of its own")

    def _refuse_unequal_rows(self) -> None:
        """InputError for the first row that is longer or shorter than the header, if there is one."""
        self._text.seek(0)
        try:
            counts = ((line, len(row)) for line, row in _records(self._text))
            unequal = next(((line, count) for line, count in counts if count != len(self.header)), None)
        except csv.Error:  # the caller says what is wrong with the file
            return
        if unequal:
            line, count = unequal
            raise InputError(
                f"{self._path}, line {line}: {count} cells, the header has {len(self.header)}: mend the line"
            )

    def _parsed(self, column: int) -> tuple[np.ndarray, list[tuple[int, str]]]:
        """Returns a column's numbers, with NaN for text, and the text with its rows; InputError for missing values."""
        cells = self._columns[column]
        is_text = cells.dtype == object
        missing = np.array([cell.lower() in _MISSING for cell in cells]) if is_text else np.isnan(cells)
        if missing.any():
            raise InputError(
                f"{self._path}: the column {self.header[column]!r} misses {missing.sum()} of {len(cells)} values, the "
                f"first in line {self.lines[missing.argmax()]}: drop or fill these rows"
            )
        if not is_text:
            return cells, []
        numbers = [_number(cell) for cell in cells]
        texts = [(row, cell) for row, (cell, number) in enumerate(zip(cells, numbers, strict=True)) if number is None]
        return np.array([np.nan if number is None else number for number in numbers]), texts

    def _single(self, column: int, numbers: np.ndarray) -> np.ndarray:
        """Converts numbers to float32; InputError where that would lose what distinguishes them."""
        what = f"{self._path}: the column {self.header[column]!r}"
        limits = np.finfo(np.float32)
        size = np.abs(numbers)
        if size.max() > limits.max:
            row = int(size.argmax())
            raise InputError(
                f"{what} holds {self._columns[column][row]} in line {self.lines[row]}, more than float32 can hold "
                f"({limits.max:.2g}): rescale it"
            )
        single = numbers.astype(np.float32)
        low, high, error = numbers.min(), numbers.max(), np.abs(single - numbers).max()
        if high > low and error > _COARSE * (high - low):
            remedy = "rescale it" if size.max() < limits.tiny else f"subtract an offset, such as {low:.15g}"
            raise InputError(
                f"{what} goes from {low:.15g} to {high:.15g}, and float32 rounds it by up to {error:.2g}: {remedy}"
            )
        return single


def _text(path: Path) -> io.StringIO:
    """Reads a file whole."""
    try:
        return io.StringIO(path.read_bytes().decode("utf-8-sig"), newline="")
    except OSError as error:
        raise InputError(f"{path} can't be read ({error.strerror or error}): give the path of a .csv file") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is no CSV text ({error}): write it as UTF-8, with commas") from None


def _records(text: io.StringIO) -> Iterator[tuple[int, list[str]]]:
    """Yields the rows from here on that are not blank, each with its number."""
    for number, row in enumerate(csv.reader(text), 1):
        if any(map(str.strip, row)):
            yield number, row


def _number(cell: str) -> float | None:
    """Returns the number in a cell, infinite where it is too large; None for text, also for "inf" and "nan"."""
    try:
        value = float(cell)
    except ValueError:
        return None
    return value if np.isfinite(value) or any(map(str.isdigit, cell)) else None
