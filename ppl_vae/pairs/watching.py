"""Runs of a program that are watched: for what it draws, reads and changes where a graph of tensors can't follow."""

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, TypeVar

from torch import Tensor

from ppl_vae.graphs.noise import generators
from ppl_vae.pairs.held import Held
from ppl_vae.pairs.modules import Program
from ppl_vae.pairs.restore import store_watched

Result = TypeVar("Result")
_CLOCKS = {
    "time",
    "time_ns",
    "perf_counter",
    "perf_counter_ns",
    "monotonic",
    "monotonic_ns",
    "process_time",
    "process_time_ns",
    "thread_time",
    "now",
    "utcnow",
    "today",
    "urandom",
    "getrandom",
}
_MAY_READ_THEM = {"logging", "warnings", "pyro", "torch", "rich", "tqdm"}  # none of them puts the time into a number


def watched(
    run: Callable[[], Result], programs: Iterable[Program], changing: Iterable[Tensor] = ()
) -> tuple[Result, str, Held]:
    """Runs something, and tells what keeps a graph from standing for it.

    A graph draws from torch's generators alone, and has the numbers that Python gave when it was traced. So a run must
    not draw from ``random`` or numpy, must not read a clock, and must leave what its programs hold as it was.

    Args:
        run: runs the programs.
        programs: the model and the guide, say.
        changing: the tensors that are trained; see :class:`ppl_vae.pairs.held.Held`.

    Returns:
        What the run gives, the reason why no graph can stand for it (empty where there is none), and what the programs
        hold after it.
    """
    programs, changing = tuple(programs), tuple(changing)
    before, renamed = Held(programs, changing), store_watched()
    python, *numpy = generators()
    with _clocks_read() as clocks:
        result = run()
    after = Held(programs, changing)
    python_after, *numpy_after = generators()
    if python_after != python:
        reason = "it draws from Python's random module, which a graph would do only once: draw by torch or Pyro"
    elif numpy_after != numpy:
        reason = "it draws from numpy's random numbers, which a graph would do only once: draw by torch or Pyro"
    elif clocks:
        reason = f"it reads {clocks[0]}, whose value a graph would keep for ever"
    elif renamed():
        reason = f"it changes {renamed()[0]!r} in the parameter store"
    else:
        changed = after.changed_since(before)
        reason = f"it sets {changed} anew at each run, which a graph can't" if changed else ""
    return result, reason, after


@contextmanager
def _clocks_read() -> Iterator[list[str]]:
    """Notes the clocks that are read inside, and the operating system's sources of random numbers, by name."""
    read: list[str] = []

    def note(frame: FrameType, event: str, called: Any) -> None:
        if event != "c_call" or called.__name__ not in _CLOCKS:
            return
        if str(frame.f_globals.get("__name__")).partition(".")[0] not in _MAY_READ_THEM:
            owner = getattr(called, "__self__", None)
            read.append(f"{getattr(owner, '__name__', type(owner).__name__)}.{called.__name__}()")

    others = sys.getprofile()
    if others is not None:  # a profiler that is at work: what the clock gives is left to be found by comparison
        yield read
        return
    sys.setprofile(note)
    try:
        yield read
    finally:
        sys.setprofile(None)
