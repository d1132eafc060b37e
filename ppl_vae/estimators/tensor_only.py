"""Pyro's own pathwise ELBOs once more, of tensors alone: what :mod:`ppl_vae.capture` can trace.

Pyro's classes read each site's log-density as a Python number, which no graph can hold.
"""

from typing import Any

import torch
from pyro.distributions.util import scale_and_mask
from pyro.infer import ELBO, Trace_ELBO, TraceMeanField_ELBO
from torch import Tensor
from torch.distributions import kl_divergence

from ppl_vae.contexts import Program
from ppl_vae.estimators.base import LogWeightELBO, Run, latent_sites
from ppl_vae.estimators.pathwise import Pathwise, PathwiseKL
from ppl_vae.estimators.requirements import require_reparameterized
from ppl_vae.traces import sum_density


class _Trace(LogWeightELBO):
    """``Trace_ELBO`` on draws with a gradient."""

    def objective(self, model: Program, guide: Program, batch: tuple[Any, ...]) -> tuple[Tensor, Tensor]:
        """E[log w]."""
        value = self._run(model, guide, batch).log_weights.mean(0)
        return value, value

    def _run(self, model: Program, guide: Program, batch: tuple[Any, ...]) -> Run:
        return self.run(model, guide, batch, check=lambda trace: require_reparameterized(trace, "Trace_ELBO"))


class _MeanField(_Trace):
    """``TraceMeanField_ELBO``: each site's divergence from the prior in closed form where it has one."""

    def objective(self, model: Program, guide: Program, batch: tuple[Any, ...]) -> tuple[Tensor, Tensor]:
        """E[log p(x | z)] - KL(q || p)."""
        run = self._run(model, guide, batch)
        nesting = max(1, int(self.max_plate_nesting))
        value = sum_density(
            [site for site in _sites(run.model) if site["is_observed"]], nesting, 0 * run.joint.detach()
        )
        drawn = []
        for site in latent_sites(run.guide):
            prior = run.model.nodes[site["name"]]["fn"]
            try:
                divergence = scale_and_mask(kl_divergence(site["fn"], prior), 1.0, site["mask"])
            except NotImplementedError:
                drawn.append(site["name"])
                continue
            value = value - self._spread(divergence, value)
        for sign, trace in ((1, run.model), (-1, run.guide)):
            left = [site for site in _sites(trace) if site["name"] in drawn]
            value = value + sign * sum_density(left, nesting, torch.zeros_like(value))
        value = value.mean(0)
        return value, value

    def _spread(self, divergence: Tensor, like: Tensor) -> Tensor:
        extra = divergence.dim() - int(max(1, self.max_plate_nesting)) - (self.num_particles > 1)
        return divergence.flatten(-1 - extra).sum(-1) if extra > 0 else divergence.expand(like.shape)


def tensor_only(elbo: ELBO) -> LogWeightELBO | None:
    """The same bound and gradient as one of Pyro's ELBOs, of tensors alone; None where there is none."""
    if isinstance(elbo, LogWeightELBO):
        return elbo
    made = {Trace_ELBO: _Trace, Pathwise: _Trace, TraceMeanField_ELBO: _MeanField, PathwiseKL: _MeanField}
    if type(elbo) not in made:
        return None
    return made[type(elbo)](elbo.num_particles)


def _sites(trace: Any) -> list[dict[str, Any]]:
    return [site for site in trace.nodes.values() if site["type"] == "sample"]
