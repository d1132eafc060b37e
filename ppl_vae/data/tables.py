"""Tables of numbers behind one function, :func:`load_table`: iris, Old Faithful, or your own CSV file."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ppl_vae.data.csv_file import position, read_columns
from ppl_vae.data.files import quoted, shown
from ppl_vae.data.images import DATA_ROOT
from ppl_vae.errors import InputError


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
        """Returns the table; InputError where a column is constant, so that no density fits it."""
        for column in (self.values.amax(0) == self.values.amin(0)).nonzero()[:1]:
            value = float(self.values[0, int(column)])
            raise InputError(
                f"{shown(self.name)}: the column {self.columns[int(column)]!r} is constant ({value:g}), so its "
                "variance is 0: remove it"
            )
        return self


def is_table(name: str) -> bool:
    """Whether a data set's name means a table, not images."""
    return name in TABLES or name.lower().endswith(".csv")


def load_table(name: str, root: str | os.PathLike[str] | None = None, target: str | None = None) -> Table:
    """Loads a table by its name in :data:`TABLES`, or your own CSV file.

    Args:
        name: "iris", "old-faithful" (reads ``faithful.csv`` from the root), or the path of a .csv file whose first
            row names its columns.
        root: the folder that the named sets are in; ``$PPL_VAE_DATA`` or ``data`` where None.
        target: the column to set apart from the others, the only one that may hold text; None for none (for iris its
            species).

    Raises:
        InputError: for an unknown name, a missing or unreadable file, no header, rows of unequal length, missing
            values, text in a column of numbers, numbers that float32 can't hold, numbers and text in the target, no
            rows, or a target that is no column.
    """
    if not is_table(name):
        raise InputError(
            f"there is no table {quoted(name)}: choose from {', '.join(TABLES)}, or give the path of a .csv file"
        )
    if name in TABLES:
        folder = Path(root if root is not None else os.environ.get(DATA_ROOT, "data"))
        return TABLES[name](folder, target)
    return _read(name, Path(name), target)


def _iris(root: Path, target: str | None) -> Table:
    """150 iris flowers of three species, four lengths in cm, embedded in scikit-learn."""
    from sklearn.datasets import load_iris

    iris = load_iris()
    columns = tuple(name.removesuffix(" (cm)") for name in iris.feature_names)
    values = torch.from_numpy(iris.data).float()
    if target is None or target == "species":
        classes = tuple(str(name) for name in iris.target_names)
        return Table("iris", columns, values, "species", torch.from_numpy(iris.target).float(), classes)
    place = position("iris", (*columns, "species"), target)
    rest = [column for column in range(4) if column != place]
    return Table("iris", tuple(columns[column] for column in rest), values[:, rest], target, values[:, place])


def _old_faithful(root: Path, target: str | None) -> Table:
    """272 eruptions of the geyser, their length and the wait before the next in minutes (faithful.csv of R)."""
    candidates = [folder / "faithful.csv" for folder in (root, root / "old-faithful")]
    path = next((candidate for candidate in candidates if os.path.lexists(candidate)), None)
    if path is None:
        raise InputError(
            f"old-faithful: there is no faithful.csv in {shown(root)}: put R's table there (write.csv(faithful)), "
            f"or name its folder by --data-root or {DATA_ROOT}"
        )
    return _read("old-faithful", path, target, ("eruptions", "waiting"))


def _read(name: str, path: Path, target: str | None, wanted: tuple[str, ...] | None = None) -> Table:
    """Reads a CSV file, or the wanted columns of one; the target is set apart from the other columns."""
    file = read_columns(path, target, wanted)
    targets = None if file.targets is None else torch.from_numpy(file.targets)
    return Table(name, file.names, torch.from_numpy(file.values), target, targets, file.classes)


TABLES: dict[str, Callable[[Path, str | None], Table]] = {"iris": _iris, "old-faithful": _old_faithful}
