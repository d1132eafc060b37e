"""What weighs the divergence in a training's objective: a factor on all of it, and bits that cost nothing."""

from collections.abc import Iterable

import torch
from pyro.poutine import Trace
from torch import Tensor

from ppl_vae.errors import InputError
from ppl_vae.pairs.traces import is_auxiliary, latent_sites
from ppl_vae.pairs.units import unit_of
from ppl_vae.pairs.weighed import Weighing, dimensions, log_densities

# How much of the mean rate stays at each step. With 0.9, by the time that the mean has seen how far a rate has been
# pulled down, a fast training under a large weight has pulled it on to nothing.
_DECAY = 0.5


class Weights:
    """The weights of the divergence in an objective that goes from step to step.

    Free bits (Kingma et al. 2016, eq. 15) put max(free, KL_j) in the place of each latent's mean KL_j: its gradient is
    that of KL_j, or zero while KL_j is below. Whether it is below is told by a mean over the steps before, and not by
    the batch at hand, as in the paper: a step is then a sum over its rows, which processes can share, and neither a
    short last batch nor one draw for each row decides by its noise.

    Args:
        factor: the weight of all latents, a scalar that somebody else sets before each step.
        free: the nats of each latent's dimension that cost nothing.
        given: what was asked for, in words.

    Attributes:
        factor: the weight of all latents.
        free: the nats that cost nothing.
        given: what was asked for, in words.
        rates: of each latent site the mean of log q(z_j | x) - log p(z_j) over the latest steps, from 0 on.
    """

    def __init__(self, factor: Tensor, free: float, given: str) -> None:
        self.factor, self.free, self.given = factor, free, given
        self.rates: dict[str, Tensor] = {}

    def meet(self, guide_trace: Trace, model_trace: Trace, rows: int) -> None:
        """Makes room for the rates of a pair's latents, by a run of it on so many rows.

        Raises:
            InputError: where its latents have no mean rate over the data.
        """
        if not self.free:
            return
        latents = latent_sites(guide_trace)
        for site in (site for site in latents if is_auxiliary(site)):
            raise InputError(
                f"{self.given}, but the guide draws its latents by way of {site['name']!r}, which the model lacks: "
                "take a guide that draws each latent itself, or kl_weight"
            )
        if unit_of(guide_trace, model_trace, rows).whole:
            raise InputError(
                f"{self.given}, which is for the latents of each data point, but all the data share one of "
                f"{[site['name'] for site in latents]}: take kl_weight"
            )
        for site in latents:
            shape = dimensions(site, model_trace.nodes[site["name"]])
            like = log_densities(site, 0)
            self.rates[site["name"]] = torch.zeros(shape, dtype=like.dtype, device=like.device)

    @property
    def state(self) -> list[Tensor]:
        """What is remembered from step to step, means over rows."""
        return list(self.rates.values())

    def now(self) -> Weighing:
        """Returns the weights of this step."""
        return Weighing(self.factor, {name: (rate > self.free).to(rate.dtype) for name, rate in self.rates.items()})

    def learn(self, runs: Iterable[tuple[Trace, Trace]], draws: int) -> None:
        """Moves the rates towards those of this step: the traces of guide and model, and how many draws they hold."""
        runs = list(runs)
        for name, rate in self.rates.items():
            with torch.no_grad():
                total = sum(_rate(guide.nodes[name], model.nodes[name], rate.dim()) for guide, model in runs)
                rate.mul_(_DECAY).add_((1 - _DECAY) / draws * total)


def _rate(proposed: dict[str, object], prior: dict[str, object], axes: int) -> Tensor:
    """Returns log q - log p summed over all draws, of each dimension of a latent."""
    ratio = log_densities(proposed, axes) - log_densities(prior, axes)
    others = tuple(range(ratio.dim() - axes))
    return ratio.sum(others) if others else ratio
