"""One thread at a time: what Pyro runs a pair by belongs to the process, not to a thread.

That is the stack of handlers, the parameter store, whether distributions are validated, and the random numbers.
"""

import os
import threading
import warnings
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")
PATIENCE = 10.0  # seconds that a call waits without a word


class _Turn:
    """Whose turn it is.

    Attributes:
        lock: held by the thread that runs a pair; taken again by the calls inside its own.
        holder: that thread and what it called, None where no pair is run.
    """

    def __init__(self) -> None:
        self.begin_anew()

    def begin_anew(self) -> None:
        """Lets a forked process begin: the thread that may have held the lock is not there any more."""
        self.lock = threading.RLock()
        self.holder: tuple[threading.Thread, str] | None = None

    def waiting(self, name: str) -> threading.Timer | None:
        """Starts what says so if a call waits for long; None where it need not wait, as far as can be seen."""
        holder = self.holder
        if holder is None or holder[0] is threading.current_thread():
            return None
        timer = threading.Timer(PATIENCE, _tell, (name, *holder))
        timer.daemon = True
        timer.start()
        return timer


def _tell(name: str, thread: threading.Thread, running: str) -> None:
    warnings.warn(
        f"{name} waits for the thread {thread.name!r}, which is in {running}, since one thread at a time runs pairs; "
        f"if that thread itself waits for this call, neither goes on: call {name} there, or after {running}",
        stacklevel=2,
    )


_turn = _Turn()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_turn.begin_anew)


def one_at_a_time(function: Callable[P, R]) -> Callable[P, R]:
    """Makes other threads wait while one is inside a function that is decorated so.

    A thread may call one from inside another: ``after_epoch`` of :func:`ppl_vae.fit` may call ``bounds``. A thread that
    the first one waits for may not: both would wait for ever, of which a warning tells. Ctrl-C ends the wait.

    Examples:
        >>> from ppl_vae.pairs.threads import one_at_a_time
        >>> @one_at_a_time
        ... def run(model, data):
        ...     return model(data)
        >>> run(len, [1, 2])
        2
    """

    @wraps(function)
    def alone(*args: P.args, **kwargs: P.kwargs) -> R:
        waiting = _turn.waiting(function.__name__)
        try:
            with _turn.lock:  # and not acquire(), between which and a try Ctrl-C might fall
                if waiting is not None:
                    waiting.cancel()
                outer = _turn.holder
                _turn.holder = threading.current_thread(), function.__name__
                try:
                    return function(*args, **kwargs)
                finally:
                    _turn.holder = outer
        finally:
            if waiting is not None:
                waiting.cancel()

    return alone
