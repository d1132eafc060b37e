"""Pyro's own ELBOs with their numbers kept as tensors: what :mod:`ppl_vae.training.capture` can trace.

Pyro's classes read each site's log-density as a Python number, which no graph can hold.
"""

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from pyro.infer import ELBO, Trace_ELBO, TraceEnum_ELBO, TraceGraph_ELBO, TraceMeanField_ELBO
from pyro.infer.traceenum_elbo import _compute_dice_elbo
from pyro.poutine import Trace
from torch import Tensor

from ppl_vae.estimators.base import LogWeightELBO
from ppl_vae.estimators.pathwise import Pathwise, PathwiseKL
from ppl_vae.estimators.score_function import ScoreFunction
from ppl_vae.graphs.private import numbers_left_as_tensors, unvalidated, zeros_masked_unseen
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


def tensor_only(elbo: ELBO) -> Objective | None:
    """Returns the same bound and gradient as an ELBO's, of tensors alone; None where there is none."""
    if isinstance(elbo, LogWeightELBO):
        return elbo
    made = _MADE.get(type(elbo))
    return _AsTensors(made, elbo) if made is not None else None


def bound_and_gradients(
    elbo: Objective, model: Program, guide: Program, batch: tuple[Any, ...], leaves: Sequence[Tensor]
) -> tuple[Tensor, tuple[Tensor | None, ...]]:
    """Returns the bound, and the gradients of minus its sum for the leaves (None where it does not depend on one)."""
    with unvalidated():
        value, surrogate = elbo.objective(model, guide, batch)
        return value.detach(), torch.autograd.grad(-surrogate.sum(), leaves, allow_unused=True)
