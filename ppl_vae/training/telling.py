"""Tells trackers of a training, in a way that no failure of theirs and no random number they draw changes it."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import nn

from ppl_vae.errors import InputError, first_line, shown
from ppl_vae.pairs.restore import random_state_kept
from ppl_vae.training import distributed
from ppl_vae.training.history import History
from ppl_vae.training.trackers import Tracker
from ppl_vae.training.warning import warn_caller

_WHICH = "a tracker with start, log and finish, such as ppl_vae.CSVTracker('curve.csv')"


class Told:
    """Tells the trackers of a training, and leaves out those that fail.

    Args:
        trackers: all of them.
        history: of the training.
    """

    def __init__(self, trackers: Iterable[Tracker], history: History) -> None:
        self._trackers, self._history = list(trackers), history

    @contextmanager
    def of(self, settings: Mapping[str, Any]) -> Iterator[None]:
        """Tells of the beginning and the end.

        Raises:
            InputError: where a tracker can't start.
        """
        with ExitStack() as ending:
            for tracker in self._trackers:
                with random_state_kept():
                    self._start(tracker, settings)
                ending.callback(self._try, tracker, "at the end", lambda one: one.finish(self._history))
            yield

    def epochs_from(self, done: int) -> None:
        """Tells of the epochs since so many were done."""
        for tracker in list(self._trackers):
            for number in range(done, len(self._history.elbo)):
                values = self._history.of_epoch(number)
                if not self._try(tracker, f"after epoch {number + 1}", lambda one: one.log(number + 1, values)):  # noqa: B023
                    self._trackers.remove(tracker)
                    break

    def _start(self, tracker: Tracker, settings: Mapping[str, Any]) -> None:
        try:
            tracker.start(settings, self._history)
        except InputError:
            raise
        except Exception as error:
            reason = f"{type(error).__name__}: {first_line(error)}"
            raise InputError(f"the {_name(tracker)} can't start ({reason}): mend it, or leave tracker away") from error

    @staticmethod
    def _try(tracker: Tracker, when: str, tell: Callable[[Tracker], None]) -> bool:
        """Says whether a tracker could be told; warns where it could not."""
        try:
            with random_state_kept():
                tell(tracker)
        except Exception as error:
            reason = f"{type(error).__name__}: {first_line(error)}"
            warn_caller(f"the {_name(tracker)} failed {when} ({reason}): the training is not changed by that")
            return False
        return True


def trackers_of(given: Any, training: str) -> list[Tracker]:
    """Returns the trackers of a training of that name, of which the first of several processes has all, others none.

    Raises:
        InputError: for what is neither a tracker nor a function that makes one.
    """
    found = [] if given is None else list(given) if isinstance(given, list | tuple) else [given]
    for one in found:
        if not (_is_tracker(one) or (callable(one) and not isinstance(one, type | nn.Module))):
            raise InputError(f"tracker is {shown(one)}; expected {_WHICH}")
    if distributed.rank() > 0:
        return []
    made: Sequence[Any] = [one if _is_tracker(one) else one(training) for one in found]
    for one in made:
        if not _is_tracker(one):
            raise InputError(f"the function that tracker is makes {shown(one)}; expected {_WHICH}")
    return list(made)


def _is_tracker(given: Any) -> bool:
    if isinstance(given, type):
        return False
    return all(callable(getattr(given, name, None)) for name in ("start", "log", "finish"))


def _name(tracker: Tracker) -> str:
    return type(tracker).__name__
