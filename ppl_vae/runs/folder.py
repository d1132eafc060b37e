"""A run's folder from its first moment to its last: begun, kept while it goes on, finished; never two runs in one.

``run.json`` says what was run and whether it is finished. It is written before the training, so that a run that was
cut off can go on, and last of all, so that a folder that calls itself finished is whole.
"""

import json
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ppl_vae.errors import InputError, Outage
from ppl_vae.runs.plain_json import plain, write_json
from ppl_vae.runs.provenance import provenance
from ppl_vae.training import distributed
from ppl_vae.training.digests import digest_of_bytes
from ppl_vae.training.writing import locked, not_writable

RECORD, PARTS = "run.json", "parts"
_FORMAT = 1
_READ = (".json", ".nc", ".safetensors")


class Interrupted(KeyboardInterrupt):
    """Says that a run was stopped, and that its folder holds what was done."""


class RunFolder:
    """The folder of a run that is going on.

    Args:
        path: the folder.
        record: what ``run.json`` holds.

    Attributes:
        path: the folder.
        record: what ``run.json`` holds.
        parts: where the trainings keep their checkpoints while the run goes on.
    """

    def __init__(self, path: Path, record: dict[str, Any]) -> None:
        self.path, self.record = path, record
        self.parts = path / PARTS
        self._files: list[Path] = []

    def checkpoint(self, name: str, given: Path | None = None) -> Path:
        """The file for a training's checkpoint: the one that the user named, else one among the parts."""
        self._files.append(given if given is not None else self.parts / f"{name}.safetensors")
        return self._files[-1]

    def finish(self, keep_parts: bool = False, **more: Any) -> None:
        """Marks the run as finished, when all its files are written.

        Args:
            keep_parts: whether the checkpoints stay, to train on from; measurements, which a longer training takes
                again, do not.
            more: what the record says of the run: its ``kind`` ("images", "table" or "shared"), the ``settings`` with
                which it ran, on what ``data``, the files of its ``pairs``, and that of its ``results``.
        """
        if distributed.rank() > 0:
            return
        self.record |= more | {"files": _digests(self.path), "finished": True}
        _write(self.path, self.record)
        if not keep_parts:
            shutil.rmtree(self.parts, ignore_errors=True)
        for measurement in self.parts.glob("*.nc"):
            measurement.unlink()

    @property
    def has_parts(self) -> bool:
        """Whether something was kept from which the run can go on."""
        inside = [part for part in self.parts.rglob("*") if part.is_file() and not part.name.startswith(".")]
        return bool(inside) or any(file.is_file() for file in self._files)


@contextmanager
def begun(run: Path | None, name: str, command: str, options: Mapping[str, Any]) -> Iterator[RunFolder]:
    """Makes the folder of a new run; what fails leaves nothing behind, and what is cut off stays, to go on from.

    Of several processes the first one makes it, and tells the others where.

    Args:
        run: the folder, absent or empty, or that of the same run, which was cut off and goes on; None for a new one
            under ``runs``.
        name: the beginning of the new one's name.
        command: of the command line.
        options: what was asked for, to be run again.

    Raises:
        InputError: where the folder can't be written, holds something, or is in use by another run.
        Interrupted: for a run that was stopped and can go on.
    """
    now = datetime.now(UTC).astimezone()
    made = run if run is not None else Path("runs") / f"{name}-{now:%Y%m%d-%H%M%S}-{secrets.token_hex(3)}"
    folder = Path(distributed.of_first(str(made)))
    record = {"format": _FORMAT, "command": command, "options": plain(options), "started": f"{now:%Y-%m-%d %H:%M:%S%z}"}
    if distributed.rank() > 0:
        yield RunFolder(folder, record)
        return
    if run is not None and _is_unfinished(folder, record):
        with going_on(folder, command, options) as running:
            yield running
        return
    new = _made(folder)
    running = RunFolder(folder, record | {"finished": False} | provenance())
    try:
        with locked(folder / RECORD, "name another folder by --run"):
            _write(folder, running.record)
            with _explained(running):
                yield running
    except BaseException as error:
        if not (isinstance(error, Interrupted | Outage) and running.has_parts):
            _remove(folder, new)
        raise


@contextmanager
def going_on(folder: Path, command: str, options: Mapping[str, Any]) -> Iterator[RunFolder]:
    """Opens the folder of a run that was cut off, or that is to be trained longer; it stays whatever happens.

    Args:
        folder: of the run.
        command: of the command line.
        options: what is asked for now: those of before, but perhaps for more epochs.

    Raises:
        InputError: for a folder that holds no run, one of another command, or one in use.
        Interrupted: for a run that was stopped again.
    """
    record = read_record(folder)
    if record["command"] != command:
        raise InputError(f"{folder} is a run of `{record['command']}`: take `ppl-vae {record['command']} --resume`")
    if distributed.rank() > 0:
        yield RunFolder(folder, record)
        return
    with locked(folder / RECORD, "go on when it has ended"):
        running = RunFolder(folder, record | {"finished": False, "options": plain(options)} | provenance())
        _write(folder, running.record)
        try:
            with _explained(running):
                yield running
        except InputError as error:
            if not isinstance(error, Outage):
                _write(folder, record)  # what it held before is as it was
            raise


def read_record(folder: Path) -> dict[str, Any]:
    """Reads ``run.json``; InputError where there is none, or where it is damaged or of another version."""
    path = folder / RECORD
    try:
        size = path.stat().st_size
        if not path.is_file() or size > 10_000_000:
            raise ValueError("it is no plain file of a run")
        record = json.loads(path.read_text())
        if not isinstance(record, dict) or record.get("format") != _FORMAT:
            raise ValueError("it was written by another version")
        if record.get("digest") != _digest(record):
            raise ValueError("it was changed or damaged")
        known = {"command": str, "options": dict, "finished": bool}
        for key, kind in known.items():
            if not isinstance(record.get(key), kind):
                raise ValueError(f"its {key!r} is missing or of another kind")
    except FileNotFoundError:
        what = "is no folder" if not folder.is_dir() else f"has no {RECORD}"
        raise InputError(f"{folder} {what}: give the folder of a run of this version of ppl-vae") from None
    except (OSError, ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{path} can't be read ({reason}): give the folder of a run") from None
    return record


@contextmanager
def _writable(running: RunFolder) -> Iterator[None]:
    """Says in one sentence that the folder can't be written."""
    try:
        yield
    except OSError as error:
        raise not_writable(running.path, error, "name another folder by --run, or make room there") from None


@contextmanager
def _explained(running: RunFolder) -> Iterator[None]:
    """Says how a run goes on that was stopped or lost something outside, where a part of it was kept."""
    try:
        with _writable(running):
            yield
    except (KeyboardInterrupt, Outage) as error:
        if not running.has_parts:
            raise
        command = running.record["command"]
        is_script = command.endswith(".py")
        how = f"`{command} --run {running.path}`" if is_script else f"`ppl-vae {command} --resume {running.path}`"
        if isinstance(error, Outage):
            raise Outage(f"{error}; {how} goes on") from None
        raise Interrupted(f"stopped; {how} goes on", *error.args) from None


def _is_unfinished(folder: Path, record: Mapping[str, Any]) -> bool:
    """Says whether a folder holds a run of the same command and options that was cut off."""
    if not os.path.isfile(folder / RECORD):
        return False
    earlier = read_record(folder)
    same = all(earlier[key] == record[key] for key in ("command", "options"))
    return same and not earlier["finished"]


def _made(folder: Path) -> list[Path]:
    """Makes a folder for a run, and returns what was not there before, from the top."""
    place = Path(os.path.abspath(folder))
    missing = [part for part in (*reversed(place.parents), place) if not os.path.exists(part)]
    try:
        if place.exists() and (not place.is_dir() or any(place.iterdir())):
            raise InputError(f"{folder} is there already and not empty: name another folder by --run, or remove it")
        place.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise not_writable(folder, error, "name another folder by --run") from None
    return missing


def _remove(folder: Path, new: list[Path]) -> None:
    """Removes what a run wrote, and the folders that it made, where these are empty."""
    for path in folder.iterdir():
        shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
    for path in reversed(new):
        if not any(path.iterdir()):
            path.rmdir()


def _write(folder: Path, record: Mapping[str, Any]) -> None:
    content = {key: value for key, value in plain(record).items() if key != "digest"}
    write_json(folder / RECORD, content | {"digest": _digest(content)})


def _digest(record: Mapping[str, Any]) -> str:
    words = json.dumps({key: value for key, value in record.items() if key != "digest"}, sort_keys=True)
    return digest_of_bytes(words.encode())


def _digests(folder: Path) -> dict[str, str]:
    """The digests of the files that an opened run reads."""
    names = [path.name for path in folder.iterdir() if path.suffix in _READ and path.name != RECORD]
    return {name: digest_of_bytes((folder / name).read_bytes()) for name in sorted(names)}
