"""Estimators with weights on the divergence: of what is differentiated, never of what is told as the bound."""

from copy import copy
from typing import Any

import torch
from pyro.infer import ELBO, Trace_ELBO, TraceGraph_ELBO, TraceMeanField_ELBO
from pyro.ops.provenance import detach_provenance
from pyro.poutine import Trace
from torch import Tensor

from ppl_vae.errors import InputError
from ppl_vae.estimators.base import LogWeightELBO
from ppl_vae.estimators.pathwise import Pathwise, PathwiseKL
from ppl_vae.estimators.score_function import ScoreFunction
from ppl_vae.estimators.weights import Weights
from ppl_vae.graphs.private import numbers_left_as_tensors
from ppl_vae.pairs.arguments import batch_size
from ppl_vae.pairs.modules import Program

_OF_PYRO = (Trace_ELBO, Pathwise, TraceMeanField_ELBO, PathwiseKL, TraceGraph_ELBO, ScoreFunction)
_OTHERS = "take Trace_ELBO, TraceMeanField_ELBO, TraceGraph_ELBO, StickingTheLanding, Reinforce or LeaveOneOut"


class WeighedELBO(LogWeightELBO):
    """One of Pyro's ELBOs with weights: the bound from its traces, the surrogate from these with the weights in them.

    Args:
        elbo: of a class of ``_OF_PYRO``.
        weights: those of the divergence.
    """

    def __init__(self, elbo: ELBO, weights: Weights) -> None:
        super().__init__(elbo.num_particles, elbo.max_plate_nesting)
        self._elbo: Any = elbo
        self._weights, self.weights, self.state = weights, weights, weights.state

    def objective(self, model: Program, guide: Program, batch: tuple[Any, ...]) -> tuple[Tensor, Tensor]:
        """Returns the bound of the whole batch, and its surrogate."""
        pairs = list(self._elbo._get_traces(model, guide, batch, {}))
        weighing = self._weights.now()
        parts = []
        for model_trace, guide_trace in pairs:
            weighed = weighing.trace(model_trace), weighing.trace(guide_trace)
            weighed[0].compute_log_prob()
            weighed[1].compute_score_parts()
            parts.append((self._bound(model_trace, guide_trace), self._surrogate(*weighed)))
        if self.adapting:
            self._weights.learn(
                ((guide_trace, model_trace) for model_trace, guide_trace in pairs),
                batch_size(batch) * self.num_particles,
            )
        value, surrogate = (torch.stack(side).sum() / self.num_particles for side in zip(*parts, strict=True))
        return value, surrogate

    def _bound(self, model_trace: Trace, guide_trace: Trace) -> Tensor:
        if isinstance(self._elbo, TraceMeanField_ELBO):  # it has a closed form where it can
            return self._surrogate(model_trace, guide_trace)
        return detach_provenance(model_trace.log_prob_sum() - guide_trace.log_prob_sum())

    def _surrogate(self, model_trace: Trace, guide_trace: Trace) -> Tensor:
        if isinstance(self._elbo, TraceGraph_ELBO):
            return -self._elbo._loss_and_surrogate_loss_particle(model_trace, guide_trace)[1]
        with numbers_left_as_tensors():
            return -self._elbo._differentiable_loss_particle(model_trace, guide_trace)[1]


def weighed(elbo: ELBO, weights: Weights | None) -> ELBO:
    """Returns an estimator with weights, which tells the same bound; the estimator itself where there are none."""
    if weights is None:
        return elbo
    if not isinstance(elbo, LogWeightELBO):
        return WeighedELBO(elbo, weights)
    own = copy(elbo)
    own.weights, own.state = weights, [*elbo.state, *weights.state]
    return own


def require_weighable(elbo: ELBO, weights: Weights) -> None:
    """Refuses an estimator whose surrogate has no place for weights.

    Args:
        elbo: the estimator.
        weights: those of the divergence.

    Raises:
        InputError: for a bound of several draws, a class of somebody else's, and the like.
    """
    name, given = type(elbo).__name__, weights.given
    if not isinstance(elbo, LogWeightELBO):
        if type(elbo) not in _OF_PYRO:
            raise InputError(f"{given}, but {name} has no divergence of each draw to weigh: {_OTHERS}")
    elif not _says(type(elbo), "takes_weights"):
        raise InputError(
            f"{given}, but {name} has no divergence of each draw to weigh: {_OTHERS} (a class of one's own that uses "
            "Run.weighed says so by takes_weights = True)"
        )
    elif weights.free and not elbo.draws_from_guide:
        raise InputError(f"{given}, but {name} runs the model on other values than draws of the guide: {_OTHERS}")


def _says(kind: type, name: str) -> bool:
    """Says whether a class attribute is true, and was set no further up than the objective was written."""
    first = next(base for base in kind.__mro__ if "objective" in vars(base))
    said = next(base for base in kind.__mro__ if name in vars(base))
    return bool(getattr(kind, name)) and issubclass(said, first)
