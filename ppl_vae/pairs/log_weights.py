"""The one quantity: log w = log p(x, z) - log q(z | x) with z drawn from q, per particle and unit, in nats.

A unit is a data point, or the whole data set where its points share a latent (:mod:`ppl_vae.pairs.units`). Pyro's own
helpers sum log w over the data; here the data axis is kept.
"""

import torch
from torch import Tensor

from ppl_vae.pairs.arguments import Data
from ppl_vae.pairs.entrance import runs_a_pair
from ppl_vae.pairs.modules import Program
from ppl_vae.pairs.pair import Pair
from ppl_vae.pairs.restore import seeded


@runs_a_pair
def log_weights(
    model: Program, guide: Program, data: Data, *, particles: int = 1, plate: str | None = None, seed: int | None = None
) -> Tensor:
    """Draws z from the guide and returns the log-weights log p(x, z) - log q(z | x).

    They are differentiable as Pyro's own traces are.

    The pair is run on one chunk of data points and particles after the other, so the memory stays bounded (without
    gradients) whatever the sizes. ``poutine.mask`` is honoured, ``poutine.scale`` is not: weights are densities.

    Args:
        model: any Pyro program.
        guide: its guide, called with the same arguments.
        data: a tensor, a tuple of tensors (one row a data point) or a DataLoader: the arguments of both.
        particles: draws of z for each data point.
        plate: the name of the plate that holds the data, where the programs leave it open.
        seed: of the random numbers; None takes them as they come.

    Returns:
        Weights in nats, where the data are: shape (particles, batch), a weight for each data point, or (particles, 1)
        where all the data share a latent, one outside the plate that holds them.

    Raises:
        InputError: where model and guide are no pair (latents that differ in name, kind, shape or support; a guide that
            observes), where the data have NaN or are outside the likelihood's support: the words are those of
            :func:`ppl_vae.check`; and where a plate subsamples, or it can't be told which one holds the data.

    Examples:
        >>> import torch
        >>> from ppl_vae import log_weights
        >>> from ppl_vae.guides import Amortized, Diagonal
        >>> from ppl_vae.models import VAE
        >>> x = torch.bernoulli(torch.full((5, 64), 0.3))
        >>> log_weights(VAE(64, 2), Amortized(Diagonal(2), 64), x, particles=10).shape
        torch.Size([10, 5])
    """
    pair = Pair(model, guide, data, plate=plate)
    pair.require_all("log-weights")
    with seeded(seed):
        return torch.cat([draws.log_weights for draws in pair.chunks(particles)], 1).to(pair.batch[0].device)
