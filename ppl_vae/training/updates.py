"""The optimizers' step: one owner takes it, inside a graph of the whole training step or after it."""

import operator
from collections.abc import Mapping, Sequence
from typing import Any

from pyro.optim import PyroOptim
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from ppl_vae.training.clipping import Clipping
from ppl_vae.training.cuda_graphs import make_capturable, state_of
from ppl_vae.training.identity import Identity, optimizer_identity
from ppl_vae.training.objective import KLWeight
from ppl_vae.training.optimizer_memory import put_memory
from ppl_vae.training.optimizers import (
    OptimizerFactory,
    Schedule,
    make_optimizers,
    make_schedulers,
    set_rate,
    set_steps,
)
from ppl_vae.training.recorded_update import RecordedUpdate, is_torchs_own


class Updates:
    """Changes the parameters by their gradients, once a training step.

    A CUDA graph that holds the whole training step takes the optimizers' step too; :meth:`finish` takes it where no
    such graph has.

    Args:
        optimizers: all of them.
        steppers: what takes their steps; they themselves where None.
        clipping: what shortens the gradients before.
        kl_weight: the weight of the divergence, which is set after each step as learning rates are.
        schedulers: those of their learning rates.
        in_graph: whether a graph may hold the optimizers' step (see
            :func:`ppl_vae.training.cuda_graphs.make_capturable`).
        options: their options in words, as they were before a schedule changed them.

    Attributes:
        optimizers: all of them.
        taken: whether a graph has taken the optimizers' step of the training step at hand.
        runs_no_foreign_code: whether neither an optimizer nor a schedule is code of the user's.
    """

    def __init__(
        self,
        optimizers: Sequence[Optimizer] = (),
        schedulers: Sequence[LambdaLR] = (),
        in_graph: bool = False,
        options: Identity | None = None,
        steppers: Sequence[Optimizer | RecordedUpdate] | None = None,
        clipping: Clipping | None = None,
        kl_weight: KLWeight | None = None,
    ) -> None:
        self.optimizers, self._schedulers = list(optimizers), list(schedulers)
        self._clipping, self._kl_weight = clipping, kl_weight
        self._steppers = list(optimizers if steppers is None else steppers)
        scheduled = bool(schedulers) or (kl_weight is not None and kl_weight.is_scheduled)
        self.runs_no_foreign_code = not scheduled and all(map(is_torchs_own, optimizers))
        self.in_graph, self.options = in_graph, options or {}
        self.taken, self._steps, self._rows = False, 0, 0
        self._rates = [
            [float(group["lr"]) if "lr" in group else None for group in optimizer.param_groups]
            for optimizer in self.optimizers
        ]

    def begin(self, rows: int) -> None:
        """Begins a training step on so many rows, of which nothing is taken yet."""
        self.taken, self._rows = False, rows

    def record(self) -> None:
        """Takes the optimizers' step where a graph is being recorded that may hold it."""
        if self.in_graph:
            self._step()

    def launched(self) -> None:
        """Notes that a graph has been launched, and has taken the optimizers' step if it holds it."""
        self.taken = self.in_graph

    def finish(self) -> None:
        """Takes the optimizers' step, unless a graph has, and then that of the learning rates' schedules."""
        if not self.taken:
            self._step()
        self._steps += 1
        for scheduler in self._schedulers:
            scheduler.step()
        if self._kl_weight is not None:
            self._kl_weight.set(self._steps)

    def set_rate(self, factor: float) -> None:
        """Has all learning rates be those of the beginning times a factor, where no schedule sets them."""
        for optimizer, rates in zip(self.optimizers, self._rates, strict=True):
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                if rate is not None:
                    set_rate(group, rate * factor)

    def tensors_in_graph(self) -> list[Tensor]:
        """Lists what the optimizers remember, where a graph changes it."""
        return state_of(self.optimizers) if self.in_graph else []

    def state_dict(self) -> dict[str, Any]:
        """Returns what the optimizers remember, and how many steps they have taken."""
        return {"steps": self._steps, "optimizers": [optimizer.state_dict() for optimizer in self.optimizers]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on from there; a schedule gives the rates that it gives this training after so many steps.

        Raises:
            ValueError: where it is not the state of such optimizers.
        """
        steps, memories = operator.index(state["steps"]), state["optimizers"]
        if len(memories) != len(self.optimizers):
            raise ValueError(f"it has {len(memories)} optimizers, not {len(self.optimizers)}")
        for optimizer, memory in zip(self.optimizers, memories, strict=True):
            put_memory(optimizer, memory)
        self._steps = steps
        for scheduler in self._schedulers:
            set_steps(scheduler, self._steps)
        if self._kl_weight is not None:
            self._kl_weight.set(self._steps)
        if self.in_graph:
            make_capturable(self.optimizers)

    def _step(self) -> None:
        if self._clipping is not None:
            self._clipping(self._rows)
        for stepper in self._steppers:
            stepper.step()


def updates_for(
    optimizer: OptimizerFactory | PyroOptim,
    parameters: list[Tensor],
    modules: list[nn.Module],
    schedule: Schedule | None,
    steps: int,
    may_be_in_graph: bool,
    recorded: bool = False,
    rates_change: bool = False,
    clipping: Clipping | None = None,
    kl_weight: KLWeight | None = None,
) -> Updates:
    """Makes the optimizers of some parameters and the schedules of their learning rates, for so many training steps.

    ``recorded`` says whether each optimizer's step becomes a graph of its own, ``rates_change`` whether a stopping rule
    may set the learning rates.
    """
    optimizers = make_optimizers(optimizer, parameters, modules)
    options = optimizer_identity(
        optimizers, parameters
    )  # before a schedule changes the rate, and a graph how it is held
    in_graph = may_be_in_graph and make_capturable(optimizers)
    steppers = [RecordedUpdate(one, schedule is not None or rates_change) for one in optimizers] if recorded else None
    schedulers = make_schedulers(schedule, optimizers, steps)
    if kl_weight is not None:
        kl_weight.steps = steps
    return Updates(optimizers, schedulers, in_graph, options, steppers, clipping, kl_weight)
