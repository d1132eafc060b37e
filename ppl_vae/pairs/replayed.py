"""A pair's run from a graph where there are many of one shape; by the programs where that fails."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from ppl_vae.graphs.tracing import agree, replay, traced
from ppl_vae.pairs.held import Held
from ppl_vae.pairs.modules import Program, modules_of
from ppl_vae.pairs.restore import random_state_kept, unvalidated
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
        return graph(*batch)

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
