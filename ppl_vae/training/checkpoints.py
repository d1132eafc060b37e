"""The whole state of a training in one file, written after each epoch: a run that was cut off goes on from there."""

import os
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.optim import Optimizer

from ppl_vae.errors import InputError
from ppl_vae.training import distributed
from ppl_vae.training.identity import HOW_IT_COMPUTES, Identity
from ppl_vae.training.warning import warn_caller

_FORMAT = 2
Progress = dict[str, list[float]]


class Checkpoint:
    """A file that holds a training, and is written by the first of several processes.

    Args:
        path: the file's; None for a training that is not saved, of which nothing is looked at.
        tensors: parameters, buffers and what an estimator remembers.
        others: what has a ``state_dict``: optimizers and schedules.
        run: gives what tells this run from others.
        programs: gives what tells the pair from others, as it is then.
    """

    def __init__(
        self,
        path: str | Path | None,
        tensors: Sequence[Tensor],
        others: Sequence[Any],
        run: Callable[[], Identity],
        programs: Callable[[], Identity],
    ) -> None:
        self._path, self._tensors, self._others = None if path is None else Path(path), tensors, others
        self._programs, self._has_warned = programs, False
        self._run, self._started = ({}, {}) if path is None else (run(), programs())

    def save(self, progress: Progress) -> None:
        """Writes the file, which is whole at any moment: a new one takes the place of the old one at once."""
        if self._path is None or distributed.rank() > 0:
            return
        now = self._programs()
        moving = sorted(name for name in now.keys() | self._started.keys() if now.get(name) != self._started.get(name))
        if moving and not self._has_warned:
            self._has_warned = True
            warn_caller(
                f"{', '.join(moving)} changes in training, which a checkpoint does not hold: make it a tensor by "
                "register_buffer if the training depends on it"
            )
        name, numbers, *rest = np.random.get_state()
        content = {
            "format": _FORMAT,
            "tensors": [tensor.detach().cpu() for tensor in self._tensors],
            "others": [other.state_dict() for other in self._others],
            "random": torch.get_rng_state(),
            "random_cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else [],
            "random_python": random.getstate(),
            "random_numpy": (str(name), np.asarray(numbers).tolist(), *rest),
            "run": self._run | self._started,
            "moving": moving,
            "progress": progress,
        }
        self._path.parent.mkdir(parents=True, exist_ok=True)
        partial = self._path.with_name(f".{self._path.name}.partial")
        torch.save(content, partial)
        os.replace(partial, self._path)

    def load(self, epochs: int) -> Progress | None:
        """Puts everything back, and returns the progress; None where there is no file yet.

        Raises:
            InputError: for a file that is no checkpoint, or that of another run; nothing is changed then.
        """
        if self._path is None or not self._path.exists():
            return None
        content = self._read(self._path)
        progress = content["progress"]
        self._refuse_other_runs(content["run"], content["moving"])
        if len(progress["elbo"]) > epochs:
            raise InputError(
                f"{self._path} holds {len(progress['elbo'])} epochs, more than {epochs}: name another file"
            )
        with torch.no_grad():
            for tensor, value in zip(self._tensors, content["tensors"], strict=True):
                tensor.copy_(value)
        for other, state in zip(self._others, content["others"], strict=True):
            other.load_state_dict(_computed_as_here(other, state))
        torch.set_rng_state(content["random"])
        if content["random_cuda"] and torch.cuda.is_available():
            torch.cuda.set_rng_state_all(content["random_cuda"])
        random.setstate(content["random_python"])
        np.random.set_state(content["random_numpy"])
        return progress

    @staticmethod
    def _read(path: Path) -> dict[str, Any]:
        try:
            content = torch.load(path, weights_only=True, map_location="cpu")
            version = content.get("format", 1) if content["tensors"] is not None else 0
        except Exception:
            what = "a folder" if path.is_dir() else "no checkpoint of fit"
            raise InputError(f"{path} is {what}: name another file, which is written after the first epoch") from None
        if version != _FORMAT:
            raise InputError(
                f"{path} was written by another version of fit, and does not say all that this one asks before "
                "it goes on: name another file"
            )
        return content

    def _refuse_other_runs(self, theirs: Identity, moving: Sequence[str]) -> None:
        ours = self._run | self._started
        for name in [*ours, *(name for name in theirs if name not in ours)]:
            if name not in moving and theirs.get(name) != ours.get(name):
                there, here = (identity.get(name, "nothing") for identity in (theirs, ours))
                raise InputError(
                    f"{self._path} is the checkpoint of another run, whose {name} is {there}; here it is {here}: name "
                    "another file, or go on with the same settings"
                )


def _computed_as_here(other: Any, state: dict[str, Any]) -> dict[str, Any]:
    """Has an optimizer's state compute as this optimizer does, which may be on another device than the file's."""
    if not isinstance(other, Optimizer):
        return state
    groups = [
        theirs | {key: value for key, value in ours.items() if key in HOW_IT_COMPUTES}
        for theirs, ours in zip(state["param_groups"], other.param_groups, strict=True)
    ]
    return state | {"param_groups": groups}
