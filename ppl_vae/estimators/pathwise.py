"""Gradients through the draws: z = g(eps; phi), so that d/dphi E[f(z)] = E[f'(z) dg/dphi]."""

import math
from functools import partial
from typing import Any

import torch
from pyro.infer import Trace_ELBO, TraceMeanField_ELBO
from torch import Tensor

from ppl_vae.errors import InputError
from ppl_vae.estimators.base import LogWeightELBO, Run, detached, fresh, redrawn
from ppl_vae.estimators.requirements import require_reparameterized
from ppl_vae.pairs.modules import Program
from ppl_vae.pairs.traces import latent_sites, random_sites


class _Checked:
    """Pyro's class as it is, except that it refuses a guide without the pathwise gradient."""

    def _get_trace(self, model: Program, guide: Program, args: Any, kwargs: Any) -> Any:
        model_trace, guide_trace = super()._get_trace(model, guide, args, kwargs)  # type: ignore[misc]
        require_reparameterized(guide_trace, type(self).__name__)
        return model_trace, guide_trace


class Pathwise(_Checked, Trace_ELBO):
    """Pyro's ``Trace_ELBO``, which refuses a guide that is not reparameterized (Kingma & Welling 2014).

    Examples:
        >>> import torch
        >>> from ppl_vae import fit
        >>> from ppl_vae.estimators import Pathwise
        >>> from ppl_vae.guides import Amortized, Diagonal
        >>> from ppl_vae.models import VAE
        >>> x = torch.bernoulli(torch.full((20, 64), 0.3))
        >>> pair = VAE(64, 2), Amortized(Diagonal(2), 64)
        >>> fit(*pair, x, elbo=Pathwise(num_particles=5), epochs=1, progress=False).is_bound
        True
    """


class PathwiseKL(_Checked, TraceMeanField_ELBO):
    """Pyro's ``TraceMeanField_ELBO``, for a reparameterized guide alone: the KL in closed form.

    Kingma & Welling 2014, appendix B.

    Examples:
        >>> import torch
        >>> from ppl_vae import fit
        >>> from ppl_vae.estimators import PathwiseKL
        >>> from ppl_vae.guides import Amortized, Diagonal
        >>> from ppl_vae.models import VAE
        >>> x = torch.bernoulli(torch.full((20, 64), 0.3))
        >>> pair = VAE(64, 2), Amortized(Diagonal(2), 64)
        >>> fit(*pair, x, elbo=PathwiseKL(num_particles=5), epochs=1, progress=False).is_bound
        True
    """


class StickingTheLanding(LogWeightELBO):
    """The pathwise gradient without the score of q, whose mean is zero (Roeder, Wu & Duvenaud 2017).

    No variance is left at the exact posterior.

    Examples:
        >>> import torch
        >>> from ppl_vae import fit
        >>> from ppl_vae.estimators import StickingTheLanding
        >>> from ppl_vae.guides import Amortized, Diagonal
        >>> from ppl_vae.models import VAE
        >>> x = torch.bernoulli(torch.full((20, 64), 0.3))
        >>> pair = VAE(64, 2), Amortized(Diagonal(2), 64)
        >>> fit(*pair, x, elbo=StickingTheLanding(num_particles=5), epochs=1, progress=False).is_bound
        True
    """

    takes_weights = True

    def objective(self, model: Program, guide: Program, batch: tuple[Any, ...]) -> tuple[Tensor, Tensor]:
        """Returns E[log w] and its surrogate: adding log q at the draws held constant takes the score out."""
        check = partial(require_reparameterized, estimator="StickingTheLanding")
        run = self.run(model, guide, batch, draw=fresh, check=check)
        value = run.log_weights.mean(0)
        # log q(z) depends on phi through z, which is wanted, and directly: that part is the score, of mean zero but not
        # of variance zero. Log q at detached draws has the score alone as its gradient; added to -log q, it cancels it.
        weighed = run.weighed
        path = value if weighed is run else weighed.log_weights.mean(0)
        return value, path + _score(run, batch).mean(0)


class IWAE(LogWeightELBO):
    """The importance-weighted bound E[log mean_k w_k], pathwise (Burda, Grosse & Salakhutdinov 2016, eq. 14).

    Examples:
        >>> import torch
        >>> from ppl_vae import fit
        >>> from ppl_vae.estimators import IWAE
        >>> from ppl_vae.guides import Amortized, Diagonal
        >>> from ppl_vae.models import VAE
        >>> x = torch.bernoulli(torch.full((20, 64), 0.3))
        >>> pair = VAE(64, 2), Amortized(Diagonal(2), 64)
        >>> fit(*pair, x, elbo=IWAE(num_particles=5), epochs=1, progress=False).is_bound
        True
    """

    def objective(self, model: Program, guide: Program, batch: tuple[Any, ...]) -> tuple[Tensor, Tensor]:
        """Returns the bound over the particles of each data point, which is its own surrogate."""
        run = self.run(model, guide, batch, check=partial(require_reparameterized, estimator="IWAE"))
        value = log_mean(run.log_weights)
        return value, value


class DReG(LogWeightELBO):
    """IWAE's bound with the score of q reparameterized once more (Tucker, Lawson, Gu & Maddison 2019, eq. 8).

    The guide's gradient is sum_k v_k^2 (d log w_k / d z_k) (d z_k / d phi) with the normalized weights v; the model's
    is that of :class:`IWAE`. Its signal-to-noise ratio grows with the particles, where IWAE's falls.

    Examples:
        >>> import torch
        >>> from ppl_vae import fit
        >>> from ppl_vae.estimators import DReG
        >>> from ppl_vae.guides import Amortized, Diagonal
        >>> from ppl_vae.models import VAE
        >>> x = torch.bernoulli(torch.full((20, 64), 0.3))
        >>> pair = VAE(64, 2), Amortized(Diagonal(2), 64)
        >>> fit(*pair, x, elbo=DReG(num_particles=5), epochs=1, progress=False).is_bound
        True
    """

    def objective(self, model: Program, guide: Program, batch: tuple[Any, ...]) -> tuple[Tensor, Tensor]:
        """Returns the bound and its surrogate; InputError for a guide with more than one latent site."""
        share: list[Tensor] = []

        def through(site: dict[str, Any]) -> Tensor:
            value = fresh(site)
            if value.requires_grad:
                value.register_hook(lambda grad: grad * share[0].reshape(*share[0].shape, *(1,) * _event(site)))
            return value

        def check(trace: Any) -> None:
            require_reparameterized(trace, "DReG")
            if len(latent_sites(trace)) > 1:
                names = [site["name"] for site in latent_sites(trace)]
                raise InputError(f"DReG is for one latent site, the guide has {names}: take IWAE")

        run = self.run(model, guide, batch, draw=through, check=check)
        weights = run.log_weights
        share.append(weights.detach().softmax(0))
        if latent_sites(run.guide)[0]["value"].dim() == share[0].dim() + _event(latent_sites(run.guide)[0]) - 1:
            share[0] = share[0][0]  # a single particle has no dimension of its own
        path = weights + _score(run, batch)
        return log_mean(weights), (weights.detach().softmax(0) * path).sum(0)


def log_mean(log_weights: Tensor) -> Tensor:
    """Returns log mean_k w_k, shape (batch,)."""
    return log_weights.logsumexp(0) - math.log(len(log_weights))


def _event(site: dict[str, Any]) -> int:
    return len(site["fn"].event_shape)


def _score(run: Run, batch: tuple[Any, ...]) -> Tensor:
    """Returns log q at the draws held constant, minus its own value: zero, with the score as its gradient.

    It has the weights of the objective.
    """
    sites = random_sites(redrawn(run.guide, detached))
    sites = sites if run.weighing is None else run.weighing.sites(sites)
    log_q = run.unit.sum(sites, run.unit.zeros(batch, len(run.joint)))
    return log_q - log_q.detach() if log_q.requires_grad else torch.zeros_like(log_q)
