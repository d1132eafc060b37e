"""Training steps without Pyro's handlers: the pair is traced once to a graph of ATen operations, which is replayed.

The graph holds the forward and the backward pass; it reads parameters and buffers where they are and draws fresh random
numbers in the order of the program, so the same seed gives the same numbers. What a program reads from Python is a
constant in it, so a program runs uncaptured if its run before the tracing draws from other generators than torch's,
reads a clock or changes what it holds (:mod:`ppl_vae.pairs.watching`), or gives other numbers a second time. What it
holds is looked at again before each replay, and the program itself runs beside its replays in a growing rhythm.
"""

import operator
from collections.abc import Mapping
from typing import Any, Literal

from torch import Tensor

from ppl_vae.estimators.tensor_only import tensor_only
from ppl_vae.training.captured_batch import CapturedBatch, CaptureWarning, Progress, Stage
from ppl_vae.training.distributed import count, summed
from ppl_vae.training.gradients import Gradients
from ppl_vae.training.updates import Updates
from ppl_vae.training.warning import warn_caller

Capture = Literal["auto", "compile"] | bool
# Steps that earn the tracing back, which takes as long as some 150 of the program's. Their number decides, no clock:
# a graph rounds otherwise than a program, and the same seed must give the same numbers on a busy machine.
MANY_STEPS = 500
# Seconds still to go that earn a compiler's half minute back: only a clock can say what is left, so this choice alone
# hangs on it.
LONG_RUN = 600.0
_NOT_ASKED_FOR = "capture=False"


def is_worthwhile(capture: Capture, steps: int) -> bool:
    """Says whether so many steps are to be taken by a graph."""
    return capture is not False and (capture != "auto" or steps >= MANY_STEPS)


class Step:
    """Computes the loss of a batch and gives the parameters their gradients, by a graph of the pair or by its programs.

    Args:
        gradients: runs the pair on a batch.
        capture: see :func:`ppl_vae.fit`.
        expected: how many steps are to come in all.
        updates: the optimizers' step, which a graph may take; it is finished by whoever calls the step.
        undisturbed: whether no other code than this package's runs between steps, and batches of equal length have
            equal shapes: what the programs hold then changes by their own runs alone, and is looked at beside these.

    Attributes:
        reason: why it runs uncaptured, empty where it does not.
        compile_seconds: what the compiler took.
    """

    def __init__(
        self,
        gradients: Gradients,
        capture: Capture,
        expected: int,
        updates: Updates | None = None,
        undisturbed: bool = False,
    ) -> None:
        self._gradients = gradients
        self._updates = updates if updates is not None else Updates()
        self._capture, self._expected, self._steps = capture, expected, 0
        self._shapes: dict[Any, CapturedBatch] = {}
        self._known: dict[str, Any] = {}  # the graphs of the training that this one goes on from
        self._undisturbed = undisturbed
        self._checked: dict[int, CapturedBatch] = {}  # by length of batch: looked at since the programs ran last
        self._compared = 0  # the last step beside which the program was run
        self._uncompared: tuple[CapturedBatch, tuple[Tensor, ...]] | None = None  # the last replay without that
        self.reason, self.compile_seconds = "" if capture else _NOT_ASKED_FOR, 0.0

    def __call__(self, batch: tuple[Tensor, ...], rare: bool) -> Tensor | float:
        """Takes one step.

        Args:
            batch: the arguments of model and guide.
            rare: a batch whose shape comes once in an epoch.

        Returns:
            The negative bound summed over the batch, on the device where it was captured.
        """
        self._steps += 1
        self._updates.begin(len(batch[0]))
        checked = self._checked.get(len(batch[0]))
        if checked is not None and not checked.next_is_compared():
            return self._replay(checked, batch, rare)
        if count() > 1:
            share = self._gradients.division.share(batch)
            loss = self._take(share.of(batch), rare, (share.start, share.total))
            return summed(loss, self._gradients.parameters, share, self.state)
        return self._take(batch, rare, ())

    @property
    def state(self) -> list[Tensor]:
        """What the estimator remembers, beside its network."""
        return self._gradients.state

    def state_dict(self) -> dict[str, Any]:
        """Returns how many steps were taken, and for which shapes a graph takes them; a graph itself is traced anew."""
        graphs = {repr(key): shape.progress for key, shape in self._shapes.items()}
        return {
            "steps": self._steps,
            "reason": self.reason,
            "compile_seconds": self.compile_seconds,
            "graphs": self._known | graphs,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on from there: a step that would be a graph's without a break is so after it too, in the last digit."""
        steps, reason, seconds = operator.index(state["steps"]), str(state["reason"]), float(state["compile_seconds"])
        known = {str(key): Progress(*progress) for key, progress in state["graphs"].items()}
        if any(type(progress.replays) is not int or type(progress.compiled) is not bool for progress in known.values()):
            raise ValueError("it does not say how far its graphs have come")
        self._steps, self.compile_seconds, self._known = steps, seconds, known
        if self._capture and reason and reason != _NOT_ASKED_FOR:
            self._give_up(reason, quiet=self._capture == "auto")

    def finish(self) -> None:
        """Compares the last replay with a run of the program, neither of which counts; warns where they differ."""
        if self._uncompared is None or self.reason or count() > 1:
            return
        shape, batch = self._uncompared
        if shape.modes != self._gradients.modes():
            return
        before, replays = self._gradients.moment(), shape.replays
        shape.compare(batch)
        before.put_back()
        shape.replays = replays
        if shape.reason:
            self._give_up(shape.reason + self._wrong_steps(self._steps, "found at the end; "))
        self._compared, self._uncompared = self._steps, None

    def _take(self, batch: tuple[Tensor, ...], rare: bool, rows: tuple[int, ...]) -> Tensor | float:
        if not self._captures(rare):
            return self._by_program(batch)
        key = (rows, self._gradients.modes(), *((part.shape, part.dtype) for part in batch))
        shape = self._shapes.get(key)
        if shape is None:
            shape = self._shapes[key] = CapturedBatch(self._gradients, self._updates)
            if repr(key) in self._known:
                self._trace_again(shape, batch, self._known.pop(repr(key)))
                if self.reason:
                    return self._by_program(batch)
        if shape.stage is Stage.BY_PROGRAM:
            return self._trace(shape, batch)
        if shape.has_drifted():
            self._give_up(shape.reason)
            return self._by_program(batch)
        if shape.next_is_compared():
            return self._compare(shape, batch)
        if self._undisturbed and not rows:
            self._checked[len(batch[0])] = shape
        return self._replay(shape, batch, rare)

    def _replay(self, shape: CapturedBatch, batch: tuple[Tensor, ...], rare: bool) -> Tensor | float:
        self._uncompared = shape, batch
        if shape.uncompiled is not None and not rare:
            self._maybe_compile(shape, batch)
        numbers = shape.replay(batch)
        return numbers[0] if self._updates.taken else self._gradients.put(numbers)

    def _captures(self, rare: bool) -> bool:
        """Whether a graph may take this step; the first step is the program's, where Pyro validates it."""
        if self.reason or self._steps == 1:
            return False
        return is_worthwhile(self._capture, self._expected) and not (self._capture == "auto" and rare)

    def _by_program(self, batch: tuple[Tensor, ...]) -> Tensor | float:
        self._checked.clear()
        return self._gradients.by_pyro(batch, validate=self._steps == 1)[0]

    def _trace(self, shape: CapturedBatch, batch: tuple[Tensor, ...]) -> Tensor | float:
        """Takes a step by the program, and makes the graph that takes the next one of this shape."""
        elbo = self._gradients.elbo
        objective = tensor_only(elbo)
        if objective is None:
            # with "auto" nobody asked for a graph, and the ELBO is what it is: nothing to be warned of
            self._give_up(f"{type(elbo).__name__} is not made of tensors alone", quiet=self._capture == "auto")
            return self._by_program(batch)
        if reason := self._gradients.no_graph():
            self._give_up(reason)
            return self._by_program(batch)
        self._checked.clear()
        numbers = shape.trace(batch, objective)
        if shape.reason:
            self._give_up(shape.reason)
        else:
            self._compared = self._steps
        return self._gradients.put(numbers)

    def _trace_again(self, shape: CapturedBatch, batch: tuple[Tensor, ...], progress: Progress) -> None:
        """Makes the graph that a training before this one had, in no step of its own."""
        before = self._gradients.moment()
        self._trace(shape, batch)
        before.put_back()
        if not shape.reason:
            shape.replays = progress.replays
            self.compile_seconds += shape.compile(batch) if progress.compiled else 0.0

    def _compare(self, shape: CapturedBatch, batch: tuple[Tensor, ...]) -> Tensor | float:
        """Takes a step by the graph and by the program beside it; where they differ, the program's counts."""
        self._checked.clear()
        numbers = shape.compare(batch)
        if shape.reason:
            self._give_up(shape.reason + self._wrong_steps(self._steps - 1, f"found in step {self._steps}; "))
        else:
            self._compared, self._uncompared = self._steps, None
        return self._gradients.put(numbers)

    def _wrong_steps(self, last: int, where: str) -> str:
        """Names the steps since the last comparison, up to the last one that was a replay."""
        if last <= self._compared:
            return ""
        return f" ({where}steps {self._compared + 1} to {last} were taken with what it gave before)"

    def _give_up(self, reason: str, quiet: bool = False) -> None:
        """Runs the program itself from now on, for batches of all shapes: what one shows holds for all."""
        self.reason = reason
        self._shapes.clear()
        self._uncompared = None
        if not quiet:
            warn_caller(f"the pair runs uncaptured: {reason}", CaptureWarning)

    def _maybe_compile(self, shape: CapturedBatch, batch: tuple[Tensor, ...]) -> None:
        """Compiles a graph where that was asked for, or where what is left of the run earns it back."""
        seconds = shape.seconds_a_step()
        if self._capture == "compile" or (seconds is not None and seconds * (self._expected - self._steps) > LONG_RUN):
            self.compile_seconds += shape.compile(batch)
        elif seconds is not None:
            shape.uncompiled = None
