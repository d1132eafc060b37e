"""What the gradient estimators of this project share: a bound and its surrogate, one number for each data point."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import pyro
import torch
from pyro.infer import ELBO
from pyro.poutine import Trace
from torch import Tensor, nn

from ppl_vae.errors import InputError
from ppl_vae.estimators.weights import Weights
from ppl_vae.pairs.arguments import Batch, batch_size
from ppl_vae.pairs.modules import Program
from ppl_vae.pairs.pairing import require_a_pair
from ppl_vae.pairs.restore import random_state_kept
from ppl_vae.pairs.runs import Run, propose, run
from ppl_vae.pairs.traces import Site, latent_sites, plates_below, random_sites, trace_guide, trace_model


class LogWeightELBO(ELBO, ABC):
    """The base of the estimators: a way to differentiate E[log w], or another mean of w, through the drawing of z.

    A subclass defines :meth:`objective`, from what :meth:`run` gives: the bound of each data point in nats, shape
    (batch,), and a surrogate of the same shape whose gradient estimates the bound's, which may be the bound itself. It
    may leave out the rest: ``fewest`` where one particle is enough, :meth:`learned` where nothing is trained beside the
    pair, ``state`` where nothing is remembered, ``is_bound`` where the value is a bound. Named in ``ESTIMATORS``, it
    has its place on the command line.

    It runs by :func:`ppl_vae.fit`, in ``pyro.infer.SVI``, and as a module (``elbo(model, guide)(x)``). All particles
    are drawn in one plate. ``poutine.mask`` is honoured; a site with a scale is refused, since w is a density.

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
        takes_weights: True where the surrogate is made of ``Run.weighed``, the terms with the weights of the divergence
            (``kl_weight`` and ``free_bits`` of :func:`ppl_vae.fit`), and the bound of the run itself.
        draws_from_guide: False where the model is run on other values than draws of the guide.
        weights: those of the divergence; None where the objective is the bound.

    Raises:
        TypeError: for a subclass without ``objective``, when an instance is made.

    Examples:
        >>> import math
        >>> import torch
        >>> from ppl_vae import fit
        >>> from ppl_vae.estimators import LogWeightELBO
        >>> from ppl_vae.guides import Amortized, Diagonal
        >>> from ppl_vae.models import VAE
        >>> class Renyi(LogWeightELBO):  # 2 log E[w^(1/2)], between the ELBO and log p(x)
        ...     def objective(self, model, guide, batch):
        ...         halves = self.run(model, guide, batch).log_weights / 2
        ...         bound = 2 * (halves.logsumexp(0) - math.log(len(halves)))
        ...         return bound, bound
        >>> x = torch.bernoulli(torch.full((20, 64), 0.3))
        >>> len(fit(VAE(64, 2), Amortized(Diagonal(2), 64), x, elbo=Renyi(5), epochs=1, progress=False).elbo)
        1
    """

    fewest = 1
    paired = False
    is_bound = True
    runs_guide = True
    takes_weights = False
    draws_from_guide = True
    weights: Weights | None = None
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

    @abstractmethod
    def objective(self, model: Program, guide: Program, batch: Batch) -> tuple[Tensor, Tensor]:
        """Returns the bound, and a surrogate whose gradient estimates the bound's: nats, shape (batch,) each."""

    def learned(self, model: Program | None, guide: Program | None, *batch: Any) -> nn.Module | None:
        """Returns the network that the estimator trains beside the pair, made at the first call; None without one."""
        return None

    def differentiable_loss(self, model: Program, guide: Program, *args: Any, **kwargs: Any) -> Tensor:
        """Returns minus the bound summed over the batch, a tensor whose gradient is the estimate."""
        model, guide = (partial(program, **kwargs) if kwargs else program for program in (model, guide))
        self._register(model, guide, args)
        value, surrogate = self.objective(model, guide, args)
        return -(value.detach() + surrogate - surrogate.detach()).sum()

    def loss_and_grads(self, model: Program, guide: Program, *args: Any, **kwargs: Any) -> float:
        """Adds the estimate to the parameters' gradients, and returns minus the bound summed over the batch."""
        loss = self.differentiable_loss(model, guide, *args, **kwargs)
        if loss.requires_grad:
            loss.backward()
        return loss.item()

    def loss(self, model: Program, guide: Program, *args: Any, **kwargs: Any) -> float:
        """Returns minus the bound summed over the batch; nothing is learned from it."""
        before, self.adapting = self.adapting, False
        try:
            return self.differentiable_loss(model, guide, *args, **kwargs).item()
        finally:
            self.adapting = before

    def run(
        self,
        model: Program,
        guide: Program,
        batch: Batch,
        particles: int | None = None,
        draw: Callable[[Site], Tensor] | None = None,
        check: Callable[[Trace], object] | None = None,
    ) -> Run:
        """Runs the pair, with the draws of the guide's sites changed by ``draw`` and its trace seen by ``check``."""
        once = run(model, guide, batch, particles or self.num_particles, self.nesting(model, guide, batch), draw, check)
        _refuse_scales(once.guide, once.model)
        if self.weights is not None:
            once = replace(once, weighing=self.weights.now())
            if self.adapting:
                self.weights.learn([(once.guide, once.model)], once.prior.numel())
        return once

    def propose(self, model: Program, guide: Program, batch: Batch, particles: int | None = None) -> Trace:
        """Runs the guide alone, as :meth:`run` does before the model."""
        return propose(guide, batch, particles or self.num_particles, self.nesting(model, guide, batch))

    def nesting(self, model: Program, guide: Program, batch: Batch) -> int:
        """Returns how many plates of the pair's own lie below the particles.

        A first run of the pair finds it, and checks the pair.
        """
        batch_size(batch)
        if math.isinf(self.max_plate_nesting):
            with random_state_kept(), torch.no_grad(), pyro.poutine.block():
                guide_trace = trace_guide(guide, batch, 1, 0)
                model_trace = trace_model(model, guide_trace, batch, 1, 0)
            require_a_pair(random_sites(guide_trace), random_sites(model_trace), draws=True)
            self.max_plate_nesting = plates_below(guide_trace, model_trace)
        return max(1, int(self.max_plate_nesting))

    def _get_trace(self, model: Program, guide: Program, args: Any, kwargs: Any) -> tuple[Trace, Trace]:
        """Runs the pair once for its two traces, which Pyro's base class asks for."""
        once = self.run(partial(model, **kwargs), partial(guide, **kwargs), args, 1)
        return once.model, once.guide

    def _register(self, model: Program, guide: Program, batch: tuple[Any, ...]) -> None:
        """Shows the learned network to Pyro's parameter store, where plain SVI finds what it trains."""
        network = self.learned(model, guide, *batch)
        if network is not None and not pyro.settings.get("module_local_params"):
            pyro.module(f"ppl_vae.{type(self).__name__}.{id(self)}", network)


def detached(site: dict[str, Any]) -> Tensor:
    """Copies a site's value as a constant, into a new tensor that no distribution takes for a remembered draw."""
    return site["value"].detach().clone()


def fresh(site: dict[str, Any]) -> Tensor:
    """Copies a site's value with its gradient, so that log q is computed from z and not remembered from the draw."""
    return site["value"].clone()


def redrawn(guide_trace: Trace, draw: Callable[[Site], Tensor]) -> Trace:
    """Copies a trace, with other values at its latent sites."""
    moved = guide_trace.copy()
    for site in latent_sites(guide_trace):
        moved.nodes[site["name"]] = {key: site[key] for key in site if "log_prob" not in key} | {"value": draw(site)}
    return moved


def _refuse_scales(*traces: Trace) -> None:
    for site in (site for trace in traces for site in random_sites(trace)):
        if isinstance(site["scale"], Tensor) or site["scale"] != 1.0:
            raise InputError(
                f"site {site['name']!r} has a scale (poutine.scale, or a plate that subsamples), which log-weights "
                "don't have: take a plate as long as the batch, or Pyro's own ELBO"
            )
