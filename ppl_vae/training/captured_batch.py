"""The graph that takes training steps on batches of one shape: traced, verified, compiled and launched.

It is traced from a run of the program, verified by runs of the program beside its replays, compiled where that pays,
and on a GPU launched as one CUDA graph.
"""

import itertools
import statistics
import time
from collections.abc import Callable
from enum import Enum
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor
from torch.fx import GraphModule

from ppl_vae.errors import first_line
from ppl_vae.estimators.tensor_only import Objective, particles_apart
from ppl_vae.graphs.engines import compiled, interpreted
from ppl_vae.graphs.simplifying import with_results_apart
from ppl_vae.graphs.tracing import agree, traced
from ppl_vae.pairs.held import Held
from ppl_vae.pairs.restore import Moment
from ppl_vae.pairs.rhythm import is_compared
from ppl_vae.training.cuda_graphs import CudaGraph, launched, on_gpu
from ppl_vae.training.gradients import Gradients, Numbers
from ppl_vae.training.updates import Updates
from ppl_vae.training.warning import warn_caller

# Two runs of one program on the same random numbers differ by nothing, or by the order of sums on several threads.
_SAME = 1e-5
# A graph has simpler operations than the program: near an optimum, where gradients cancel, that shows in more digits.
_FINE = 1e-3
# A compiler leaves out casts to bfloat16 and back, whose 8 significant bits then round otherwise.
_COARSE = 0.05
# The replays that are timed, to tell what the rest of a training takes: the first ones set things up.
_TIMED_FROM, _TIMED = 10, 50


class CaptureWarning(UserWarning):
    """Warns that a pair runs uncaptured, or that its graph is replayed in a slower way than was asked for.

    Examples:
        >>> import warnings
        >>> from ppl_vae import CaptureWarning
        >>> with warnings.catch_warnings():
        ...     warnings.simplefilter("error", CaptureWarning)  # a fit in here stops where it would run uncaptured
    """


class Stage(Enum):
    """How far a shape's graph has come."""

    BY_PROGRAM = "by the program"  # there is none yet, or a reason why there is none
    TRACED = "traced"  # it gave what the program gave in the step in which it was traced
    VERIFIED = "verified"  # and again with other noise and other data
    COMPILED = "compiled"  # a compiler has put its operations together
    LAUNCHED = "launched"  # a GPU gets all of it at once


class Progress(NamedTuple):
    """How often a graph was replayed, and whether it was compiled."""

    replays: int
    compiled: bool


class NoGraph(Exception):
    """Says why a program has no graph."""


class CapturedBatch:
    """Holds the graph that stands for the program on batches of one shape, and knows how far it has come.

    Args:
        gradients: runs the pair.
        updates: the optimizers' step, which a CUDA graph may hold.

    Attributes:
        stage: how far the graph has come.
        reason: why the program itself is run; empty while nothing speaks against a graph.
        modes: those of the pair where it was traced.
        uncompiled: the graph where a compiler has not been asked yet, and may be.
        replays: how often it was replayed.
    """

    def __init__(self, gradients: Gradients, updates: Updates) -> None:
        self._gradients, self._updates = gradients, updates
        self.stage, self.reason, self.modes = Stage.BY_PROGRAM, "", gradients.modes()
        self.uncompiled: GraphModule | None = None
        self._objective: Objective
        self._held: Held
        self._replay: Callable[..., Numbers]
        self._launch: CudaGraph
        self._may_be_launched, self._is_compiled, self._tolerance = True, False, _FINE
        self.replays = 0
        self._times: list[float] = []

    @property
    def progress(self) -> Progress:
        """How far the graph has come, for a training that goes on from this one."""
        return Progress(self.replays, self._is_compiled)

    def trace(self, batch: tuple[Tensor, ...], objective: Objective) -> Numbers:
        """Takes a step by the program, traces it, and keeps the graph if that gives the same.

        ``objective`` is the ELBO, of tensors alone.
        """
        before = self._gradients.moment()
        by_program, self.reason, self._held = self._gradients.watched(lambda: self._gradients.by_pyro(batch))
        after = self._gradients.moment()
        try:
            if not self.reason:
                run = partial(self._gradients.by_tensors, objective)
                by_graph = self._traced(run, batch, by_program, before, after)
                self._objective = objective
        except NoGraph as error:
            self.reason = str(error)
        except Exception as error:  # whatever a program does that a graph can't
            self.reason = f"it can't be traced ({first_line(error)})"
        if self.reason:
            after.put_back()  # the program's own step stands as it was taken
            return by_program
        self.stage = Stage.TRACED
        return by_graph

    def _traced(
        self,
        run: Callable[..., Numbers],
        batch: tuple[Tensor, ...],
        by_program: Numbers,
        before: Moment,
        after: Moment,
    ) -> Numbers:
        """Traces a step that the program took between two moments, and gives what the graph gives in its place.

        Each run starts from the same moment, so from the same random numbers, and computes the same gradients in
        another way: by Pyro's own ELBO (``by_program``, before), by the same bound with its numbers kept as tensors
        (``by_tensors``), which alone can be traced, and by the graph (``by_graph``). All must agree.
        """
        elbo = self._gradients.elbo
        before.put_back()
        run(*batch)  # a first one that counts for nothing: what an estimator finds out in it takes random numbers
        before.put_back()
        by_tensors = run(*batch)
        before.put_back()
        if not agree(by_tensors, run(*batch), _SAME):
            raise NoGraph("it gives other numbers when it runs again with the same random numbers")
        before.put_back()
        graph = with_results_apart(traced(run, batch, self._gradients.changing()))
        before.put_back()
        replayed = interpreted(graph, batch)
        before.put_back()
        by_graph = replayed(*batch)
        # Where Pyro draws particle after particle, the graph draws all at once: other noise of the same distribution.
        sequential = particles_apart(elbo) > 1
        if not agree(by_tensors if sequential else by_program, by_graph, _FINE):
            raise NoGraph("a replay gives other gradients than the program")
        if not sequential and not after.has_the_random_numbers_of_now():
            raise NoGraph("it sets the seed of torch's random numbers, or draws some that a replay does not")
        self._replay, self.uncompiled = replayed, graph
        return by_graph

    def has_drifted(self) -> bool:
        """Looks whether the program holds other numbers than when it was traced, which its graph does not see."""
        drifted = self._held.drifted()
        if drifted:
            self._go_by_program(f"{drifted} is no longer what it was when the pair was traced")
        return bool(drifted)

    def next_is_compared(self) -> bool:
        """Says whether the program is to be run beside the next replay.

        That finds what :class:`ppl_vae.pairs.held.Held` does not see.
        """
        return is_compared(self.replays + 1)

    def compare(self, batch: tuple[Tensor, ...]) -> Numbers:
        """Replays the graph, and runs the program on the same random numbers: its results count if they differ.

        What the program draws, reads and changes is watched meanwhile, as where it was traced.
        """
        self.replays += 1
        before = self._gradients.moment()
        run = partial(self._gradients.by_tensors, self._objective, *batch)
        by_program, reason, _ = self._gradients.watched(run)
        after = self._gradients.moment()
        before.put_back()
        by_graph = self._replay(*batch)
        if not reason and not agree(by_program, by_graph, self._tolerance):
            reason = "it changes by itself: the program no longer gives what its trace gives"
        if reason:
            self._go_by_program(reason)
            after.put_back()
            return by_program
        if self.stage is Stage.TRACED:
            self.stage = Stage.VERIFIED
        return by_graph

    def replay(self, batch: tuple[Tensor, ...]) -> Numbers:
        """Replays the graph; on a GPU by one launch, which takes the optimizers' step too where a graph can hold it."""
        self.replays += 1
        if self.stage is not Stage.LAUNCHED and self._may_be_launched and on_gpu(batch):
            self._record(batch)
        if self.stage is not Stage.LAUNCHED:
            return self._replay(*batch)
        numbers = self._launch(*batch)
        self._updates.launched()
        return numbers

    def seconds_a_step(self) -> float | None:
        """Gives the median time of a step, after so many replays that it does not hang on a few; None before.

        A run of the program beside a replay, or a pause of the machine, lengthens a few of them only.
        """
        if self.replays >= _TIMED_FROM:
            self._times.append(time.perf_counter())
        if len(self._times) <= _TIMED:
            return None
        return statistics.median(end - start for start, end in itertools.pairwise(self._times))

    def compile(self, batch: tuple[Tensor, ...]) -> float:
        """Has the graph compiled, and takes it if it gives the same; returns the seconds that it took."""
        start, graph = time.perf_counter(), self.uncompiled
        self.uncompiled = None
        if graph is None:  # it is compiled once
            return 0.0
        before = self._gradients.moment()
        try:
            run = compiled(graph, batch)
            by_compiled = run(*batch)
            before.put_back()
            tolerance = _COARSE if _is_coarse(graph) else _FINE
            if not agree(self._replay(*batch), by_compiled, tolerance):
                raise NoGraph("the compiled graph gives other gradients")
            self._replay, self._tolerance, self.stage = run, tolerance, Stage.COMPILED
            self._may_be_launched = self._is_compiled = True
        except Exception as error:  # no C++ compiler, most often
            warn_caller(f"the graph is replayed, not compiled: {first_line(error)}", CaptureWarning)
        finally:
            before.put_back()
        return time.perf_counter() - start

    def _record(self, batch: tuple[Tensor, ...]) -> None:
        """Records the whole step as one CUDA graph, if that does there what it does without."""

        def whole(*batch: Tensor) -> Numbers:
            numbers = self._replay(*batch)
            self._gradients.put(numbers)
            self._updates.record()
            return numbers

        try:
            self._launch, self.stage = launched(whole, batch, self._changing), Stage.LAUNCHED
        except RuntimeError as error:
            self._may_be_launched = False
            text = f"the graph is replayed operation by operation, not as a CUDA graph: {first_line(error)}"
            warn_caller(text, CaptureWarning)

    def _changing(self) -> list[Tensor]:
        gradients = self._gradients
        return [*gradients.parameters, *gradients.buffers(), *self._updates.tensors_in_graph()]

    def _go_by_program(self, reason: str) -> None:
        self.stage, self.reason = Stage.BY_PROGRAM, reason


def _is_coarse(graph: GraphModule) -> bool:
    values = (node.meta.get("val") for node in graph.graph.nodes)
    return any(isinstance(value, Tensor) and value.dtype == torch.bfloat16 for value in values)
