"""Means of the parameters over parts of a training, in memory that does not grow with it."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

FEWEST, _MOST = 8, 16  # parts that a stage is divided into
_SHORTEST = 50  # steps of a part


class Averages:
    """Divides the steps since the beginning of a stage into 8 to 15 equal parts, and keeps the mean over each of them.

    Where a sixteenth part ends, each two become one of twice the length.

    Args:
        parameters: the leaves that are trained.
    """

    def __init__(self, parameters: Sequence[Tensor]) -> None:
        self._leaves = [leaf.detach() for leaf in parameters]
        self._sums = [torch.zeros_like(leaf) for leaf in self._leaves]
        self.restart()

    @property
    def steps(self) -> int:
        """The steps in all parts."""
        return self._length * len(self._parts)

    @property
    def are_enough(self) -> bool:
        """Whether the stage is long enough to be judged."""
        return len(self._parts) >= FEWEST

    def restart(self) -> None:
        """Begins a stage."""
        self._parts: list[list[Tensor]] = []
        self._length, self._count = _SHORTEST, 0
        torch._foreach_zero_(self._sums)

    def add(self) -> None:
        """Takes in the parameters after a step."""
        torch._foreach_add_(self._sums, self._leaves)
        self._count += 1
        if self._count < self._length:
            return
        self._parts.append(list(torch._foreach_div(self._sums, float(self._count))))
        self._count = 0
        torch._foreach_zero_(self._sums)
        if len(self._parts) == _MOST:
            self._parts = [_mean(self._parts[first : first + 2]) for first in range(0, _MOST, 2)]
            self._length *= 2

    def mean(self, first: int, last: int) -> list[Tensor]:
        """Returns the mean over some parts, which are counted from the latest one backwards: 0 is the end of it."""
        end = len(self._parts)
        return _mean(self._parts[end - first : end - last])

    @property
    def half(self) -> int:
        """Half the number of parts."""
        return len(self._parts) // 2

    def state_dict(self) -> dict[str, Any]:
        """Returns the part of it that a checkpoint holds."""
        return {"parts": self._parts, "sums": self._sums, "length": self._length, "count": self._count}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on from there."""
        parts, sums = [list(part) for part in state["parts"]], list(state["sums"])
        for part in (sums, *parts):
            if [one.shape for one in part] != [leaf.shape for leaf in self._leaves]:
                raise ValueError("its averages are those of other parameters")
        if len(parts) >= _MOST or not 0 <= state["count"] < state["length"]:
            raise ValueError("its averages are of no stage")
        device = [leaf.device for leaf in self._leaves]
        self._parts = [[one.to(place) for one, place in zip(part, device, strict=True)] for part in parts]
        self._sums = [one.to(place).clone() for one, place in zip(sums, device, strict=True)]
        self._length, self._count = int(state["length"]), int(state["count"])


def _mean(parts: Sequence[Sequence[Tensor]]) -> list[Tensor]:
    total = [leaf.clone() for leaf in parts[0]]
    for part in parts[1:]:
        torch._foreach_add_(total, list(part))
    torch._foreach_div_(total, float(len(parts)))
    return total
