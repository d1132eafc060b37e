"""The families of q for discrete latents: bits and one-hot vectors, whose free numbers are logits.

None of them is reparameterized, so Pyro's ELBOs take the score function.
"""

import pyro.distributions as dist
from torch import Tensor

from ppl_vae.guides.families import Family
from ppl_vae.programs import Distribution


class Bernoulli(Family):
    """Independent bits, for models with such latents; not reparameterized: Pyro takes the score function.

    Examples:
        >>> import torch
        >>> from ppl_vae.guides import Bernoulli
        >>> family = Bernoulli(latent_dim=2)
        >>> q = family(torch.zeros(5, family.num_params))
        >>> family.num_params, q.batch_shape, q.event_shape
        (2, torch.Size([5]), torch.Size([2]))
    """

    discrete = True

    def __init__(self, latent_dim: int) -> None:
        super().__init__(latent_dim, latent_dim)

    def forward(self, params: Tensor) -> Distribution:
        """Takes params as logits."""
        return dist.Bernoulli(logits=params).to_event(1)


class Categorical(Family):
    """Independent one-hot vectors, event shape (latent_dim, categories); not reparameterized.

    Args:
        latent_dim: the number of vectors.
        categories: the length of each.

    Examples:
        >>> import torch
        >>> from ppl_vae.guides import Categorical
        >>> family = Categorical(latent_dim=2, categories=4)
        >>> family(torch.zeros(5, family.num_params)).sample().shape
        torch.Size([5, 2, 4])
    """

    discrete = True

    def __init__(self, latent_dim: int, categories: int = 10) -> None:
        super().__init__(latent_dim, latent_dim * categories)
        self.categories = categories

    def forward(self, params: Tensor) -> Distribution:
        """Takes params as logits."""
        logits = params.unflatten(-1, (self.latent_dim, self.categories))
        return dist.OneHotCategorical(logits=logits).to_event(1)


class OneHot(Family):
    """A single one-hot vector, event shape (latent_dim,): which component of a mixture; not reparameterized.

    With ``guide.enumerates = True`` the ELBO is an exact sum over z under ``TraceEnum_ELBO``; every other one draws.

    Examples:
        >>> import torch
        >>> from ppl_vae.guides import OneHot
        >>> family = OneHot(latent_dim=2)
        >>> q = family(torch.zeros(5, family.num_params))
        >>> family.num_params, q.batch_shape, q.event_shape
        (2, torch.Size([5]), torch.Size([2]))
    """

    discrete = True

    def __init__(self, latent_dim: int) -> None:
        super().__init__(latent_dim, latent_dim)

    def forward(self, params: Tensor) -> Distribution:
        """Takes params as logits."""
        return dist.OneHotCategorical(logits=params)
