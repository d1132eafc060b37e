"""What ``--resume`` means: the options of an earlier run, with the few that may be changed."""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

from ppl_vae.cli.base_options import Options, RunOptions, absolute
from ppl_vae.errors import InputError
from ppl_vae.runs.folder import RECORD, RunFolder, begun, going_on, read_record

_FREE = ("quiet", "as_json", "device", "data_root")  # what may differ from the earlier run without changing its figures
_OF_THE_CALL = ("run", "resume", "quiet", "as_json", "typed")
Asked = TypeVar("Asked", bound=RunOptions)


def run_of(options: RunOptions, command: str, name: str) -> AbstractContextManager[RunFolder]:
    """The folder of a new run, or of the one that goes on."""
    if options.resume is not None:
        return going_on(options.resume, command, asked(options))
    return begun(options.run, name, command, asked(options))


def resumed(options: Asked, command: str, longer: str = "") -> Asked:
    """The options of the run that ``--resume`` names, and those typed now that may differ; without it, the same.

    Args:
        options: as they were typed.
        command: the command that they were typed for.
        longer: the option that makes a finished run longer.

    Raises:
        InputError: for a folder that holds no such run, other options beside it, or a run that is finished.
    """
    if options.resume is None:
        return options
    record = read_record(options.resume)
    if record["command"] != command:
        raise InputError(
            f"{options.resume} is a run of `ppl-vae {record['command']}`, not of `ppl-vae {command}`: go on with "
            f"`ppl-vae {record['command']} --resume {options.resume}`"
        )
    allowed = {*_FREE, *([longer] if longer else [])}
    options.refuse(sorted(options.typed - allowed - {"resume"}), "beside --resume, which takes the run's own options")
    if record["finished"] and longer not in options.typed:
        further = f", or `ppl-vae {command} --resume {options.resume} --{longer} N` to go on" if longer else ""
        raise InputError(
            f"{options.resume} is finished: take `ppl-vae evaluate {options.resume}` to measure it again{further}"
        )
    earlier = earlier_options(type(options), record["options"], options.resume)
    changed = {name: getattr(options, name) for name in options.typed & allowed}
    typed = earlier.typed | options.typed
    return replace(earlier, **changed, run=options.resume, resume=options.resume, typed=typed)


def asked(options: Options) -> dict[str, Any]:
    """The options as ``run.json`` holds them, with paths that hold from any folder."""
    values = {field.name: getattr(options, field.name) for field in fields(options)}
    kept = {name: absolute(name, value) for name, value in values.items() if name not in _OF_THE_CALL}
    return kept | {"typed": sorted(options.typed - {*_OF_THE_CALL})}


def earlier_options(kind: type[Asked], values: Mapping[str, Any], folder: Path) -> Asked:
    """Makes options of what ``run.json`` holds; InputError where it holds others than this version has."""
    hints = get_type_hints(kind)
    given: dict[str, Any] = {}
    for name, value in values.items():
        if name == "typed" or name not in hints:
            continue
        if isinstance(value, str) and hints[name] == Path | None:
            value = Path(value)
        if isinstance(value, list) and hints[name] == list[Path] | None:
            value = [Path(str(part)) for part in value]
        if isinstance(value, int) and not isinstance(value, bool) and hints[name] in (float, float | None):
            value = float(value)
        if not isinstance(value, _plain_kind(hints[name])) or (isinstance(value, bool) and hints[name] is not bool):
            raise InputError(f"{folder / RECORD}: the option {name} is {value!r}, which it can't be: run it anew")
        given[name] = value
    missing = {field.name for field in fields(kind)} - {*given, *_OF_THE_CALL}
    if missing:
        raise InputError(f"{folder / RECORD} lacks {', '.join(sorted(missing))}: it is of another version, run it anew")
    return kind(typed=frozenset(values.get("typed", ())), **given)


def _plain_kind(hint: Any) -> Any:
    return list | None if hint == list[Path] | None else hint
