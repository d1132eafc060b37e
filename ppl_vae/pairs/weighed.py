"""Terms of the divergence with weights: log p(x | z) + sum_j w_j (log p(z_j) - log q(z_j | x)).

The weights are those of an objective, and none of a bound's: both are made of one run of a pair.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from pyro.distributions import TorchDistribution
from pyro.distributions.score_parts import ScoreParts
from pyro.poutine import Trace
from torch import Tensor
from torch.distributions import Independent, kl_divergence, register_kl

from ppl_vae.pairs.traces import Site, latent_sites
from ppl_vae.programs import NotReparameterized


@dataclass(frozen=True)
class Weighing:
    """The weights of the divergence at one step.

    Attributes:
        factor: of all latents, a scalar.
        gates: beside it, of the latents of some sites by name: one number for each dimension that can be told apart
            (:func:`dimensions`), or one for the whole site.
    """

    factor: Tensor
    gates: Mapping[str, Tensor]

    def sites(self, sites: list[Site]) -> list[Site]:
        """Copies latent sites of either program, with their log-densities weighted."""
        return [self._site(site) for site in sites]

    def trace(self, trace: Trace) -> Trace:
        """Copies a trace, with the log-densities of its latent sites weighted; they are yet to be computed."""
        weighed = trace.copy()
        for site in latent_sites(trace):
            weighed.nodes[site["name"]] = self._site(site)
        return weighed

    def _site(self, site: Site) -> Site:
        kept = {key: part for key, part in site.items() if "log_prob" not in key and key != "score_parts"}
        gate = self.gates.get(site["name"])
        dims = 0 if gate is None else gate.dim()
        return kept | {"fn": _Weighed(site["fn"], self.factor if gate is None else self.factor * gate, dims)}


def parted(fn: Any) -> tuple[Any, int]:
    """Returns the distribution of one dimension of a latent, and over how many axes such dimensions lie."""
    axes = 0
    while isinstance(fn, NotReparameterized | Independent):
        if isinstance(fn, NotReparameterized):
            fn = fn.base
        else:
            fn, axes = fn.base_dist, axes + fn.reinterpreted_batch_ndims
    return fn, axes


def dimensions(proposed: Site, prior: Site) -> tuple[int, ...]:
    """Returns the shape of the dimensions of a latent that can be told apart in both of its densities.

    Where one of them is no product over dimensions (a full covariance, a flow, a mixture) it is (), one for all.
    """
    (one, axes), (_, others) = parted(proposed["fn"]), parted(prior["fn"])
    return tuple(one.batch_shape[len(one.batch_shape) - axes :]) if axes == others else ()


def log_densities(site: Site, axes: int) -> Tensor:
    """Returns the log-density of each dimension of a latent, which lie over the last axes; masked ones are 0."""
    fn = parted(site["fn"])[0] if axes else site["fn"]
    log_prob, mask = fn.log_prob(site["value"], *site["args"], **site["kwargs"]), site["mask"]
    if mask is None or mask is True:
        return log_prob
    shown = torch.as_tensor(mask, device=log_prob.device)
    return torch.where(shown.reshape(*shown.shape, *[1] * axes), log_prob, log_prob.new_zeros(()))


class _Weighed(TorchDistribution):
    """A distribution whose log-density counts so many times; draws, and the score of a draw, are as they were.

    Args:
        base: the distribution.
        weight: a scalar, or one number for each dimension.
        axes: over how many axes the dimensions with a weight of their own lie.
    """

    arg_constraints: ClassVar[dict[str, Any]] = {}

    def __init__(self, base: Any, weight: Tensor, axes: int) -> None:
        self.base, self.weight, self.axes = base, weight, axes
        super().__init__(base.batch_shape, base.event_shape, validate_args=False)

    @property
    def has_rsample(self) -> bool:
        """Whether draws have a gradient."""
        return bool(self.base.has_rsample)

    @property
    def support(self) -> Any:
        """Where the density is above 0."""
        return self.base.support

    def log_prob(self, value: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Returns the weighted log-density."""
        if not self.axes:
            return self.base.log_prob(value, *args, **kwargs) * self.weight
        return self.summed(parted(self.base)[0].log_prob(value))

    def score_parts(self, value: Tensor, *args: Any, **kwargs: Any) -> ScoreParts:
        """Returns what Pyro's estimators take: the weight is on what is differentiated, not on the score."""
        parts, log_prob = self.base.score_parts(value, *args, **kwargs), self.log_prob(value, *args, **kwargs)
        return ScoreParts(log_prob, parts.score_function, log_prob if self.has_rsample else parts.entropy_term)

    def summed(self, values: Tensor) -> Tensor:
        """Sums a number of each dimension, weighted."""
        return (values * self.weight).sum(tuple(range(-self.axes, 0)))


@register_kl(_Weighed, _Weighed)
def _weighed_divergence(q: _Weighed, p: _Weighed) -> Tensor:
    if not q.axes:
        return kl_divergence(q.base, p.base) * q.weight
    return q.summed(kl_divergence(parted(q.base)[0], parted(p.base)[0]))
