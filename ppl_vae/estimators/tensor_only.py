"""Pyro's own ELBOs with their numbers kept as tensors: what :mod:`ppl_vae.training.capture` can trace.

Pyro's classes read each site's log-density as a Python number, which no graph can hold.
"""

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from pyro.infer import (
    ELBO,
    RenyiELBO,
    ReweightedWakeSleep,
    Trace_ELBO,
    TraceEnum_ELBO,
    TraceGraph_ELBO,
    TraceMeanField_ELBO,
    TraceTailAdaptive_ELBO,
    TraceTMC_ELBO,
)
from pyro.infer.traceenum_elbo import _compute_dice_elbo
from pyro.poutine import Trace
from torch import Tensor

from ppl_vae.estimators.base import LogWeightELBO
from ppl_vae.estimators.pathwise import Pathwise, PathwiseKL
from ppl_vae.estimators.score_function import ScoreFunction
from ppl_vae.graphs.private import backward_caught, numbers_left_as_tensors, unvalidated, zeros_masked_unseen
from ppl_vae.pairs.modules import Program

_MADE: dict[type[ELBO], type[ELBO]] = {
    Trace_ELBO: Trace_ELBO,
    Pathwise: Trace_ELBO,
    TraceMeanField_ELBO: TraceMeanField_ELBO,
    PathwiseKL: TraceMeanField_ELBO,
    TraceGraph_ELBO: TraceGraph_ELBO,
    TraceEnum_ELBO: TraceEnum_ELBO,
    ScoreFunction: TraceGraph_ELBO,
}
# Those whose particles make one number that is no mean over them: they run as they are. Left are classes of other
# people, which may remember from step to step what no graph sees, and the Jit ones, which replay a trace of their own.
_AS_THEY_ARE = (RenyiELBO, ReweightedWakeSleep, TraceTailAdaptive_ELBO, TraceTMC_ELBO)


class Objective(Protocol):
    """Anything with an objective: a bound, and a tensor whose gradient estimates the bound's."""

    def objective(self, model: Program, guide: Program, batch: tuple[Any, ...]) -> tuple[Tensor, Tensor]:
        """Returns both in nats, of each data point or of the whole batch."""


class _AsTensors:
    """One of Pyro's ELBOs with all particles in one plate, and its numbers as tensors."""

    def __init__(self, made: type[ELBO], elbo: ELBO) -> None:
        count, nesting = elbo.num_particles, elbo.max_plate_nesting
        self._elbo: Any = made(count, max_plate_nesting=nesting, vectorize_particles=count > 1)

    def objective(self, model: Program, guide: Program, batch: tuple[Any, ...]) -> tuple[Tensor, Tensor]:
        """Returns the bound of the whole batch, and its surrogate."""
        if isinstance(self._elbo, TraceGraph_ELBO):
            value, loss = self._elbo._loss_and_surrogate_loss(model, guide, batch, {})
            return value, -loss
        by_particle = [self._bound(*traces) for traces in self._elbo._get_traces(model, guide, batch, {})]
        value, surrogate = (sum(parts) / self._elbo.num_particles for parts in zip(*by_particle, strict=True))
        return value, surrogate

    def _bound(self, model_trace: Trace, guide_trace: Trace) -> tuple[Any, Any]:
        if isinstance(self._elbo, TraceEnum_ELBO):
            with zeros_masked_unseen():
                value = _compute_dice_elbo(model_trace, guide_trace)
            return value, value
        with numbers_left_as_tensors():
            loss, surrogate = self._elbo._differentiable_loss_particle(model_trace, guide_trace)
        return -loss, -surrogate


class _AsItIs:
    """One of Pyro's ELBOs, whose ``loss_and_grads`` is run up to its ``backward``."""

    def __init__(self, elbo: Any) -> None:
        self._elbo = elbo

    def objective(self, model: Program, guide: Program, batch: tuple[Any, ...]) -> tuple[Tensor, Tensor]:
        """Returns minus the first loss that it tells of the whole batch, and the surrogate."""
        with backward_caught() as surrogates:
            loss = first_loss(self._elbo.loss_and_grads(model, guide, *batch))
        return -torch.as_tensor(loss), -sum(surrogates, torch.zeros_like(surrogates[0]))


def first_loss(losses: Any) -> Any:
    """Returns the loss that ``loss_and_grads`` gives: ReweightedWakeSleep gives one for each of its phases."""
    return losses[0] if isinstance(losses, tuple) else losses


def particles_apart(elbo: ELBO) -> int:
    """Returns how many particles an ELBO draws one after the other whose gradients' mean is the estimate, else 1."""
    return elbo.num_particles if type(elbo) in _MADE and not elbo.vectorize_particles else 1


def takes_any_particles(elbo: ELBO) -> bool:
    """Says whether the objective is a mean over particles, so that their number changes its noise alone."""
    return type(elbo) in _MADE


def tensor_only(elbo: ELBO) -> Objective | None:
    """Returns the same bound and gradient as an ELBO's, of tensors alone; None where there is none."""
    if isinstance(elbo, LogWeightELBO):
        return elbo
    if type(elbo) in _AS_THEY_ARE:
        return _AsItIs(elbo)
    made = _MADE.get(type(elbo))
    return _AsTensors(made, elbo) if made is not None else None


def bound_and_gradients(
    elbo: Objective, model: Program, guide: Program, batch: tuple[Any, ...], leaves: Sequence[Tensor]
) -> tuple[Tensor, tuple[Tensor | None, ...]]:
    """Returns the bound, and the gradients of minus its sum for the leaves (None where it does not depend on one)."""
    with unvalidated():
        value, surrogate = elbo.objective(model, guide, batch)
        return value.detach(), torch.autograd.grad(-surrogate.sum(), leaves, allow_unused=True)
