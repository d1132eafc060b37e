"""Passes over the data: a training step for each batch, with a look at whether all is finite after it."""

import math
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from ppl_vae.errors import InputError
from ppl_vae.pairs.checks import explained
from ppl_vae.pairs.modules import Program
from ppl_vae.pairs.restore import restored_unless_finite
from ppl_vae.training.batches import Batch, Batches
from ppl_vae.training.capture import Step
from ppl_vae.training.history import Totals
from ppl_vae.training.trainable import Trainable
from ppl_vae.training.updates import Updates

Advance = Callable[[int, float, int], None]
# Epochs of one step that go together, where nothing looks at each: to keep a copy of the parameters and look for NaN in
# them takes as long as such a step.
_TOGETHER = 64
_SEEN = 256  # rows that are kept for a look at what was trained


class Passes:
    """Takes training steps, batch after batch, an epoch or several short ones at a call.

    Args:
        source: the data.
        programs: model and guide, whose mistakes are explained if the first step fails.
        pair: what is trained of them.
        step: gives the loss and the gradients of a batch.
        updates: changes the parameters by them.
        tensors: all that a step changes: a call that fails leaves them as it found them.
        device: where they are.
        after_step: called after each step, if anything is.

    Attributes:
        together: the epochs that one call may take.
        steps: in an epoch.
        start: the ELBO of the first step, nats per data point; None before it, and where other passes were before it.
        seen: the latest batches, of 256 rows together where there are so many.
    """

    def __init__(
        self,
        source: Batches,
        programs: tuple[Program, Program],
        pair: Trainable,
        step: Step,
        updates: Updates,
        tensors: Sequence[Tensor],
        device: torch.device,
        after_step: Callable[[], None] | None = None,
    ) -> None:
        self._source, self._programs, self._pair = source, programs, pair
        self._step, self._updates, self._tensors = step, updates, tensors
        self._spare = [tensor.detach().clone() for tensor in tensors]
        self._is_first, self._after_step = True, after_step
        self.together = _TOGETHER if source.steps == 1 else 1
        self.steps = source.steps
        self.start: float | None = None
        self.seen: deque[Batch] = deque()
        self._rows_seen = 0
        # A CPU has each loss at once. A GPU is not waited for: its losses stay there to the end of the epoch.
        self._waits = device.type == "cpu"

    def run(self, epochs: range, latest: float, advance: Advance) -> list[Totals]:
        """Goes through the data once for each epoch, and returns what its steps add up to.

        Args:
            epochs: their numbers, from 0 on.
            latest: the ELBO of the last epoch, which is shown where a step's own is not at hand.
            advance: is told each step's epoch from 1 on, its ELBO and its rows.

        Raises:
            InputError: where the ELBO or a parameter is no longer finite.
        """
        with restored_unless_finite(self._pair.parameters, self._tensors, self._spare):
            totals = [self._run(epoch, latest, advance) for epoch in epochs]
            self._pair.require_finite(epochs.stop)
        return totals

    def _run(self, epoch: int, latest: float, advance: Advance) -> Totals:
        totals = Totals()
        self.seen.clear()  # before the next one is made: a batch may be as large as the data
        self._rows_seen = 0
        for index, batch in enumerate(self._source.epoch()):
            loss, rows = self._loss(batch), len(batch[0])
            if self._waits:
                loss = float(loss)
                self._require_finite(loss, epoch, index)
            self._updates.finish()
            totals.add(loss, rows, self._pair.full_size or rows)
            if self._after_step is not None:
                self._after_step()
            if epoch == index == 0:
                self.start = -float(loss) / (self._pair.full_size or rows)
            self._keep(batch)
            advance(epoch + 1, -loss / rows if self._waits else latest, rows)
        self._require_finite(float(totals.loss), epoch, index)
        return totals

    def _keep(self, batch: Batch) -> None:
        self.seen.append(batch)
        self._rows_seen += len(batch[0])
        while self._rows_seen - len(self.seen[0][0]) >= _SEEN:
            self._rows_seen -= len(self.seen.popleft()[0])

    def _loss(self, batch: Batch) -> Any:
        rare = len(batch[0]) < min(self._source.batch_size, self._source.size)
        if not self._is_first:
            return self._step(batch, rare)
        with explained(*self._programs, batch):
            loss = self._step(batch, rare)
        self._pair.require_gradients()
        self._is_first = False
        return loss

    def _require_finite(self, loss: float, epoch: int, index: int) -> None:
        """Refuses a loss that is not finite; but ``TraceTailAdaptive_ELBO`` gives inf whatever happens."""
        if not math.isfinite(loss) and not (math.isinf(loss) and self._has_finite_gradients()):
            raise InputError(
                f"the ELBO became {-loss} in epoch {epoch + 1}, step {index + 1}: lower the learning rate, or look "
                "for a scale near 0 in the model or the guide"
            )

    def _has_finite_gradients(self) -> bool:
        return all(leaf.grad is None or bool(leaf.grad.isfinite().all()) for leaf in self._pair.parameters)
