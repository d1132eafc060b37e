"""One run of a pair, and the terms of its log-weights."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from pyro.poutine import Trace
from pyro.poutine.messenger import Messenger
from pyro.poutine.util import site_is_subsample
from torch import Tensor

from ppl_vae.pairs.arguments import Batch, batch_size
from ppl_vae.pairs.modules import Program
from ppl_vae.pairs.traces import Site, latent_sites, random_sites, split_density, sum_density, trace_guide, trace_model


@dataclass(frozen=True, kw_only=True)
class Terms:
    """The terms of the log-weights in nats, shape (particles, batch) each.

    Attributes:
        prior: log p(z).
        likelihood: log p(x | z).
        proposed: log q(z | x).
    """

    prior: Tensor
    likelihood: Tensor
    proposed: Tensor

    @property
    def joint(self) -> Tensor:
        """The joint density log p(x, z), shape (particles, batch)."""
        return self.prior + self.likelihood

    @property
    def log_weights(self) -> Tensor:
        """The log-weights log p(x, z) - log q(z | x), shape (particles, batch)."""
        return self.joint - self.proposed


@dataclass(frozen=True, kw_only=True)
class Run(Terms):
    """One run of a pair: its traces, and the terms of the log-weights.

    Attributes:
        guide: the guide's trace.
        model: the model's, on the guide's draws.

    Examples:
        >>> import torch
        >>> from ppl_vae.estimators import IWAE
        >>> from ppl_vae.guides import Amortized, Diagonal
        >>> from ppl_vae.models import VAE
        >>> x = torch.bernoulli(torch.full((5, 64), 0.3))
        >>> run = IWAE(num_particles=3).run(VAE(64, 2), Amortized(Diagonal(2), 64), (x,))
        >>> run.log_weights.shape, run.latents()["z"].shape
        (torch.Size([3, 5]), torch.Size([3, 5, 2]))
    """

    guide: Trace
    model: Trace

    def latents(self) -> dict[str, Tensor]:
        """Returns the model's latents by name, shape (particles, batch, event) where no plate lies below the data."""
        shape = self.prior.shape
        return {
            site["name"]: site["value"].expand(*shape, *site["fn"].event_shape) for site in latent_sites(self.model)
        }


def run(
    model: Program,
    guide: Program,
    batch: Batch,
    particles: int,
    nesting: int,
    draw: Callable[[Site], Tensor] | None = None,
    check: Callable[[Trace], object] | None = None,
) -> Run:
    """Runs the guide, then the model on its draws; parameters are wherever Pyro now keeps them.

    Args:
        model: the model.
        guide: its guide.
        batch: the arguments of both.
        particles: draws of z for each data point, in one plate.
        nesting: how many plates of the programs' own lie below the particles.
        draw: the value of a latent, from its site in the guide; the drawn one where None.
        check: sees the guide's trace before the model runs, and may raise.

    Raises:
        InputError: where the two are no pair (:func:`ppl_vae.pairs.pairing.mismatches`), or where a site lies outside
            the plate "data".
    """
    guide_trace = propose(guide, batch, particles, nesting, draw)
    if check is not None:
        check(guide_trace)
    model_trace = trace_model(model, guide_trace, batch, particles, nesting)
    zeros = zeros_for(batch, particles)
    prior, likelihood = split_density(model_trace, nesting, zeros)
    proposed = sum_density(random_sites(guide_trace), nesting, zeros)
    return Run(guide=guide_trace, model=model_trace, prior=prior, likelihood=likelihood, proposed=proposed)


def propose(
    guide: Program, batch: Batch, particles: int, nesting: int, draw: Callable[[Site], Tensor] | None = None
) -> Trace:
    """Runs the guide alone, as :func:`run` does before the model."""
    if draw is None:
        return trace_guide(guide, batch, particles, nesting)
    with _Redraw(draw):
        return trace_guide(guide, batch, particles, nesting)


def zeros_for(batch: Batch, particles: int) -> Tensor:
    """Makes zeros of shape (particles, batch) on the data's device.

    They have torch's default type: what is added to them, in another floating-point type, decides that of the sum.
    """
    return torch.zeros(particles, batch_size(batch), device=batch[0].device)


class _Redraw(Messenger):
    """Changes a latent's value after the plates have spread it and before the trace, inside, keeps it."""

    def __init__(self, draw: Callable[[Site], Tensor]) -> None:
        super().__init__()
        self.draw = draw

    def _pyro_post_sample(self, msg: dict[str, Any]) -> None:
        if not msg["is_observed"] and not site_is_subsample(msg):
            msg["value"] = self.draw(msg)
