"""The one door for a data file: a regular file of bounded size, or one line that says what is wrong with it."""

import csv
import os
import stat
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from ppl_vae.errors import InputError

_FAULTS = (OSError, EOFError, zlib.error, UnicodeError, csv.Error, MemoryError)
_LONGEST = 300  # characters of a name or a cell in a message


@contextmanager
def opened(path: Path, most: int, remedy: str) -> Iterator[BinaryIO]:
    """Opens a regular file of at most ``most`` bytes; what fails while it is read becomes an InputError.

    A pipe, a device or a folder is refused before it is opened, since reading it may wait for ever or never end.

    Args:
        path: the file, or a link to it.
        most: the largest size that is read, in bytes.
        remedy: how to mend it, the end of the message.

    Raises:
        InputError: for a file that is missing, no regular one, too large, damaged, or too much for the memory.
    """
    if "\0" in os.fspath(path):
        raise InputError(f"{shown(path)} has a null character, which no file's name has: {remedy}")
    try:
        _require_regular(os.stat(path), path, remedy)
        with open(path, "rb", opener=_without_waiting) as file:
            status = os.fstat(file.fileno())  # of the file that is open, which another may have replaced since
            _require_regular(status, path, remedy)
            if status.st_size > most:
                raise InputError(f"{shown(path)} has {status.st_size} bytes, expected {most} at most: {remedy}")
            yield file
    except InputError:
        raise
    except FileNotFoundError as error:
        raise InputError(f"{shown(path)} can't be read ({one_line(error)}): name a file that is there") from None
    except _FAULTS as error:
        raise InputError(f"{shown(path)} can't be read ({one_line(error)}): {remedy}") from None


def _require_regular(status: os.stat_result, path: Path, remedy: str) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise InputError(f"{shown(path)} is {_kind(status.st_mode)}, expected a file: {remedy}")


def _kind(mode: int) -> str:
    return "a folder" if stat.S_ISDIR(mode) else "a pipe" if stat.S_ISFIFO(mode) else "a device or a socket"


def _without_waiting(name: str, flags: int) -> int:
    return os.open(name, flags | getattr(os, "O_NONBLOCK", 0))


def memory() -> int:
    """Returns the bytes of this machine's memory, the bound of what a file may ask for."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # not on Windows
        return sys.maxsize


def shown(text: str | os.PathLike[str]) -> str:
    """Returns a name as it can stand in a message: on one line, and not too long.

    Examples:
        >>> from ppl_vae.data.files import shown
        >>> print(shown("own.npy"), shown("two\\nlines.npy"))
        own.npy 'two\\nlines.npy'
    """
    name = os.fspath(text)
    name = name if name.isprintable() else repr(name)
    return name if len(name) <= _LONGEST else f"{name[: _LONGEST // 2]}...{name[-_LONGEST // 2 :]}"


def quoted(cell: str) -> str:
    """Returns the content of a cell as it can stand in a message."""
    return shown(repr(cell))


def one_line(error: BaseException) -> str:
    """Shortens an error to its reason, or its type and the first line of its message."""
    if isinstance(error, MemoryError):
        return "there is not enough memory"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {shown(lines[0])}" if lines else type(error).__name__
