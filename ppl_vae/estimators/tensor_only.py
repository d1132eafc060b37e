"""Pyro's own pathwise ELBOs once more, of tensors alone: what :mod:`ppl_vae.capture` can trace.

Pyro's classes read each site's log-density as a Python number, which no graph can hold.
"""

from typing import Any, Protocol

from pyro.distributions.util import scale_and_mask
from pyro.infer import ELBO, Trace_ELBO, TraceMeanField_ELBO
from pyro.poutine import Trace
from torch import Tensor
from torch.distributions import kl_divergence

from ppl_vae.contexts import Program
from ppl_vae.errors import InputError
from ppl_vae.estimators.base import LogWeightELBO, latent_sites
from ppl_vae.estimators.pathwise import Pathwise, PathwiseKL


class Objective(Protocol):
    """A bound, and a tensor whose gradient estimates the bound's."""

    def objective(self, model: Program, guide: Program, batch: tuple[Any, ...]) -> tuple[Tensor, Tensor]:
        """Both in nats, of each data point or of the whole batch."""


class _Trace:
    """``Trace_ELBO`` of a whole batch, on draws with a gradient, all particles in one plate.

    Latents of all the data, scales and plates that subsample count as Pyro counts them.
    """

    def __init__(self, particles: int) -> None:
        self._traces = Trace_ELBO(particles, vectorize_particles=particles > 1)

    def objective(self, model: Program, guide: Program, batch: tuple[Any, ...]) -> tuple[Tensor, Tensor]:
        """E[log w], summed over the batch."""
        ((model_trace, guide_trace),) = self._traces._get_traces(model, guide, batch, {})
        for site in latent_sites(guide_trace):
            if not site["fn"].has_rsample:
                raise InputError(f"the draws of site {site['name']!r} have no gradient")
        value = self._total(model_trace, guide_trace) / self._traces.num_particles
        return value, value

    def _total(self, model_trace: Trace, guide_trace: Trace) -> Any:
        return sum(map(_density, _sites(model_trace))) - sum(map(_density, _sites(guide_trace)))


class _MeanField(_Trace):
    """``TraceMeanField_ELBO``: each site's divergence from the prior in closed form where it has one."""

    def _total(self, model_trace: Trace, guide_trace: Trace) -> Any:
        total: Any = 0.0
        left = {site["name"]: site for site in _sites(guide_trace)}
        for site in _sites(model_trace):
            ours = left.pop(site["name"], None)
            try:
                if ours is None or site["is_observed"]:
                    raise NotImplementedError
                divergence = scale_and_mask(kl_divergence(ours["fn"], site["fn"]), ours["scale"], ours["mask"])
                total = total - divergence.expand(ours["fn"].batch_shape).sum()
            except NotImplementedError:
                total = total + _density(site) - (_density(ours) if ours is not None else 0.0)
        return total - sum(map(_density, left.values()))  # auxiliary sites


def tensor_only(elbo: ELBO) -> Objective | None:
    """The same bound and gradient as one of Pyro's ELBOs, of tensors alone; None where there is none."""
    if isinstance(elbo, LogWeightELBO):
        return elbo
    made = {Trace_ELBO: _Trace, Pathwise: _Trace, TraceMeanField_ELBO: _MeanField, PathwiseKL: _MeanField}
    if type(elbo) not in made:
        return None
    return made[type(elbo)](elbo.num_particles)


def _density(site: dict[str, Any]) -> Any:
    return site["log_prob_sum"] if "log_prob_sum" in site else site["log_prob"].sum()


def _sites(trace: Trace) -> list[dict[str, Any]]:
    return [site for site in trace.nodes.values() if site["type"] == "sample"]
