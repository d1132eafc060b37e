"""The epochs of a training, and what is asked and told after each of them."""

import time
from collections.abc import Callable

from ppl_vae.training.capture import Step
from ppl_vae.training.checkpoints import Checkpoint
from ppl_vae.training.held_out import HeldOut
from ppl_vae.training.passes import Advance, Passes
from ppl_vae.training.stopping import StoppingRule, Training
from ppl_vae.training.telling import Told


class Loop:
    """Goes through the epochs that are left.

    Args:
        training: what a stopping rule sees.
        passes: takes the steps of an epoch.
        step: takes one of them.
        saved: the checkpoint.
        held_out: measures the bound of held-out data after each epoch.
        until: may stop the training.
        after_epoch: likewise, and sees nothing but the number of epochs.
        told: tells the trackers of each epoch.
    """

    def __init__(
        self,
        training: Training,
        passes: Passes,
        step: Step,
        saved: Checkpoint,
        held_out: HeldOut | None,
        until: StoppingRule | None,
        after_epoch: Callable[[int], bool] | None,
        told: Told,
    ) -> None:
        self._training, self._passes, self._step, self._saved = training, passes, step, saved
        self._held_out, self._until, self._after_epoch, self._told = held_out, until, after_epoch, told
        looks = held_out is not None or after_epoch is not None or (until is not None and until.each_epoch)
        self._together = 1 if looks else passes.together

    def run(self, advance: Advance) -> None:
        """Trains, and ends as the stopping rule wants it."""
        history, epochs, after_epoch = self._training.history, self._training.epochs, self._after_epoch
        done = len(history.elbo)
        stopped = self._saved.was_stopped and after_epoch is not None and after_epoch(done)
        while done < epochs and not (stopped or history.ended):
            began = time.perf_counter()
            totals = self._passes.run(range(done, min(done + self._together, epochs)), history.latest, advance)
            history.record(totals, time.perf_counter() - began, self._step.compile_seconds)
            if self._held_out is not None:
                self._held_out.after_epoch(history)
            if self._until is not None:
                history.ended = self._until.after_epoch(self._training)
            self._told.epochs_from(done)
            done = len(history.elbo)
            stopped = after_epoch is not None and bool(after_epoch(done))
            is_last = stopped or bool(history.ended) or done == epochs
            if is_last:
                self._step.finish()  # before anything is changed for what comes after the training
            self._saved.save(is_last, stopped)
        history.ended = history.ended or ("after_epoch stopped it" if stopped else f"all {epochs} epochs are done")
        if self._until is not None:
            self._until.finish(self._training)
        if self._held_out is not None:
            self._held_out.finish(history)
