"""A pair's run from a graph where there are many of one shape; by the programs where that fails."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule

from ppl_vae.errors import InputError
from ppl_vae.graphs.engines import interpreted
from ppl_vae.graphs.simplifying import without_first
from ppl_vae.graphs.tracing import agree, traced
from ppl_vae.pairs.held import Held
from ppl_vae.pairs.modules import Program, modules_of
from ppl_vae.pairs.restore import Moment, random_state_kept, unvalidated
from ppl_vae.pairs.rhythm import is_compared
from ppl_vae.pairs.watching import watched

_MANY_RUNS = 300  # of one shape earn the tracing back


class ReplayedRun:
    """A function of tensors and a number of particles that runs a pair, and gives tensors without gradients.

    Args:
        pair: the programs behind it.
        by_programs: runs them; gives tensors, or None for those that are missing. What it takes gradients of it has
            them taken inside.
        expected: how many runs are to come.
    """

    def __init__(
        self, pair: tuple[Program, ...], by_programs: Callable[[tuple[Any, ...], int], Sequence[Any]], expected: int
    ) -> None:
        self._pair, self._by_programs = pair, by_programs
        self._wanted = expected >= _MANY_RUNS and not torch.is_grad_enabled()
        self._traced: dict[Any, GraphModule] = {}
        self._graphs: dict[Any, Callable[..., Any] | None] = {}
        self._held: Held | None = None
        self._replays: dict[Any, int] = {}

    def __call__(self, batch: tuple[Any, ...], particles: int, first: int = 0) -> Sequence[Any]:
        """Returns what the programs give from the first result that is wanted, on the same random numbers.

        A graph leaves out what the results before need.
        """

        def by_programs() -> Sequence[Any]:
            return self._by_programs(batch, particles)[first:]

        if not self._wanted or not all(isinstance(part, Tensor) for part in batch):
            return by_programs()
        # a graph has views where the programs have views of tensors that lie like these
        key = (first, particles, *((part.shape, part.dtype, part.stride()) for part in batch))
        if key not in self._graphs:
            self._graphs[key] = self._graph(key, by_programs, batch)
        graph = self._graphs[key]
        if graph is None or (self._held is not None and self._held.drifted()):
            return by_programs()
        self._replays[key] = replays = self._replays.get(key, -1) + 1  # 0 is the one that it was recorded from
        if replays and is_compared(replays):
            return self._compared(key, graph, by_programs, batch)
        return graph(*batch)

    def _compared(
        self, key: Any, graph: Callable[..., Any], run: Callable[[], Sequence[Any]], batch: tuple[Tensor, ...]
    ) -> Sequence[Any]:
        """Replays the graph beside the programs, after 1, 2, 4, ... replays: on other data than it was recorded from.

        What a program reads from its data by Python or numpy is a constant of the graph, and shows at the first one.
        """
        before = Moment()
        by_programs, reason, _ = watched(run, self._pair)
        after = Moment()
        before.put_back()
        by_graph = graph(*batch)
        if not reason and agree(by_programs, by_graph):
            return by_graph
        if self._replays[key] > 1:
            raise InputError(
                f"after {self._replays[key]} runs the pair gives other numbers than before, so what is measured would "
                "mean nothing: it depends on something that changes from run to run; look for a counter, a file or a "
                "clock"
            )
        self._graphs[key] = None
        after.put_back()
        return by_programs

    def _graph(
        self, key: Any, by_programs: Callable[[], Sequence[Any]], batch: tuple[Tensor, ...]
    ) -> Callable[..., Any] | None:
        """Traces the pair; None where that fails, or where the trace gives other numbers on the same random ones."""
        first, particles, *_ = key

        def run(*batch: Tensor) -> list[Any]:
            return list(self._by_programs(batch, particles))

        moving = [tensor for module in modules_of(*self._pair) for tensor in (*module.parameters(), *module.buffers())]
        try:
            with random_state_kept():
                expected, reason, held = watched(by_programs, self._pair)
            if reason:
                return None
            with random_state_kept(), unvalidated():
                if key[1:] not in self._traced:
                    self._traced[key[1:]] = traced(run, batch, moving)
                graph = interpreted(without_first(self._traced[key[1:]], first), batch)
            self._held = self._held or held
            with random_state_kept():
                return graph if agree(expected, graph(*batch)) else None
        except Exception:  # whatever a program does that a graph can't
            return None
