"""JSON as a run's folder keeps it: any reader takes it, and a file is whole at any moment."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ppl_vae.errors import InputError
from ppl_vae.training.writing import replaced


def write_json(path: Path, content: Any) -> None:
    """Writes indented JSON, in which NaN and infinity become null; InputError where it can't be written."""
    with replaced(path) as new:
        new.write_text(json.dumps(plain(content), indent=2, allow_nan=False) + "\n")


def kept_json(path: Path, make: Callable[[], Any]) -> Any:
    """Returns what was kept in a file, or makes it and keeps it: NaN, infinity and each digit as they are.

    Raises:
        InputError: for a file that is damaged.
    """
    if not path.exists():
        made = make()
        with replaced(path) as new:
            new.write_text(json.dumps(made))
        return made
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{path} is damaged ({reason}): remove it, and it is made again") from None


def plain(content: Any) -> Any:
    """Replaces what JSON can't hold: NaN and infinity by null, paths by text, tuples by lists."""
    if isinstance(content, Mapping):
        return {str(key): plain(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [plain(value) for value in content]
    if isinstance(content, float):
        return content if abs(content) < float("inf") else None
    return content if isinstance(content, str | int | None) else str(content)
