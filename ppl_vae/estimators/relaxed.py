"""Biased gradients through discrete draws: a relaxed value, or the gradient of one."""

import math
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Bernoulli, OneHotCategorical, kl_divergence

from ppl_vae.errors import InputError
from ppl_vae.estimators.base import LogWeightELBO
from ppl_vae.estimators.discrete import factor, model_at, one_site
from ppl_vae.pairs.modules import Program
from ppl_vae.pairs.traces import random_sites
from ppl_vae.programs import NotReparameterized


class GumbelSoftmax(LogWeightELBO):
    """Relaxed draws of bits or one-hot vectors; the gradient is biased (Jang, Gu & Poole 2017).

    Maddison, Mnih & Teh 2017 found the same distribution, and call it concrete.

    The model sees the relaxed value, the divergence from the prior is that of the discrete q in closed form; so what is
    reported while training is no bound (measure it by :func:`ppl_vae.bounds`), unless ``hard``.

    Args:
        num_particles: draws of z for each data point.
        temperature: towards 0 the bias goes, and the variance comes.
        hard: the model sees the discrete value, and the gradient is the relaxed one's.
        max_plate_nesting: see :class:`LogWeightELBO`.

    Examples:
        >>> import torch
        >>> from ppl_vae import fit
        >>> from ppl_vae.estimators import GumbelSoftmax
        >>> from ppl_vae.guides import Amortized, Bernoulli
        >>> from ppl_vae.models import BernoulliVAE
        >>> x = torch.bernoulli(torch.full((20, 64), 0.3))
        >>> pair = BernoulliVAE(64, 8), Amortized(Bernoulli(8), 64)
        >>> fit(*pair, x, elbo=GumbelSoftmax(temperature=0.5), epochs=1, progress=False).is_bound
        False
    """

    takes_weights = True
    draws_from_guide = False

    def __init__(
        self,
        num_particles: int | None = None,
        temperature: float = 0.5,
        hard: bool = False,
        max_plate_nesting: float = math.inf,
    ) -> None:
        super().__init__(num_particles, max_plate_nesting)
        if not temperature > 0:
            raise InputError(f"temperature is {temperature}; it must be above 0")
        self.temperature, self.hard, self.is_bound = temperature, hard, hard

    def objective(self, model: Program, guide: Program, batch: tuple[Any, ...]) -> tuple[Tensor, Tensor]:
        """Returns E[log p(x | relaxed z)] - KL(q || p), which is its own surrogate."""
        trace, count = self.propose(model, guide, batch), self.num_particles
        site = one_site(trace, type(self).__name__)
        base = factor(site)
        if not isinstance(base, Bernoulli | OneHotCategorical):
            raise InputError(
                f"{type(self).__name__} is for Bernoulli or one-hot categorical latents, site {site['name']!r} is a "
                f"{type(base).__name__}: take pathwise for a continuous latent, rloo for another discrete one"
            )
        model_trace, joint = model_at(self, model, trace, self.relaxed(base), batch, count)
        (prior,) = (candidate for candidate in random_sites(model_trace) if candidate["name"] == site["name"])
        prior_density = self.densities_of(prior, batch, count)
        divergence = _divergence(site["fn"], prior["fn"]).expand(joint.shape)
        value = (joint - prior_density - divergence).mean(0)
        if self.weights is None:
            return value, value
        return value, (joint - prior_density - self.weights.factor * divergence).mean(0)

    def densities_of(self, site: dict[str, Any], batch: tuple[Any, ...], particles: int) -> Tensor:
        """Returns the log-density of one site, shape (particles, batch)."""
        return site["fn"].log_prob(site["value"]).expand(particles, len(batch[0]))

    def relaxed(self, base: Bernoulli | OneHotCategorical) -> Tensor:
        """Draws z as the model shall see it."""
        noise = torch.rand_like(base.logits).clamp(1e-6, 1 - 1e-6)
        if isinstance(base, Bernoulli):
            perturbed = base.logits + noise.logit()
            soft, hard = torch.sigmoid(perturbed / self.temperature), (perturbed > 0).to(perturbed)
        else:
            perturbed = base.logits - torch.log(-torch.log(noise))
            soft = torch.softmax(perturbed / self.temperature, -1)
            hard = torch.zeros_like(soft).scatter(-1, perturbed.argmax(-1, keepdim=True), 1.0)
        return hard + soft - soft.detach() if self.hard else soft


class StraightThrough(GumbelSoftmax):
    """A discrete draw with the gradient of its mean, which is biased (Bengio, Léonard & Courville 2013).

    Examples:
        >>> import torch
        >>> from ppl_vae import fit
        >>> from ppl_vae.estimators import StraightThrough
        >>> from ppl_vae.guides import Amortized, Bernoulli
        >>> from ppl_vae.models import BernoulliVAE
        >>> x = torch.bernoulli(torch.full((20, 64), 0.3))
        >>> pair = BernoulliVAE(64, 8), Amortized(Bernoulli(8), 64)
        >>> fit(*pair, x, elbo=StraightThrough(), epochs=1, progress=False).is_bound
        True
    """

    def __init__(self, num_particles: int | None = None, max_plate_nesting: float = math.inf) -> None:
        super().__init__(num_particles, hard=True, max_plate_nesting=max_plate_nesting)

    def relaxed(self, base: Bernoulli | OneHotCategorical) -> Tensor:
        """Draws zeros and ones, with the gradient of the probabilities."""
        drawn = base.sample()
        return drawn + base.probs - base.probs.detach()


def _divergence(q: Any, p: Any) -> Tensor:
    """Returns KL(q || p), shape (..., batch); InputError where it has no closed form."""
    both = [fn.base if isinstance(fn, NotReparameterized) else fn for fn in (q, p)]
    try:
        return kl_divergence(*both)
    except NotImplementedError:
        names = [type(factor({"fn": fn})).__name__ for fn in both]
        raise InputError(
            f"the divergence of a {names[0]} from a {names[1]} has no closed form here: take rloo"
        ) from None
