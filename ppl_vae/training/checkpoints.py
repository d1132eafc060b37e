"""The whole state of a training in one file: a run that was cut off goes on from there, to the last digit."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from copy import deepcopy
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor

from ppl_vae.errors import InputError, first_line
from ppl_vae.pairs.restore import Moment, put
from ppl_vae.training import distributed
from ppl_vae.training.beside import Beside
from ppl_vae.training.identity import BUFFER, KL_SCHEDULE, NOTHING, SCHEDULE, Identity, refuse_other
from ppl_vae.training.tensor_files import read_content, write_content
from ppl_vae.training.warning import warn_caller
from ppl_vae.training.writing import locked

_FORMAT = 4
_WHAT = "a checkpoint of fit"
_SCHEDULED = (SCHEDULE, "learning rate", "lowered"), (KL_SCHEDULE, "KL weight", "set")
# Writing is put off until the training has gone on for so many times what the last writing took.
TIMES = 20.0


class Part(Protocol):
    """Something that says what state it is in, in numbers, words and tensors, and can be put in that state again."""

    def state_dict(self) -> Any:
        """Returns the state."""

    def load_state_dict(self, state: Any) -> Any:
        """Puts it back, or raises an error."""


class Checkpoint:
    """A file that holds a training, and is written by the first of several processes.

    Args:
        path: the file's; None for a training that is not saved, of which nothing is looked at.
        tensors: parameters, buffers and what an estimator remembers.
        parts: what else a training changes: history, optimizers, graphs.
        beside: the random numbers and the like, which are put back last.
        fixed: gives what tells this run from others and stays as it is.
        programs: gives what tells it from others, as it is then.
        epochs: how many are planned.

    Attributes:
        is_there: whether there is a file already.
        was_stopped: whether ``after_epoch`` stopped the training that was loaded.
    """

    def __init__(
        self,
        path: str | Path | None,
        tensors: Sequence[Tensor],
        parts: Mapping[str, Part],
        beside: Callable[[], Beside],
        fixed: Callable[[], Identity],
        programs: Callable[[], Identity],
        epochs: int,
    ) -> None:
        self._path, self._tensors, self._epochs = None if path is None else Path(path), tensors, epochs
        self.was_stopped, self._has_warned, self._ended, self._took = False, False, 0.0, 0.0
        self.is_there = self._path is not None and self._path.exists()
        if self._path is not None:
            self._beside = beside()
            self._parts = {**parts, "beside": self._beside}
            self._programs, self._fixed, self._started = programs, fixed(), programs()

    def save(self, last: bool, stopped: bool) -> None:
        """Writes the file, which is whole at any moment, if it is time to.

        Args:
            last: whether no epoch follows, so that it is written in any case.
            stopped: whether ``after_epoch`` has stopped the training.
        """
        began = time.monotonic()
        early = began - self._ended < TIMES * self._took
        if self._path is None or distributed.rank() > 0 or (early and not last):
            return
        now = self._programs()
        moving = sorted(name for name in now.keys() | self._started.keys() if now.get(name) != self._started.get(name))
        self._warn_of_what_is_not_held(moving)
        content = {
            "format": _FORMAT,
            "run": self._fixed | self._started,
            "moving": moving,
            "epochs": self._epochs,
            "stopped": stopped,
            "tensors": list(self._tensors),
            "parts": {name: part.state_dict() for name, part in self._parts.items()},
        }
        write_content(self._path, content)
        self._ended = time.monotonic()
        self._took = self._ended - began

    def load(self, start: Moment | None = None, inexact: str = "") -> None:
        """Puts everything back, if there is a file.

        Args:
            start: the random numbers before the training, which a refusal leaves.
            inexact: what to warn of: why a training that goes on may not be the one without a break.

        Raises:
            InputError: for a file that is no checkpoint, that of another run, or one that holds more epochs than
                are asked for; nothing is changed then.
        """
        path = self._path
        if path is not None and inexact:
            warn_caller(f"{inexact}: a training that goes on from {path} may not end as one without a break")
        if path is None or not self.is_there:
            return
        with _put_back_on_error(start):
            done, planned = self._load(path)
        for name, what, done_to_it in _SCHEDULED:
            if planned != self._epochs and self._started.get(name, NOTHING) != NOTHING:
                warn_caller(
                    f"{path} holds {done} epochs with the {what} {done_to_it} as for {planned}, and from here on it is "
                    f"{done_to_it} as for {self._epochs}: the result is not that of {self._epochs} epochs in one go"
                )

    def _load(self, path: Path) -> tuple[int, int]:
        """Puts all back, and returns how many epochs are done and were planned."""
        content = _read(path)
        before = {name: deepcopy(part.state_dict()) for name, part in self._parts.items()}
        try:
            done = self._checked(path, content)
            for name, part in self._parts.items():
                part.load_state_dict(content["parts"][name])
        except BaseException as error:
            for name, part in self._parts.items():
                part.load_state_dict(before[name])
            if isinstance(error, InputError) or not isinstance(error, Exception):
                raise
            raise InputError(
                f"{path} does not hold what this training needs ({first_line(error)}): name another file"
            ) from None
        put(self._tensors, content["tensors"])
        self.was_stopped = content["stopped"]
        return done, content["epochs"]

    def _checked(self, path: Path, content: Mapping[str, Any]) -> int:
        """Refuses what this training can't go on from, and returns how many epochs are done."""
        if not all(isinstance(word, str) for word in (*content["run"].values(), *content["moving"])):
            raise ValueError("what it says of its run is not in words")
        if type(content["epochs"]) is not int or type(content["stopped"]) is not bool:
            raise ValueError("it does not say how long it was to be")
        refuse_other(path, content["run"], self._fixed | self._started, "name another file", content["moving"])
        done = len(content["parts"]["history"]["elbo"])
        if done > self._epochs:
            raise InputError(f"{path} holds {done} epochs, more than {self._epochs}: name another file")
        forms = [[(tensor.shape, tensor.dtype) for tensor in side] for side in (content["tensors"], self._tensors)]
        if forms[0] != forms[1]:
            raise ValueError("its tensors have other shapes")
        if {*content["parts"]} != {*self._parts}:
            raise ValueError(f"it holds {', '.join(content['parts'])}, not {', '.join(self._parts)}")
        return done

    def _warn_of_what_is_not_held(self, moving: Sequence[str]) -> None:
        moving = [name for name in moving if not name.startswith(BUFFER)]
        name = "" if self._has_warned else ", ".join(moving) or self._beside.changed()
        if name:
            self._has_warned = True
            warn_caller(
                f"{name} changes in training, which a checkpoint does not hold: make it a tensor by register_buffer, "
                "changed in place, if the training depends on it"
            )


def remembered(**named: Any) -> dict[str, Part]:
    """Gives what is asked after each epoch as parts of the checkpoint, where it remembers anything."""
    can = ("state_dict", "load_state_dict")
    return {name: part for name, part in named.items() if all(callable(getattr(part, word, None)) for word in can)}


@contextmanager
def in_use_by_this_run(path: str | Path | None, remedy: str = "name another file") -> Iterator[Moment]:
    """Refuses a file or folder that another run writes, or a place where none can be written; nothing for None.

    Yields the random numbers of before.
    """
    alone = nullcontext() if path is None or distributed.rank() > 0 else locked(Path(path), remedy)
    with alone:
        yield Moment()


@contextmanager
def _put_back_on_error(start: Moment | None) -> Iterator[None]:
    try:
        yield
    except InputError:
        if start is not None:
            start.put_back()
        raise


def _read(path: Path) -> dict[str, Any]:
    content = read_content(path, _WHAT)
    if not isinstance(content, dict) or content.get("format") != _FORMAT:
        raise InputError(f"{path} was written by another version of fit, or is not {_WHAT}: name another file")
    return content
