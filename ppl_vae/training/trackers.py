"""Who is told of each epoch of a training."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

from ppl_vae.errors import InputError, shown
from ppl_vae.training import distributed
from ppl_vae.training.history import History


class Tracker(Protocol):
    """Is told of a training: at its start, after each epoch, and at its end."""

    def start(self, settings: Mapping[str, Any], done: int) -> None:
        """Is called before the first epoch, with the settings, and the epochs that a checkpoint has already."""

    def log(self, epoch: int, values: Mapping[str, float]) -> None:
        """Is called after each epoch, counted from 1, with its figures by name."""

    def finish(self, history: History) -> None:
        """Is called at the end, also of a training that fails."""


def trackers_of(given: Any) -> list[Tracker]:
    """Returns the trackers, of which the first of several processes has all and the others none."""
    trackers = list(given) if isinstance(given, Sequence) else [given]
    for tracker in trackers:
        if not all(callable(getattr(tracker, name, None)) for name in ("start", "log", "finish")):
            raise InputError(
                f"tracker is {shown(tracker)}; expected one with start, log and finish, such as ppl_vae.CSVTracker"
            )
    return trackers if distributed.rank() == 0 else []


@contextmanager
def tracked(trackers: Sequence[Tracker], settings: Mapping[str, Any], history: History) -> Iterator[None]:
    """Tells trackers of the beginning and the end."""
    for tracker in trackers:
        tracker.start(settings, len(history.elbo))
    try:
        yield
    finally:
        for tracker in trackers:
            tracker.finish(history)
