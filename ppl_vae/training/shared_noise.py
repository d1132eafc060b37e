"""The random numbers of a batch that several processes divide: each draws all of them and keeps those of its rows.

With noise of its own each process would do as well on average, but not the same: with that of the whole batch, the
training is the one of a single process, whatever their number, so that a seed is enough to repeat it anywhere and a
checkpoint goes on with another number of processes. Drawing is cheap beside the networks, which see their rows alone.
Where the rows lie in each draw is :mod:`ppl_vae.training.division`'s to find out.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ppl_vae.errors import InputError
from ppl_vae.graphs.private import TorchDispatchMode, changes_its_argument

_CHANGED = (
    "the program draws other random numbers than at its first step, so that several processes can't tell which are "
    "those of their rows: take one process"
)


@dataclass(frozen=True)
class Share:
    """The rows of a batch that one process takes.

    Attributes:
        total: the rows of the whole batch.
        start: the first one's place.
        length: how many.
        idle: whether they count for nothing, since there are fewer rows than processes.
    """

    total: int
    start: int
    length: int
    idle: bool = False

    def of(self, batch: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Takes these rows out of a batch."""
        return tuple(part[self.start : self.start + self.length] for part in batch)


@dataclass(frozen=True)
class Axis:
    """The dimension of a shape that grows with the rows, and its size for each: above 1 where it is flattened."""

    dim: int
    each: int

    def rows(self, tensor: Tensor, count: int, outer: int) -> Tensor:
        """Views a tensor so that its dimension ``dim + 1`` is that of the rows alone."""
        outer = outer if self.each > 1 else 1
        return tensor.unflatten(self.dim, (outer, count, self.each // outer))

    def flat(self, tensor: Tensor) -> Tensor:
        """Undoes :meth:`rows`."""
        return tensor.flatten(self.dim, self.dim + 2)


@dataclass(frozen=True)
class Draw:
    """An operation on random numbers: whether it used any, and where the data lie in its arguments and results."""

    name: str
    is_random: bool
    given: tuple[Axis | None, ...]
    drawn: tuple[Axis | None, ...]


class SharedNoise(TorchDispatchMode):
    """Draws what is random for the whole batch, and keeps the rows of one share.

    Args:
        share: the rows.
        draws: the operations to come, in their order.
        outer: the size of what lies before the rows where they are flattened together with it: the particles.
    """

    def __init__(self, share: Share, draws: Sequence[Draw], outer: int) -> None:
        super().__init__()
        self._share, self._draws, self._outer = share, draws, outer
        self._left: Iterator[Draw] = iter(())

    def __enter__(self) -> "SharedNoise":
        self._left = iter(self._draws)
        return super().__enter__()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if torch.Tag.nondeterministic_seeded not in func.tags:
            return func(*args, **kwargs)
        draw = next(self._left, None)
        if draw is None or draw.name != str(func):
            raise InputError(_CHANGED)
        if not draw.is_random or not any(draw.given):
            return func(*args, **kwargs)  # nothing of the data's: the same in all processes
        whole = [self._whole(part, axis) for part, axis in zip(args, draw.given, strict=True)]
        drawn = func(*whole, **kwargs)
        mine = [self._mine(part, axis) for part, axis in zip(parts_of(drawn), draw.drawn, strict=True)]
        if changes_its_argument(func):
            return args[0].copy_(mine[0])
        return type(drawn)(mine) if isinstance(drawn, tuple | list) else mine[0]

    def _whole(self, part: Any, axis: Axis | None) -> Any:
        """Widens an argument to the whole batch's size, with this share's rows at their place in it."""
        if axis is None:
            return part
        share = self._share
        shape = shape_of(part)
        if shape is None or len(shape) <= axis.dim or shape[axis.dim] != axis.each * share.length:
            raise InputError(_CHANGED)
        if not isinstance(part, Tensor):
            return [*shape[: axis.dim], axis.each * share.total, *shape[axis.dim + 1 :]]
        rows = axis.rows(part, share.length, self._outer)
        dim = axis.dim + 1
        first, after = rows.narrow(dim, 0, 1), share.total - share.start - share.length
        ends = [first.expand(*rows.shape[:dim], size, *rows.shape[dim + 1 :]) for size in (share.start, after)]
        return axis.flat(torch.cat([ends[0], rows, ends[1]], dim))

    def _mine(self, drawn: Any, axis: Axis | None) -> Any:
        if axis is None:
            return drawn
        rows = axis.rows(drawn, self._share.total, self._outer)
        return axis.flat(rows.narrow(axis.dim + 1, self._share.start, self._share.length)).clone()


def shape_of(part: Any) -> list[int] | None:
    """The shape of a tensor, or the one that a list of sizes asks for; None for other things."""
    if isinstance(part, Tensor):
        return list(part.shape)
    is_size = isinstance(part, list | tuple) and all(isinstance(size, int) for size in part)
    return list(part) if is_size else None


def parts_of(results: Any) -> Sequence[Any]:
    """Lists the results of an operation, which gives one or several."""
    return results if isinstance(results, tuple | list) else (results,)
