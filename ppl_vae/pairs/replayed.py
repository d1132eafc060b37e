"""A pair's run from a graph where there are many of one shape; by the programs where that fails."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from ppl_vae.errors import InputError
from ppl_vae.graphs.tracing import agree, replay, traced
from ppl_vae.pairs.held import Held
from ppl_vae.pairs.modules import Program, modules_of
from ppl_vae.pairs.restore import Moment, random_state_kept, unvalidated
from ppl_vae.pairs.watching import watched

_MANY_RUNS = 300  # of one shape earn the tracing back


class ReplayedRun:
    """A function of a part of the data and a number of particles, which runs a pair without gradients.

    Args:
        pair: the programs behind it.
        by_programs: runs them; gives tensors.
        expected: how many runs are to come.
    """

    def __init__(
        self, pair: tuple[Program, ...], by_programs: Callable[[tuple[Any, ...], int], list[Tensor]], expected: int
    ) -> None:
        self._pair, self._by_programs = pair, by_programs
        self._wanted = expected >= _MANY_RUNS and not torch.is_grad_enabled()
        self._graphs: dict[Any, Callable[..., Any] | None] = {}
        self._held: Held | None = None
        self._replays: dict[Any, int] = {}

    def __call__(self, batch: tuple[Any, ...], particles: int) -> Sequence[Tensor]:
        """Returns what the programs give, on the same random numbers."""
        if not self._wanted or not all(isinstance(part, Tensor) for part in batch):
            return self._by_programs(batch, particles)
        key = (particles, *((part.shape, part.dtype) for part in batch))
        if key not in self._graphs:
            self._graphs[key] = self._graph(batch, particles)
        graph = self._graphs[key]
        if graph is None or (self._held is not None and self._held.drifted()):
            return self._by_programs(batch, particles)
        self._replays[key] = replays = self._replays.get(key, -1) + 1  # 0 is the one that it was recorded from
        if not replays or replays & (replays - 1):  # no power of two
            return graph(*batch)
        return self._compared(key, graph, batch, particles)

    def _compared(
        self, key: Any, graph: Callable[..., Any], batch: tuple[Any, ...], particles: int
    ) -> Sequence[Tensor]:
        """Replays the graph beside the programs, after 1, 2, 4, ... replays: on other data than it was recorded from.

        What a program reads from its data by Python or numpy is a constant of the graph, and shows at the first one.
        """
        before = Moment()
        by_programs, reason, _ = watched(lambda: self._by_programs(batch, particles), self._pair)
        after = Moment()
        before.put_back()
        by_graph = graph(*batch)
        if not reason and agree(by_programs, by_graph):
            return by_graph
        if self._replays[key] > 1:
            raise InputError(
                f"after {self._replays[key]} chunks of data the pair gives other weights than before, so its bounds "
                "would mean nothing: it depends on something that changes from run to run; look for a counter, a file "
                "or a clock"
            )
        self._graphs[key] = None
        after.put_back()
        return by_programs

    def _graph(self, batch: tuple[Any, ...], particles: int) -> Callable[..., Any] | None:
        """Traces the pair; None where that fails, or where the trace gives other numbers on the same random ones."""

        def run(*batch: Tensor) -> list[Tensor]:
            return self._by_programs(batch, particles)

        moving = [tensor for module in modules_of(*self._pair) for tensor in (*module.parameters(), *module.buffers())]
        try:
            with random_state_kept():
                expected, reason, held = watched(lambda: run(*batch), self._pair)
            if reason:
                return None
            with random_state_kept(), unvalidated():
                graph = replay(traced(run, batch, moving))
            self._held = self._held or held
            with random_state_kept():
                return graph if agree(expected, graph(*batch)) else None
        except Exception:  # whatever a program does that a graph can't
            return None
