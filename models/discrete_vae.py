"""VAEs whose latents are bits or one-hot vectors."""

import pyro.distributions as dist
import torch
from torch import Tensor

from ppl_vae.models.vae import VAE
from ppl_vae.networks import JointMLP
from ppl_vae.programs import Distribution


class BernoulliVAE(VAE):
    """A VAE whose latents are independent fair bits: z ~ Bernoulli(1/2), x ~ p(x | decoder(z)).

    The arguments are those of :class:`VAE`.

    Examples:
        >>> import torch
        >>> from ppl_vae import log_weights
        >>> from ppl_vae.guides import Amortized, Bernoulli
        >>> from ppl_vae.models import BernoulliVAE
        >>> x = torch.bernoulli(torch.full((5, 64), 0.3))
        >>> log_weights(BernoulliVAE(64, 8), Amortized(Bernoulli(8), 64), x, particles=10).shape
        torch.Size([10, 5])
    """

    def prior(self, *given: Tensor) -> Distribution:
        """The prior: independent fair coins, event shape (latent_dim,)."""
        return dist.Bernoulli(logits=self.prior_loc).to_event(1)


class CategoricalVAE(VAE):
    """A VAE whose latents are ``latent_dim`` one-hot vectors, uniform in the prior; x ~ p(x | decoder(z)).

    Args:
        observed_dim: the number of pixels of one data point.
        latent_dim: the number of vectors.
        categories: the length of each.
        likelihood: see :class:`VAE`.
        hidden: likewise.

    Examples:
        >>> from ppl_vae.models import CategoricalVAE
        >>> z, images = CategoricalVAE(observed_dim=64, latent_dim=2, categories=4).generate(5)
        >>> z.shape
        torch.Size([5, 2, 4])
    """

    def __init__(
        self,
        observed_dim: int,
        latent_dim: int,
        categories: int = 10,
        likelihood: str = "bernoulli",
        hidden: tuple[int, ...] = (400, 400),
    ) -> None:
        decoder = JointMLP(latent_dim * categories, [*hidden, observed_dim])
        super().__init__(observed_dim, latent_dim, likelihood, hidden, decoder)
        self.register_buffer("logits", torch.zeros(latent_dim, categories), persistent=False)

    def prior(self, *given: Tensor) -> Distribution:
        """The prior: independent uniform one-hot vectors, event shape (latent_dim, categories)."""
        return dist.OneHotCategorical(logits=self.logits).to_event(1)

    def likelihood(self, z: Tensor, *given: Tensor) -> Distribution:
        """The likelihood p(x | z) for z of shape (..., latent_dim, categories), event shape (observed_dim,)."""
        return super().likelihood(z.flatten(-2), *given)
