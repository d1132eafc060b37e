"""Training steps without Pyro's handlers: the pair is traced once to a graph of ATen operations, which is replayed.

The graph holds the forward and the backward pass; it reads parameters and buffers where they are and draws fresh random
numbers in the order of the program, so the same seed gives the same numbers. What a program reads from Python is a
constant in it, so a program runs uncaptured if its run before the tracing draws from other generators than torch's,
reads a clock or changes what it holds (:mod:`ppl_vae.pairs.watching`), or gives other numbers a second time. What it
holds is looked at again before each replay, and the program itself runs beside its replays in a growing rhythm.
"""

import time
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal

import pyro
import torch
from pyro.infer import ELBO, TraceEnum_ELBO
from torch import Tensor, nn
from torch.fx import GraphModule
from torch.optim import Optimizer

from ppl_vae.estimators import LogWeightELBO
from ppl_vae.estimators.tensor_only import Objective, bound_and_gradients, tensor_only
from ppl_vae.graphs.tracing import agree, replay, traced
from ppl_vae.pairs.held import Held
from ppl_vae.pairs.modules import Program
from ppl_vae.pairs.restore import Moment
from ppl_vae.pairs.watching import watched
from ppl_vae.training.cuda_graphs import CudaGraph, launched, on_gpu, state_of
from ppl_vae.training.distributed import count, summed
from ppl_vae.training.division import Division

Capture = Literal["auto", "compile"] | bool
Key = tuple[Any, ...]
MANY_STEPS = 500  # earn the tracing back, which costs some 150
LONG_RUN = 600.0  # seconds still to go that earn a compiler's half minute back
_SAME = 1e-5  # two runs of one program
_FINE, _COARSE = 1e-3, 0.05  # near an optimum gradients cancel; a compiler leaves out casts to bfloat16 and back
_RARELY = 512  # replays at most between two runs of the program beside them, which cost some five steps each


def _is_coarse(graph: GraphModule) -> bool:
    values = (node.meta.get("val") for node in graph.graph.nodes)
    return any(isinstance(value, Tensor) and value.dtype == torch.bfloat16 for value in values)


class CaptureWarning(UserWarning):
    """A pair runs uncaptured."""


class Step:
    """The loss of a batch, with the gradients put where ``backward`` would put them.

    Args:
        elbo: any ELBO.
        model: the model.
        guide: its guide, as the ELBO gets it.
        parameters: the leaves that are trained.
        modules: the pair's modules and what else is trained, for their buffers.
        capture: see :func:`ppl_vae.fit`.
        expected: how many steps are to come in all.
        coarse: whether the networks compute in few digits.
        steppers: the optimizers, if they may step inside the graph (see
            :func:`ppl_vae.training.cuda_graphs.make_capturable`).

    Attributes:
        updated: whether the last step was the optimizers' too.
        reason: why it runs uncaptured, empty where it does not.
        compile_seconds: what the compiler took.
    """

    def __init__(
        self,
        elbo: ELBO,
        model: Program,
        guide: Program,
        parameters: Sequence[Tensor],
        modules: Sequence[nn.Module],
        capture: Capture,
        expected: int,
        steppers: Sequence[Optimizer] = (),
        coarse: bool = False,
    ) -> None:
        self._elbo, self._model, self._guide = elbo, model, guide
        self._leaves, self._modules = list(parameters), list(modules)
        self._parts = [part for module in modules for part in module.modules()]
        self._capture, self._expected = capture, expected
        self._tensors: Objective | None = None
        self._division = Division(self._modules, lambda: self.state, coarse)
        self._replays: dict[Key, Callable[..., Any]] = {}
        self._uses: dict[Key, int] = {}
        self._graphs: dict[Key, GraphModule] = {}
        self._steppers, self._launches = list(steppers), dict[Key, CudaGraph | None]()
        self.updated = False
        self._began, self._steps = 0.0, 0
        self._held: dict[Key, Held] = {}
        self._tolerances: dict[Key, float] = {}
        self._rhythm, self._verified = dict[Key, tuple[int, int]](), 0
        self._unverified: tuple[Key, tuple[Tensor, ...]] | None = None  # the last replay that no run was beside
        self.reason, self.compile_seconds = "" if capture else "capture=False", 0.0

    def __call__(self, batch: tuple[Tensor, ...], rare: bool) -> Tensor | float:
        """One step.

        Args:
            batch: the arguments of model and guide.
            rare: a batch whose shape comes once in an epoch.

        Returns:
            The negative bound summed over the batch, on the device where it was captured.
        """
        if count() > 1:
            share = self._division.share(batch)
            loss = self._local(share.of(batch), rare, (share.start, share.total))
            return summed(loss, self._leaves, share, self.state)
        return self._local(batch, rare, ())

    def _local(self, batch: tuple[Tensor, ...], rare: bool, where: tuple[int, ...]) -> Tensor | float:
        self._steps += 1
        self.updated = False
        key = (where, self._flags(), *((part.shape, part.dtype) for part in batch))
        self._uses[key] = uses = self._uses.get(key, 0) + 1
        wanted = self._capture is not False and not self.reason and not (rare and self._capture == "auto")
        if not wanted or self._steps == 1 or (self._capture == "auto" and self._expected < MANY_STEPS):
            return self._uncaptured(batch)
        if key not in self._replays:
            return self._trace(key, batch)
        drifted = self._held[key].drifted()
        if drifted:
            return self._give_up(f"{drifted} is no longer what it was when the pair was traced", batch)
        due, gap = self._rhythm.get(key, (0, 1))
        if uses >= due:
            self._rhythm[key] = uses + gap, min(2 * gap, _RARELY)
            return self._checked(key, batch)
        self._unverified = key, batch
        if not rare:
            self._maybe_compile(key, batch)
        return self._launch(key, batch) if on_gpu(batch) else self._put(self._replays[key](*batch))

    @property
    def state(self) -> list[Tensor]:
        """What the estimator remembers, beside its network."""
        return self._elbo.state if isinstance(self._elbo, LogWeightELBO) else []

    def _uncaptured(self, batch: tuple[Tensor, ...]) -> Tensor | float:
        with pyro.validation_enabled(self._steps == 1), self._division.noise("as it is", self._by_pyro):
            return self._by_pyro(*batch)[0]  # type: ignore[return-value]

    def _by_pyro(self, *batch: Tensor) -> tuple[Tensor | float | None, ...]:
        for leaf in self._leaves:
            leaf.grad = None
        found = self._elbo.loss_and_grads(self._model, self._guide, *batch)
        return found[0] if isinstance(found, tuple) else found, *(leaf.grad for leaf in self._leaves)

    def _run(self, elbo: Objective, *batch: Tensor) -> tuple[Tensor | None, ...]:
        """The loss and the gradients, as the graph is to have them."""
        with self._division.noise("as tensors", partial(self._by_tensors, elbo)):
            return self._by_tensors(elbo, *batch)

    def _by_tensors(self, elbo: Objective, *batch: Tensor) -> tuple[Tensor | None, ...]:
        value, gradients = bound_and_gradients(elbo, self._model, self._guide, batch, self._leaves)
        return -value.sum(), *gradients

    def _trace(self, key: Key, batch: tuple[Tensor, ...]) -> Tensor | float:
        """Takes the step by Pyro, traces it, and keeps the graph if it gives the same."""
        tensors = tensor_only(self._elbo)
        if tensors is None:
            reason = f"{type(self._elbo).__name__} is not made of tensors alone"
            return self._give_up(reason, batch, quiet=self._capture == "auto")
        if any(leaf.layout != torch.strided for leaf in self._leaves) or self._has_sparse_tables():
            return self._give_up("a table has sparse gradients", batch)
        before = Moment(self._buffers())
        loss, reason, held = self._watched(lambda: self._uncaptured(batch))
        after, theirs = Moment(self._buffers()), [leaf.grad for leaf in self._leaves]
        masking = isinstance(self._elbo, TraceEnum_ELBO)
        sequential = self._elbo.num_particles > 1 and not self._elbo.vectorize_particles
        try:
            if not reason:
                before.put_back()
                self._run(tensors, *batch)  # what the estimator finds out at its first run takes random numbers
                before.put_back()
                first = self._run(tensors, *batch)
                before.put_back()
                if not agree(first, self._run(tensors, *batch), _SAME):
                    reason = "it gives other numbers when it runs again with the same random numbers"
            if not reason:
                before.put_back()
                self._graphs[key] = graph = traced(partial(self._run, tensors), batch, self._moving(), masking)
                before.put_back()
                replayed = replay(graph)
                found = replayed(*batch)
                if not agree(first if sequential else [loss, *theirs], found, _FINE):
                    reason = "a replay gives other gradients than the program"
                elif not sequential and not after.has_the_random_numbers_of_now():
                    reason = "it sets the seed of torch's random numbers, or draws some that a replay does not"
        except Exception as error:  # whatever a program does that a graph can't
            text = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            reason = f"it can't be traced ({text})"
        if reason:  # the program's own step stands as it was taken
            after.put_back()
            for leaf, gradient in zip(self._leaves, theirs, strict=True):
                leaf.grad = gradient
            self._uncaptured_from_now(reason)
            return loss
        self._tensors, self._replays[key], self._held[key], self._verified = tensors, replayed, held, self._steps
        return self._put(found)

    def _checked(self, key: Key, batch: tuple[Tensor, ...]) -> Tensor | float:
        """A replay beside a run of the program on the same random numbers; the step is the program's if they differ."""
        expected, after, reason, found = self._beside(key, batch)
        if reason:
            after.put_back()
            self._uncaptured_from_now(reason + self._stale(self._steps - 1, f"found in step {self._steps}; "))
            return self._put(expected)
        self._verified, self._unverified = self._steps, None
        return self._put(found)

    def finish(self) -> None:
        """Compares the last replay with a run of the program, neither of which counts; warns where they differ."""
        if self._unverified is None or self.reason or count() > 1 or self._unverified[0][1] != self._flags():
            return
        before = Moment(self._buffers())
        _, _, reason, _ = self._beside(*self._unverified)
        before.put_back()
        if reason:
            self._uncaptured_from_now(reason + self._stale(self._steps, "found at the end; "))
        self._verified, self._unverified = self._steps, None

    def _beside(self, key: Key, batch: tuple[Tensor, ...]) -> tuple[tuple[Tensor | None, ...], Moment, str, Any]:
        """What the program gives and the moment after it, why no graph can stand for it, and what its replay gives."""
        before = Moment(self._buffers())
        expected, reason, _ = self._watched(lambda: self._run(self._tensors, *batch))  # type: ignore[arg-type]
        after = Moment(self._buffers())
        before.put_back()
        found = self._replays[key](*batch)
        if not reason and not agree(expected, found, self._tolerances.get(key, _FINE)):
            reason = "it changes by itself: the program no longer gives what its trace gives"
        return expected, after, reason, found

    def _flags(self) -> tuple[bool, ...]:
        """The modes of all parts, and which leaves are trained: what a graph has as it was."""
        return *(part.training for part in self._parts), *(leaf.requires_grad for leaf in self._leaves)

    def _stale(self, last: int, where: str) -> str:
        """The steps since the last comparison, up to the last one that was a replay."""
        if last <= self._verified:
            return ""
        return f" ({where}steps {self._verified + 1} to {last} were taken with what it gave before)"

    def _watched(self, run: Callable[[], Any]) -> tuple[Any, str, Held]:
        return watched(run, (self._model, self._guide, self._elbo), [*self._leaves, *self._buffers()])

    def _put(self, found: tuple[Tensor | None, ...]) -> Tensor:
        loss, *gradients = found
        for leaf, gradient in zip(self._leaves, gradients, strict=True):
            leaf.grad = gradient
        return loss  # type: ignore[return-value]

    def _give_up(self, reason: str, batch: tuple[Tensor, ...], quiet: bool = False) -> Tensor | float:
        self._uncaptured_from_now(reason, quiet)
        return self._uncaptured(batch)

    def _uncaptured_from_now(self, reason: str, quiet: bool = False) -> None:
        self.reason = reason
        self._replays.clear()
        self._graphs.clear()
        if not quiet:  # an ELBO that is what it is: nobody asked for a capture
            warnings.warn(f"the pair runs uncaptured: {reason}", CaptureWarning, stacklevel=5)

    def _launch(self, key: Key, batch: tuple[Tensor, ...]) -> Tensor:
        """A replay as one CUDA graph, the optimizers' step in it."""

        def whole(*batch: Tensor) -> tuple[Tensor | None, ...]:
            found = self._replays[key](*batch)
            self._put(found)
            for stepper in self._steppers:
                stepper.step()
            return found

        if key not in self._launches:
            try:
                self._launches[key] = launched(whole, batch, self._changing)
            except RuntimeError as error:
                reason = str(error).strip().splitlines()[0]
                text = f"the graph is replayed operation by operation, not as a CUDA graph: {reason}"
                warnings.warn(text, CaptureWarning, stacklevel=4)
                self._launches[key] = None
        launch = self._launches[key]
        if launch is None:
            return self._put(self._replays[key](*batch))
        found = launch(*batch)
        self.updated = bool(self._steppers)
        return found[0] if self.updated else self._put(found)

    def _changing(self) -> list[Tensor]:
        return [*self._leaves, *self._buffers(), *state_of(self._steppers)]

    def _maybe_compile(self, key: Key, batch: tuple[Tensor, ...]) -> None:
        """Compiles the graph where that was asked for, or where what is left of the run earns it back."""
        if key not in self._graphs:
            return
        uses = self._uses[key]
        if uses >= 10 and not self._began:
            self._began = time.perf_counter()
        left = (time.perf_counter() - self._began) / 50 * (self._expected - self._steps)
        if not (self._capture == "compile" or (uses == 60 and left > LONG_RUN)):
            if uses > 60:
                del self._graphs[key]
            return
        start, graph = time.perf_counter(), self._graphs.pop(key)
        try:
            before = Moment(self._buffers())
            with torch.no_grad():
                compiled = torch.compile(graph, fullgraph=True, dynamic=False, options={"fallback_random": True})
                found = compiled(*batch)
            before.put_back()
            self._tolerances[key] = _COARSE if _is_coarse(graph) else _FINE
            if not agree(self._replays[key](*batch), found, self._tolerances[key]):
                raise RuntimeError("the compiled graph gives other gradients")
            before.put_back()
            self._replays[key] = replay(compiled)
            self._launches.pop(key, None)
        except Exception as error:  # no C++ compiler, most often
            reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            warnings.warn(f"the graph is replayed, not compiled: {reason}", CaptureWarning, stacklevel=4)
        self.compile_seconds += time.perf_counter() - start

    def _has_sparse_tables(self) -> bool:
        return any(
            isinstance(part, nn.Embedding) and part.sparse for module in self._modules for part in module.modules()
        )

    def _buffers(self) -> list[Tensor]:
        return [*self.state, *(buffer for module in self._modules for buffer in module.buffers())]

    def _moving(self) -> list[Tensor]:
        return [*self._leaves, *self._buffers(), *(leaf for module in self._modules for leaf in module.parameters())]
