"""What the estimators for discrete latents share: the one site, its logits, and the model on values between states."""

from typing import Any

import pyro
import pyro.distributions as dist
import torch
from pyro.poutine import Trace
from torch import Tensor

from ppl_vae.errors import InputError
from ppl_vae.estimators.base import LogWeightELBO, redrawn
from ppl_vae.pairs.arguments import batch_size
from ppl_vae.pairs.modules import Program
from ppl_vae.pairs.traces import latent_sites, random_sites, trace_model
from ppl_vae.pairs.units import unit_of
from ppl_vae.programs import NotReparameterized


def one_site(guide_trace: Trace, estimator: str) -> dict[str, Any]:
    """Returns the guide's only latent site; InputError where there are more."""
    sites = latent_sites(guide_trace)
    if len(sites) != 1:
        raise InputError(
            f"{estimator} is for one latent site, the guide has {[site['name'] for site in sites]}: take rloo"
        )
    return sites[0]


def factor(site: dict[str, Any]) -> Any:
    """Returns the distribution of one bit or one-hot vector of a site whose event they fill independently."""
    base = site["fn"]
    if isinstance(base, NotReparameterized):
        base = base.base
    while isinstance(base, torch.distributions.Independent):
        base = base.base_dist
    return base


def bit_logits(guide_trace: Trace, estimator: str) -> Tensor:
    """Returns the logits of the guide's only site, independent bits; InputError for another site."""
    site = one_site(guide_trace, estimator)
    base = factor(site)
    if not isinstance(base, dist.Bernoulli) or len(site["fn"].event_shape) != 1:
        raise InputError(
            f"{estimator} is for a vector of independent Bernoulli latents, site {site['name']!r} is a "
            f"{type(base).__name__} of event shape {tuple(site['fn'].event_shape)}: take rloo, or pathwise where z is "
            "continuous"
        )
    return base.logits


def model_at(
    elbo: LogWeightELBO, model: Program, guide_trace: Trace, value: Tensor, batch: tuple[Any, ...], particles: int
) -> tuple[Trace, Tensor]:
    """Runs the model on values between the states of the guide's only site.

    Returns its trace and log p(x, z), by the formula of the mass that z has at its states.
    """
    moved = redrawn(guide_trace, lambda site: value)
    nesting = max(1, int(elbo.max_plate_nesting))
    with pyro.validation_enabled(False):
        trace = trace_model(model, moved, batch, particles, nesting)
    unit = unit_of(guide_trace, trace, batch_size(batch))
    return trace, unit.sum(random_sites(trace), unit.zeros(batch, particles))
