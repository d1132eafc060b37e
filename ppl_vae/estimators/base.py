"""What the gradient estimators of this project share: a bound and its surrogate, one number for each data point."""

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import pyro
import torch
from pyro.infer import ELBO
from pyro.poutine import Trace
from pyro.poutine.messenger import Messenger
from torch import Tensor, nn

from ppl_vae.errors import InputError
from ppl_vae.pairs.modules import Program
from ppl_vae.pairs.pairing import require_a_pair
from ppl_vae.pairs.restore import random_state_kept
from ppl_vae.pairs.traces import (
    batch_size,
    plates_below,
    random_sites,
    split_density,
    sum_density,
    trace_guide,
    trace_model,
)


@dataclass(frozen=True)
class Run:
    """One run of a pair: its traces, and the terms of the log-weights in nats, shape (particles, batch) each.

    Attributes:
        guide: the guide's trace.
        model: the model's, on the guide's draws.
        joint: log p(x, z).
        proposed: log q(z | x).
    """

    guide: Trace
    model: Trace
    joint: Tensor
    proposed: Tensor

    @property
    def log_weights(self) -> Tensor:
        """log p(x, z) - log q(z | x), shape (particles, batch)."""
        return self.joint - self.proposed


class LogWeightELBO(ELBO):
    """A way to differentiate E[log w], or another mean of w, through the drawing of z.

    Subclasses define :meth:`objective`. It runs by :func:`ppl_vae.fit`, in ``pyro.infer.SVI``, and as a module
    (``elbo(model, guide)(x)``). All particles are drawn in one plate. ``poutine.mask`` is honoured; a site with a
    scale is refused, since w is a density.

    Args:
        num_particles: draws of z for each data point.
        max_plate_nesting: plates of the pair's own below the particles; found by a first run where left infinite.

    Attributes:
        fewest: the fewest particles that the estimator takes; ``num_particles`` is a multiple of it where ``paired``.
        adapting: False while what the estimator learns about the pair (a baseline) must stay as it is.
        learning_steps: how many steps settle what it learns, where it has a network or a state, while the pair is held.
        state: what it remembers from step to step beside its network, tensors that it changes in place; means over the
            batch, which processes that share one put together.
        is_bound: False where the value is that of a relaxed z, which bounds nothing.
        runs_guide: False where the guide is not called, and need not fit the model.
    """

    fewest = 1
    paired = False
    is_bound = True
    runs_guide = True
    learning_steps = 500
    max_plate_nesting: float

    def __init__(self, num_particles: int | None = None, max_plate_nesting: float = math.inf) -> None:
        count = self.fewest if num_particles is None else num_particles
        if count < self.fewest or (self.paired and count % self.fewest):
            needed = f"a multiple of {self.fewest}" if self.paired else f"at least {self.fewest}"
            raise InputError(f"num_particles is {count}; {type(self).__name__} needs {needed}")
        super().__init__(count, max_plate_nesting=max_plate_nesting, vectorize_particles=True)
        self.adapting = True
        self.state: list[Tensor] = []

    def objective(self, model: Program, guide: Program, batch: tuple[Any, ...]) -> tuple[Tensor, Tensor]:
        """The bound, and a tensor whose gradient estimates the bound's: nats, shape (batch,) each."""
        raise TypeError(f"{type(self).__name__} has no objective: define objective(self, model, guide, batch)")

    def learned(self, model: Program | None, guide: Program | None, *batch: Any) -> nn.Module | None:
        """The network that the estimator trains beside the pair, made for it at the first call; None without one."""
        return None

    def differentiable_loss(self, model: Program, guide: Program, *args: Any, **kwargs: Any) -> Tensor:
        """Minus the bound summed over the batch, whose gradient is the estimate."""
        model, guide = (partial(program, **kwargs) if kwargs else program for program in (model, guide))
        self._register(model, guide, args)
        value, surrogate = self.objective(model, guide, args)
        return -(value.detach() + surrogate - surrogate.detach()).sum()

    def loss_and_grads(self, model: Program, guide: Program, *args: Any, **kwargs: Any) -> float:
        """Minus the bound summed over the batch; its gradient is added to the parameters'."""
        loss = self.differentiable_loss(model, guide, *args, **kwargs)
        if loss.requires_grad:
            loss.backward()
        return loss.item()

    def loss(self, model: Program, guide: Program, *args: Any, **kwargs: Any) -> float:
        """Minus the bound summed over the batch; nothing is learned from it."""
        before, self.adapting = self.adapting, False
        try:
            return self.differentiable_loss(model, guide, *args, **kwargs).item()
        finally:
            self.adapting = before

    def run(
        self,
        model: Program,
        guide: Program,
        batch: tuple[Any, ...],
        particles: int | None = None,
        draw: Callable[[dict[str, Any]], Tensor] | None = None,
        check: Callable[[Trace], object] | None = None,
    ) -> Run:
        """Runs the pair, with the draws of the guide's sites changed by ``draw`` and its trace seen by ``check``."""
        guide_trace, particles, nesting = self.propose(guide, batch, particles, draw, model)
        if check is not None:
            check(guide_trace)
        model_trace = trace_model(model, guide_trace, batch, particles, nesting)
        zeros = _zeros(batch, particles)
        prior, likelihood = split_density(model_trace, nesting, zeros)
        joint = prior + likelihood
        _refuse_scales(guide_trace, model_trace)
        return Run(guide_trace, model_trace, joint, sum_density(random_sites(guide_trace), nesting, zeros))

    def propose(
        self,
        guide: Program,
        batch: tuple[Any, ...],
        particles: int | None,
        draw: Callable[[dict[str, Any]], Tensor] | None,
        model: Program | None,
    ) -> tuple[Trace, int, int]:
        """The guide's half of :meth:`run`: its trace, the particles and the plates below them."""
        batch_size(batch)
        if math.isinf(self.max_plate_nesting):
            with random_state_kept(), torch.no_grad(), pyro.poutine.block():
                first = trace_guide(guide, batch, 1, 0)
                both = (first, trace_model(model, first, batch, 1, 0)) if model is not None else (first,)
            if model is not None:
                require_a_pair(*map(random_sites, both), draws=True)
            self.max_plate_nesting = plates_below(both)
        nesting = max(1, int(self.max_plate_nesting))
        particles = particles or self.num_particles
        around: AbstractContextManager[Any] = _Redraw(draw) if draw is not None else nullcontext()
        with around:
            return trace_guide(guide, batch, particles, nesting), particles, nesting

    def densities(self, trace: Trace, batch: tuple[Any, ...], particles: int) -> Tensor:
        """The log-density of all the random sites of a trace, shape (particles, batch)."""
        return sum_density(random_sites(trace), max(1, int(self.max_plate_nesting)), _zeros(batch, particles))

    def _get_trace(self, model: Program, guide: Program, args: Any, kwargs: Any) -> tuple[Trace, Trace]:
        """What Pyro's base class asks for: one pair of traces."""
        run = self.run(partial(model, **kwargs), partial(guide, **kwargs), args, 1)
        return run.model, run.guide

    def _register(self, model: Program, guide: Program, batch: tuple[Any, ...]) -> None:
        """Puts the learned network before plain SVI, which trains what it meets in the store."""
        network = self.learned(model, guide, *batch)
        if network is not None and not pyro.settings.get("module_local_params"):
            pyro.module(f"ppl_vae.{type(self).__name__}.{id(self)}", network)


class _Redraw(Messenger):
    """Stands outside the trace, so that it changes a value after the plates have spread it and before it is kept."""

    def __init__(self, draw: Callable[[dict[str, Any]], Tensor]) -> None:
        super().__init__()
        self.draw = draw

    def _pyro_post_sample(self, msg: dict[str, Any]) -> None:
        if not msg["is_observed"] and not pyro.poutine.util.site_is_subsample(msg):
            msg["value"] = self.draw(msg)


def detached(site: dict[str, Any]) -> Tensor:
    """A site's value as a constant; a new tensor, so that no distribution takes it for a remembered draw."""
    return site["value"].detach().clone()


def fresh(site: dict[str, Any]) -> Tensor:
    """A site's value with its gradient, and likewise no remembered draw: log q goes the way through z."""
    return site["value"].clone()


def redrawn(guide_trace: Trace, draw: Callable[[dict[str, Any]], Tensor]) -> Trace:
    """A copy of a trace with other values at its latent sites."""
    moved = guide_trace.copy()
    for site in latent_sites(guide_trace):
        moved.nodes[site["name"]] = {key: site[key] for key in site if "log_prob" not in key} | {"value": draw(site)}
    return moved


def latent_sites(guide_trace: Trace) -> list[dict[str, Any]]:
    """The guide's sites that are drawn."""
    sites = random_sites(guide_trace)
    return [site for site in sites if not site["is_observed"] and not pyro.poutine.util.site_is_subsample(site)]


def _zeros(batch: tuple[Any, ...], particles: int) -> Tensor:
    dtype = batch[0].dtype if batch[0].is_floating_point() else None
    return batch[0].new_zeros((particles, batch_size(batch)), dtype=dtype)


def _refuse_scales(*traces: Trace) -> None:
    for site in (site for trace in traces for site in random_sites(trace)):
        if isinstance(site["scale"], Tensor) or site["scale"] != 1.0:
            raise InputError(
                f"site {site['name']!r} has a scale (poutine.scale, or a plate that subsamples), which log-weights "
                "don't have: take a plate as long as the batch, or Pyro's own ELBO"
            )
