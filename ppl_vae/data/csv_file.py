"""A CSV file of numbers, read row by row; a file that is no table is refused in one sentence."""

import csv
import io
import math
from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import BinaryIO

import numpy as np

from ppl_vae.data.files import memory, opened, quoted, shown
from ppl_vae.errors import InputError

_MISSING = {"", "na", "n/a", "nan", "null", "none", "?", "inf", "-inf"}
_COARSE = 1e-4  # of a column's range: float32 may round its numbers by so much
_SINGLE = np.finfo(np.float32)
_LONGEST_ROW = 1 << 22  # characters
_PER_CELL = 128  # bytes that a cell may take while it is read and checked


@dataclass(frozen=True)
class Columns:
    """The columns of a CSV file.

    Attributes:
        names: those of the columns of ``values``.
        values: shape (rows, columns), float32.
        targets: the column set apart, shape (rows,), float32; the number of its class where it is text.
        classes: the names of these classes, empty where the target is a number.
    """

    names: tuple[str, ...]
    values: np.ndarray
    targets: np.ndarray | None
    classes: tuple[str, ...]


def read_columns(path: Path, target: str | None, wanted: Sequence[str] | None = None) -> Columns:
    """Reads the columns of a CSV file, or the wanted ones; the target alone may hold text.

    Raises:
        InputError: for a file that is no table, or whose numbers float32 can't hold or can't tell apart.
    """
    what = shown(path)
    with opened(path, memory(), "give a .csv file, UTF-8 text with commas") as file:
        records = _records(file, what)
        header = [cell.strip() for cell in next(records, (0, []))[1]]
        _check_header(header, what, named=wanted is None)
        if absent := [name for name in wanted or () if name not in header]:
            raise InputError(f"{what} has no column {absent[0]!r}: its header is {shown(', '.join(header))}")
        chosen = [header.index(name) for name in wanted] if wanted else list(range(len(header)))
        apart = None if target is None else position(what, [header[column] for column in chosen], target)
        set_apart = None if apart is None else chosen.pop(apart)
        if not chosen:
            raise InputError(f"{what} has no column beside the target {target!r}: at least one more is needed")
        table = _Rows(what, header, chosen, set_apart)
        for line, row in records:
            table.add(line, row)
    values = table.values()
    targets, classes = table.targets()
    return Columns(tuple(header[column] for column in chosen), values, targets, classes)


class _Rows:
    """The rows that are read so far, and what is missing in them."""

    def __init__(self, what: str, header: list[str], chosen: list[int], target: int | None) -> None:
        self._what, self._header, self._chosen, self._target = what, header, chosen, target
        self._pick = itemgetter(*chosen) if len(chosen) > 1 else itemgetter(slice(chosen[0], chosen[0] + 1))
        self._lines, self._numbers, self._texts = array("q"), array("d"), list[str]()
        self._known: dict[str, str] = {}  # each text of the target once
        self._missing: dict[int, tuple[int, int]] = {}  # of a column: how many, and the first one's line
        self._most = memory() // _PER_CELL // len(header)

    def add(self, line: int, row: list[str]) -> None:
        if len(row) != len(self._header):
            raise InputError(
                f"{self._what}, line {line}: {len(row)} cells, the header has {len(self._header)}: mend the line"
            )
        if len(self._lines) >= self._most:
            raise InputError(f"{self._what} has more than {self._most} rows, which fill the memory: take fewer")
        self._lines.append(line)
        cells = self._pick(row)
        try:
            numbers = list(map(float, cells))
        except ValueError:
            numbers = [math.nan]
        if not math.isfinite(sum(numbers)) or "_" in "".join(cells):  # float() reads 1_0 as 10
            numbers = [self._number(line, column, row[column]) for column in self._chosen]
        self._numbers.extend(numbers)
        if self._target is not None:
            cell = row[self._target]
            self._texts.append(self._known.setdefault(cell, cell))

    def values(self) -> np.ndarray:
        if not self._lines:
            raise InputError(f"{self._what} has a header and no rows")
        for column, (count, line) in self._missing.items():
            raise self._misses(column, count, line)
        return self._single(np.frombuffer(self._numbers).reshape(len(self._lines), -1), self._chosen)

    def targets(self) -> tuple[np.ndarray | None, tuple[str, ...]]:
        """Returns the target's numbers; where it is text, those of its classes, and their names."""
        if self._target is None:
            return None, ()
        known = {cell: _number(cell) for cell in self._known}
        if missing := {cell for cell in known if cell.strip().lower() in _MISSING}:
            lines = [line for line, cell in zip(self._lines, self._texts, strict=True) if cell in missing]
            raise self._misses(self._target, len(lines), lines[0])
        texts = {cell for cell, number in known.items() if number is None}
        if not texts:
            numbers = np.array([known[cell] for cell in self._texts], np.float64)
            return self._single(numbers[:, None], [self._target])[:, 0], ()
        if len(texts) < len(known):
            raise self._mixed(texts)
        classes = tuple(sorted({cell.strip() for cell in texts}))
        number_of = {name: number for number, name in enumerate(classes)}
        return np.array([number_of[cell.strip()] for cell in self._texts], np.float32), classes

    def _mixed(self, texts: set[str]) -> InputError:
        rows = zip(self._lines, self._texts, strict=True)
        first = {cell in texts: f"({quoted(cell.strip())} in line {line})" for line, cell in reversed(list(rows))}
        return InputError(
            f"{self._what}: the target {quoted(self._header[self._target or 0])} holds both numbers {first[False]} and "
            f"text {first[True]}: correct the cell, or write every class as text"
        )

    def _misses(self, column: int, count: int, line: int) -> InputError:
        return InputError(
            f"{self._what}: the column {quoted(self._header[column])} misses {count} of {len(self._lines)} values, "
            f"the first in line {line}: drop or fill these rows"
        )

    def _number(self, line: int, column: int, cell: str) -> float:
        """Returns the number in a cell, NaN for a missing one; InputError for text."""
        if cell.strip().lower() in _MISSING:
            count, first = self._missing.get(column, (0, line))
            self._missing[column] = (count + 1, first)
            return math.nan
        number = _number(cell)
        if number is None:
            raise InputError(
                f"{self._what}: the column {quoted(self._header[column])} holds text ({quoted(cell.strip())} in line "
                f"{line}), expected numbers: remove it, write it as numbers, or name it by --target"
            )
        if math.isinf(number):
            raise self._too_large(column, cell.strip(), line)
        return number

    def _too_large(self, column: int, number: str, line: int) -> InputError:
        return InputError(
            f"{self._what}: the column {quoted(self._header[column])} holds {shown(number)} in line {line}, more than "
            f"float32 can hold ({_SINGLE.max:.2g}): rescale it"
        )

    def _single(self, numbers: np.ndarray, columns: list[int]) -> np.ndarray:
        """Converts columns of numbers to float32; InputError where that would lose what distinguishes them."""
        size = np.abs(numbers)
        row, place = np.unravel_index(size.argmax(), size.shape)
        if size[row, place] > _SINGLE.max:
            raise self._too_large(columns[place], f"{numbers[row, place]:.15g}", self._lines[row])
        single = numbers.astype(np.float32)
        low, high, error = numbers.min(0), numbers.max(0), np.abs(single - numbers).max(0)
        for column in np.flatnonzero((high > low) & (error > _COARSE * (high - low)))[:1]:
            is_tiny = size[:, column].max() < _SINGLE.tiny
            remedy = "rescale it" if is_tiny else f"subtract an offset, such as {low[column]:.15g}"
            raise InputError(
                f"{self._what}: the column {quoted(self._header[columns[column]])} goes from {low[column]:.15g} to "
                f"{high[column]:.15g}, and float32 rounds it by up to {error[column]:.2g}: {remedy}"
            )
        return single


def _check_header(header: list[str], what: str, named: bool) -> None:
    if not header:
        raise InputError(f"{what} is empty: expected a header and rows of numbers")
    if all(_number(cell) is not None for cell in header):
        raise InputError(f"{what} has no header, its first row is {shown(', '.join(header))}: name the columns there")
    if "" in header and named:
        raise InputError(
            f"{what}: column {header.index('') + 1} has no name: name it, or drop it where it only counts the rows "
            "(pandas: to_csv(..., index=False); R: write.csv(..., row.names = FALSE))"
        )
    repeated = [name for name, count in Counter(header).items() if count > 1]
    if repeated:
        raise InputError(f"{what}: two columns are named {quoted(repeated[0])}: give each a name of its own")


def position(what: str, header: Sequence[str], name: str) -> int:
    """Returns the place of the target; InputError where no column has its name."""
    if name not in header:
        raise InputError(f"{what} has no column {quoted(name)} for the target: choose from {shown(', '.join(header))}")
    return header.index(name)


def _records(file: BinaryIO, what: str) -> Iterator[tuple[int, list[str]]]:
    """Yields the rows that are not blank, each with the number of its (last) line; never holds more than one row."""
    length = 0  # of the row so far, which quoted cells may spread over lines

    def lines(text: io.TextIOWrapper) -> Iterator[str]:
        nonlocal length
        while line := text.readline(_LONGEST_ROW + 1):
            length += len(line)
            if length > _LONGEST_ROW:
                raise InputError(f"{what} has a row of more than {_LONGEST_ROW} characters: is it a table?")
            yield line

    with io.TextIOWrapper(file, "utf-8-sig", newline="") as text:
        reader = csv.reader(lines(text), strict=True)
        for row in reader:
            length = 0
            if any(map(str.strip, row)):
                yield reader.line_num, row


def _number(cell: str) -> float | None:
    """Returns the number in a cell, infinite where it is too large; None for text, also for "inf" and "nan"."""
    if "_" in cell:  # float() takes it for a separator of thousands
        return None
    try:
        value = float(cell)
    except ValueError:
        return None
    return value if math.isfinite(value) or any(map(str.isdigit, cell)) else None
