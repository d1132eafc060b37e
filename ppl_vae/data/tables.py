"""Tables of numbers behind one function, :func:`load_table`: iris, Old Faithful, or a CSV file of one's own."""

import csv
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_iris
from torch import Tensor

from ppl_vae.data.images import DATA_ROOT
from ppl_vae.errors import InputError

_MISSING = {"", "na", "n/a", "nan", "null", "none", "?", "inf", "-inf"}


@dataclass(frozen=True)
class Table:
    """Numbers, one row a data point.

    Attributes:
        name: what :func:`load_table` was asked for.
        columns: the names of the columns of ``values``.
        values: shape (rows, columns), float32.
        target: the name of the target column, None where there is none.
        targets: its numbers, shape (rows,), float32; the number of its class where it is text.
        classes: the names of these classes, empty where the target is a number.
    """

    name: str
    columns: tuple[str, ...]
    values: Tensor
    target: str | None = None
    targets: Tensor | None = None
    classes: tuple[str, ...] = ()

    def varied(self) -> "Table":
        """The table itself; InputError where a column is constant, so that no density fits it."""
        for column in (self.values.amax(0) == self.values.amin(0)).nonzero()[:1]:
            value = float(self.values[0, int(column)])
            raise InputError(
                f"{self.name}: the column {self.columns[int(column)]!r} is constant ({value:g}), so its variance is "
                "0: remove it"
            )
        return self


def is_table(name: str) -> bool:
    """Whether a data set's name means a table, not images."""
    return name in TABLES or name.lower().endswith(".csv")


def load_table(name: str, root: str | os.PathLike[str] | None = None, target: str | None = None) -> Table:
    """Loads a table by its name in :data:`TABLES`, or a CSV file of one's own.

    Args:
        name: "iris", "old-faithful" (reads ``faithful.csv`` from the root), or the path of a .csv file whose first
            row names its columns.
        root: the folder that the named sets are in; ``$PPL_VAE_DATA`` or ``data`` where None.
        target: the column to set apart from the others, the only one that may hold text; None for none (for iris its
            species).

    Raises:
        InputError: for an unknown name, a missing or unreadable file, no header, rows of unequal length, missing
            values, text in a column of numbers, no rows, or a target that is no column.
    """
    if not is_table(name):
        raise InputError(
            f"there is no table {name!r}: choose from {', '.join(TABLES)}, or give the path of a .csv file"
        )
    if name in TABLES:
        folder = Path(root if root is not None else os.environ.get(DATA_ROOT, "data"))
        return TABLES[name](folder, target)
    return _read(name, Path(name), target)


def _iris(root: Path, target: str | None) -> Table:
    """150 iris flowers of three species, four lengths in cm, embedded in scikit-learn."""
    iris = load_iris()
    columns = tuple(name.removesuffix(" (cm)") for name in iris.feature_names)
    values = torch.from_numpy(iris.data).float()
    if target is None or target == "species":
        classes = tuple(str(name) for name in iris.target_names)
        return Table("iris", columns, values, "species", torch.from_numpy(iris.target).float(), classes)
    place = _place("iris", (*columns, "species"), target)
    rest = [column for column in range(4) if column != place]
    return Table("iris", tuple(columns[column] for column in rest), values[:, rest], target, values[:, place])


def _old_faithful(root: Path, target: str | None) -> Table:
    """272 eruptions of the geyser, their length and the wait before the next in minutes (faithful.csv of R)."""
    places = [folder / "faithful.csv" for folder in (root, root / "old-faithful")]
    path = next((place for place in places if place.is_file()), None)
    if path is None:
        raise InputError(
            f"old-faithful: there is no faithful.csv in {root}: put R's table there (write.csv(faithful)), or name its "
            f"folder by --data-root or {DATA_ROOT}"
        )
    return _read("old-faithful", path, target, ("eruptions", "waiting"))


def _read(name: str, path: Path, target: str | None, wanted: tuple[str, ...] | None = None) -> Table:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            lines = [(number, row) for number, row in enumerate(csv.reader(file), 1) if any(map(str.strip, row))]
    except OSError as error:
        raise InputError(f"{path} can't be read ({error.strerror or error}): give the path of a .csv file") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} is no CSV text ({error}): write it as UTF-8, with commas") from None
    if not lines:
        raise InputError(f"{path} is empty: expected a header and rows of numbers")
    header = tuple(cell.strip() for cell in lines[0][1])
    if all(_number(cell) is not None for cell in header):
        raise InputError(f"{path} has no header, its first row is {', '.join(header)}: name the columns there")
    if "" in header and wanted is None:
        raise InputError(
            f"{path}: column {header.index('') + 1} has no name: name it, or drop it where it only counts the rows "
            "(pandas: to_csv(..., index=False); R: write.csv(..., row.names = FALSE))"
        )
    if len(set(header)) < len(header):
        double = next(cell for cell in header if header.count(cell) > 1)
        raise InputError(f"{path}: two columns are named {double!r}: give each a name of its own")
    if len(lines) == 1:
        raise InputError(f"{path} has a header and no rows")
    for number, row in lines[1:]:
        if len(row) != len(header):
            raise InputError(f"{path}, line {number}: {len(row)} cells, the header has {len(header)}: mend the line")
    missing_names = [cell for cell in wanted or () if cell not in header]
    if missing_names:
        raise InputError(f"{path} has no column {missing_names[0]!r}: its header is {', '.join(header)}")
    chosen = [header.index(cell) for cell in wanted] if wanted else list(range(len(header)))
    place = _place(str(path), tuple(header[column] for column in chosen), target) if target is not None else None
    apart = None if place is None else chosen.pop(place)
    if not chosen:
        raise InputError(f"{path} has no column beside the target {target!r}: at least one more is needed")
    columns = {column: _column(path, header[column], column, lines[1:], False) for column in chosen}
    values = torch.from_numpy(np.array([columns[column][0] for column in chosen], dtype=np.float32).T.copy())
    names = tuple(header[column] for column in chosen)
    if apart is None:
        return Table(name, names, values)
    numbers, classes = _column(path, header[apart], apart, lines[1:], True)
    return Table(name, names, values, target, torch.tensor(numbers, dtype=torch.float32), classes)


def _place(name: str, columns: tuple[str, ...], target: str) -> int:
    if target not in columns:
        raise InputError(f"{name} has no column {target!r} for the target: choose from {', '.join(columns)}")
    return columns.index(target)


def _column(
    path: Path, name: str, column: int, lines: list[tuple[int, list[str]]], may_be_text: bool
) -> tuple[list[float], tuple[str, ...]]:
    """The numbers of a column and, for a target of text, the names of the classes that they count."""
    cells = [(number, row[column].strip()) for number, row in lines]
    missing = [number for number, cell in cells if cell.lower() in _MISSING]
    if missing:
        raise InputError(
            f"{path}: the column {name!r} misses {len(missing)} of {len(cells)} values, the first in line "
            f"{missing[0]}: drop or fill these rows"
        )
    numbers = [(number, cell, _number(cell)) for number, cell in cells]
    text = [(number, cell) for number, cell, value in numbers if value is None]
    if not text:
        return [value for _, _, value in numbers if value is not None], ()
    if may_be_text:
        classes = tuple(sorted({cell for _, cell in cells}))
        return [float(classes.index(cell)) for _, cell in cells], classes
    raise InputError(
        f"{path}: the column {name!r} holds text ({text[0][1]!r} in line {text[0][0]}), expected numbers: remove it, "
        "write it as numbers, or name it by --target"
    )


def _number(cell: str) -> float | None:
    try:
        value = float(cell)
    except ValueError:
        return None
    return value if np.isfinite(value) else None


TABLES: dict[str, Callable[[Path, str | None], Table]] = {"iris": _iris, "old-faithful": _old_faithful}
