"""Tensors and settings in one file: safetensors for the numbers, JSON for the rest, and a digest over both.

Nothing in such a file is run when it is read, as a pickle would be. Sizes are checked before memory is taken, and a
file that was damaged in any place is refused.
"""

import json
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from ppl_vae.errors import InputError, first_line
from ppl_vae.training.digests import digest, digest_of_bytes
from ppl_vae.training.writing import replaced

_PLAIN = str | int | float | bool | None


def write_content(path: Path, content: Mapping[str, Any]) -> None:
    """Writes nested dictionaries, lists and tuples of tensors, numbers and words, the whole file at once.

    A tensor is found in the file under the keys that lead to it, joined by dots, so that any reader of safetensors
    finds it too.

    Raises:
        InputError: where the file can't be written, or the content holds anything else.
    """
    tensors: dict[str, Tensor] = {}
    words = json.dumps(_in_words(content, (), tensors))
    metadata = {"content": words, "digest": _digest(words, tensors)}
    with replaced(path) as new:
        new.write_bytes(save(tensors, metadata))


def read_content(path: Path, what: str) -> dict[str, Any]:
    """Reads back what :func:`write_content` wrote; the tensors are on the CPU, in memory of their own.

    Args:
        path: the file.
        what: what it ought to be, for the message: "a checkpoint of fit".

    Raises:
        InputError: where it is none, or damaged.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise InputError(f"{path} is {'a folder' if path.is_dir() else 'no plain file'}, expected {what}")
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except OSError as error:
        raise InputError(f"{path} can't be read ({error.strerror or first_line(error)}), expected {what}") from None
    except (SafetensorError, ValueError, TypeError, RuntimeError, OverflowError, MemoryError) as error:
        raise InputError(f"{path} is not {what}, or is damaged ({first_line(error)}): name another file") from None
    if "content" not in metadata or "digest" not in metadata:
        raise InputError(f"{path} is a safetensors file, but not {what}: name another file")
    if _digest(metadata["content"], tensors) != metadata["digest"]:
        raise InputError(f"{path} is damaged (its digest is that of another content): take a copy of it, or begin anew")
    content: dict[str, Any] = _from_words(json.loads(metadata["content"]), tensors)
    return content


def _in_words(value: Any, keys: tuple[str, ...], tensors: dict[str, Tensor]) -> Any:
    """Turns content into what JSON holds; a tensor becomes its name, and is put aside."""
    if isinstance(value, Tensor):
        name = ".".join(keys)
        while name in tensors:  # keys may have dots themselves
            name += "'"
        tensors[name] = value.detach().cpu().contiguous().clone()  # tied tensors too have memory of their own in a file
        return {"tensor": name}
    if isinstance(value, Mapping):
        return {"dict": [[key, _in_words(part, (*keys, str(key)), tensors)] for key, part in value.items()]}
    if isinstance(value, list | tuple):
        parts = [_in_words(part, (*keys, str(index)), tensors) for index, part in enumerate(value)]
        return {"tuple" if isinstance(value, tuple) else "list": parts}
    if isinstance(value, _PLAIN):
        return value
    raise InputError(f"{'.'.join(keys)} is a {type(value).__name__}, which no file keeps: make it a tensor or a number")


def _from_words(value: Any, tensors: Mapping[str, Tensor]) -> Any:
    if not isinstance(value, dict):
        return value
    ((kind, parts),) = value.items()
    if kind == "tensor":
        return tensors[parts]
    if kind == "dict":
        return {key: _from_words(part, tensors) for key, part in parts}
    made = [_from_words(part, tensors) for part in parts]
    return tuple(made) if kind == "tuple" else made


def _digest(words: str, tensors: Mapping[str, Tensor]) -> str:
    names: Sequence[str] = sorted(tensors)
    of_words = digest_of_bytes("\n".join((words, *names)).encode())
    return f"{of_words}-{digest(tensors[name] for name in names)}"
