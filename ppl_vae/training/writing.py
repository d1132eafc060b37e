"""Files that are whole at any moment, and that two runs never write at once."""

import fcntl
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ppl_vae.errors import InputError, Outage

_HELD: set[int] = set()  # the descriptors of the locks that this process has


@contextmanager
def replaced(path: Path) -> Iterator[Path]:
    """Gives a new file to write, which takes the place of ``path`` at once when all of it is on the disk.

    After a failure the old file is there as it was, and nothing else. A computer that loses its power keeps either the
    old file or the new one: both the file and its folder are flushed to the disk.

    Raises:
        Outage: where it can't be written, because the disk is full say.

    Examples:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from ppl_vae.training.writing import replaced
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder) / "result.txt"
        ...     with replaced(path) as new:
        ...         _ = new.write_text("whole")
        ...     [file.name for file in path.parent.iterdir()], path.read_text()
        (['result.txt'], 'whole')
    """
    _require_name(path)
    new = path.with_name(f".{path.name[:100]}.{secrets.token_hex(3)}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield new
            _flush(new)
            os.replace(new, path)
            _flush(path.parent)
        finally:
            new.unlink(missing_ok=True)
    except OSError as error:
        raise not_writable(path, error) from None


@contextmanager
def locked(path: Path, remedy: str) -> Iterator[None]:
    """Keeps other processes, and other calls in this one, from using a file or folder at the same time.

    The lock is a hidden file beside it, ``.name.lock``, which holds the number of the process. The operating system
    frees it when the process ends in whatever way.

    Args:
        path: what is locked; it need not be there.
        remedy: the end of the sentence that a second user gets, "name another file" say.

    Raises:
        InputError: where it is in use, or no file can be written beside it.

    Examples:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from ppl_vae.training.writing import locked
        >>> with tempfile.TemporaryDirectory() as folder, locked(Path(folder) / "kept.pt", "name another file"):
        ...     [file.name for file in Path(folder).iterdir()]
        ['.kept.pt.lock']
    """
    _require_name(path, remedy)
    lock = path.with_name(f".{path.name[:200]}.lock")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = _taken(lock, path, remedy)
        _HELD.add(descriptor)
    except OSError as error:
        raise not_writable(path, error) from None
    try:
        yield
    finally:
        _HELD.discard(descriptor)
        lock.unlink(missing_ok=True)  # while it is held: whoever opened it meanwhile sees that it is gone
        os.close(descriptor)


def not_writable(path: Path, error: OSError, remedy: str = "name another place, or make room there") -> Outage:
    """Makes the exception that says in one sentence why a file or folder can't be written."""
    return Outage(f"{path} can't be written ({error.strerror or error}): {remedy}")


def _require_name(path: Path, remedy: str = "name another place") -> None:
    if not path.name or "\0" in str(path):
        raise InputError(f"{str(path)!r} can't be the name of a file: {remedy}")


def _let_go() -> None:
    """Leaves the locks to the process that took them: a loader's worker would hold them after its parent is killed."""
    while _HELD:
        os.close(_HELD.pop())


os.register_at_fork(after_in_child=_let_go)


def _taken(lock: Path, path: Path, remedy: str) -> int:
    """Locks the file and returns its descriptor."""
    while True:
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(descriptor, 20).decode(errors="replace").strip()
            os.close(descriptor)
            by = f" (process {holder})" if holder else ""
            raise InputError(f"{path} is in use by another run{by}: wait until it ends, or {remedy}") from None
        if _is_there(lock, descriptor):
            os.ftruncate(descriptor, 0)
            os.write(descriptor, str(os.getpid()).encode())
            return descriptor
        os.close(descriptor)  # its last holder removed it between our opening and locking


def _is_there(lock: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), lock.stat())
    except FileNotFoundError:
        return False


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
