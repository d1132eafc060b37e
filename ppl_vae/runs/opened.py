"""A finished run, opened again: its pairs with their parameters, its settings, curves, bounds and figures."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from ppl_vae.errors import InputError
from ppl_vae.pairs.kinds import looked_at
from ppl_vae.runs.folder import PARTS, RECORD, read_record
from ppl_vae.runs.pairs import fill, read_module
from ppl_vae.runs.writing import BOUNDS, HISTORY
from ppl_vae.training.digests import digest_of_bytes
from ppl_vae.training.history import History

if TYPE_CHECKING:
    import xarray as xr


_KINDS: dict[str, Any] = {"kind": str, "settings": dict, "data": dict, "pairs": dict, "files": dict, "results": str}
_KINDS_OF_SETTINGS = {"data": str, "data_root": str | None, "seed": int, "images": int | None}


@dataclass(frozen=True)
class Run:
    """What :func:`open_run` gives back.

    Attributes:
        folder: where it is.
        command: what was run: "train", "compare" or "gradients".
        kind: what it was run on: "images", a "table", or "shared" for a model whose latents all the data share.
        settings: with what, also what nobody typed.
        data: of the data the ``name``, a ``fingerprint`` of their values, and their sizes.
        made_with: the versions of the packages, the project's commit, the machine and the time of the start.
        pairs: model and guide by the guide's name, in eval mode, on the CPU.
        histories: the trainings by name.
        bounds: of each data point, None where the run has none.
        results: what it printed, as ``--json`` gives it.
        checkpoint: the file from which ``fit`` trains its pair on, None where the run keeps none.

    Examples:
        >>> from pathlib import Path
        >>> from ppl_vae import Run
        >>> run = Run(Path("runs/a"), "train", "images", {"seed": 0}, {"name": "digits"}, {}, {}, {}, None, {}, None)
        >>> run.settings["seed"], run.data["name"]
        (0, 'digits')
    """

    folder: Path
    command: str
    kind: str
    settings: dict[str, Any]
    data: dict[str, Any]
    made_with: dict[str, Any]
    pairs: dict[str, tuple[nn.Module, nn.Module]]
    histories: dict[str, History]
    bounds: "xr.Dataset | None"
    results: dict[str, Any]
    checkpoint: Path | None

    def data_root(self, given: Path | None = None) -> Path | None:
        """The folder that the data are in: another one that is given, else that of the run; None for the usual one."""
        kept = self.settings.get("data_root")
        return given or (Path(kept) if kept else None)

    @property
    def model(self) -> nn.Module:
        """The model, where the run has one; InputError where each guide has its own."""
        models = list({id(model): model for model, _ in self.pairs.values()}.values())
        if len(models) != 1:
            raise InputError(f"{self.folder} has {len(models)} models: take one of run.pairs ({', '.join(self.pairs)})")
        return models[0]

    @property
    def guide(self) -> nn.Module:
        """The guide, where the run has one; InputError where it has several."""
        if len(self.pairs) != 1:
            raise InputError(
                f"{self.folder} has {len(self.pairs)} guides: take one of run.pairs ({', '.join(self.pairs)})"
            )
        return next(iter(self.pairs.values()))[1]

    @property
    def history(self) -> History:
        """The training, where the run has one; InputError where it has several."""
        if len(self.histories) != 1:
            names = ", ".join(self.histories)
            raise InputError(f"{self.folder} has {len(self.histories)} trainings: take one of run.histories ({names})")
        return next(iter(self.histories.values()))


@looked_at
def open_run(folder: str | Path) -> Run:
    """Opens the folder that ``ppl-vae train``, ``compare`` or ``gradients`` left.

    No data are read: the model and the guides are made from the settings and filled from the folder's files.

    Args:
        folder: of the run.

    Raises:
        InputError: for a folder that holds no run, an unfinished one, or a file that is missing, changed or damaged.

    Examples:
        >>> import os, tempfile
        >>> from ppl_vae import InputError, open_run
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     try:
        ...         open_run(os.path.join(folder, "none"))
        ...     except InputError as error:
        ...         print(str(error).replace(folder, "runs"))
        runs/none is no folder: give the folder of a run of this version of ppl-vae
    """
    import xarray as xr

    from ppl_vae.runs.rebuilt import rebuilt  # imports all models and guides

    folder = Path(folder)
    record = read_record(folder)
    if not record["finished"]:
        raise InputError(f"{folder} was cut off: `ppl-vae {record['command']} --resume {folder}` finishes it")
    if record["command"].endswith(".py"):
        raise InputError(f"{folder} was written by {record['command']}, and keeps no pair: read its files themselves")
    files = record.get("pairs", {})
    with explained(folder, RuntimeError, OSError):
        _require_kinds(record, _KINDS)
        _require_kinds(record["settings"], _KINDS_OF_SETTINGS if files else {})
        made_with = {key: record[key] for key in ("versions", "commit", "machine", "started")}
        pairs = rebuilt(record["kind"], list(files), record["settings"], record["data"]) if files else {}
        _fill(folder, record, pairs)
        histories = {
            name: History.of_record(history)
            for name, history in json.loads(_read(folder, HISTORY, record) or "{}").items()
        }
        results = json.loads(_read(folder, record["results"], record) or "{}")
        content = _read(folder, BOUNDS, record)
        bounds = None if content is None else xr.load_dataset(BytesIO(content), engine="scipy")
    checkpoint = folder / PARTS / "training.safetensors"
    return Run(
        folder,
        record["command"],
        record["kind"],
        record["settings"],
        record["data"],
        made_with,
        pairs,
        histories,
        bounds,
        results,
        checkpoint if checkpoint.is_file() else None,
    )


def require_pairs(run: Run) -> None:
    """InputError for a run that keeps no pair, with the runs to take in its place.

    Examples:
        >>> from pathlib import Path
        >>> from ppl_vae import InputError, Run
        >>> from ppl_vae.runs.opened import require_pairs
        >>> try:
        ...     require_pairs(Run(Path("runs/a"), "gradients", "images", {}, {}, {}, {}, {}, None, {}, None))
        ... except InputError as error:
        ...     print(error)
        runs/a is a run of `gradients`, which keeps no pair: take one of train or compare
    """
    if run.pairs:
        return
    earlier = run.settings.get("runs")
    if earlier:
        raise InputError(f"{run.folder} compares earlier runs, and keeps no pair: take {', '.join(map(str, earlier))}")
    raise InputError(f"{run.folder} is a run of `{run.command}`, which keeps no pair: take one of train or compare")


def _require_kinds(content: Mapping[str, Any], kinds: Mapping[str, Any]) -> None:
    """TypeError where a value is of another kind than the commands write, and would fail later in other words."""
    for name, kind in kinds.items():
        if name in content and not isinstance(content[name], kind):
            raise TypeError(f"{name} is {content[name]!r}")


def _read(folder: Path, name: str, record: Mapping[str, Any]) -> bytes | None:
    """Reads a file that the record knows, None where the run has none of that name."""
    if name not in record["files"]:
        return None
    path = folder / name
    if not path.is_file():
        raise InputError(f"{path} is missing: take the folder as the run left it")
    content = path.read_bytes()
    if digest_of_bytes(content) != record["files"][name]:
        raise InputError(f"{path} was changed or damaged since the run: take the folder as the run left it")
    return content


def _fill(folder: Path, record: Mapping[str, Any], pairs: Mapping[str, tuple[Any, Any]]) -> None:
    filled: set[str] = set()
    for name, (model, guide) in pairs.items():
        for role, program in (("model", model), ("guide", guide)):
            file = record["pairs"][name].get(role, "")
            if file and file not in filled:
                filled.add(file)
                _read(folder, file, record)  # another run's file may have the same shapes
                fill(program, read_module(folder / file, role, program))
            program.eval()


@contextmanager
def explained(folder: Path, *also: type[Exception]) -> Iterator[None]:
    """Says in one sentence where what a run's folder holds is not what this version writes.

    Args:
        folder: of the run.
        also: errors that mean the same here, beside those that a missing or odd value ends in.

    Examples:
        >>> from pathlib import Path
        >>> from ppl_vae import InputError
        >>> from ppl_vae.runs.opened import explained
        >>> try:
        ...     with explained(Path("runs") / "a"):
        ...         {}["shape"]
        ... except InputError as error:
        ...     print(str(error).partition(" ")[2])
        can't be opened by this version (KeyError: 'shape'): run it anew
    """
    misfits: tuple[type[Exception], ...] = (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, *also)
    try:
        yield
    except InputError:
        raise
    except misfits as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(
            f"{folder / RECORD} can't be opened by this version ({type(error).__name__}: {reason}): run it anew"
        ) from None
