"""A VAE of x given y, its label or whatever else is known of it."""

from torch import nn

from ppl_vae.models.vae import VAE
from ppl_vae.networks import JointMLP


class ConditionalVAE(VAE):
    """A VAE of x given y: z ~ N(0, I), x ~ p(x | decoder(z, y)) (Sohn et al. 2015).

    It is called as ``model(x, y)``, with y of shape (batch, given_dim), a one-hot label say.

    Args:
        observed_dim: the number of pixels of one data point.
        latent_dim: the number of latents.
        given_dim: the width of y, the number of classes for a one-hot label.
        likelihood: see :class:`VAE`.
        hidden: likewise.
        decoder: any network that maps (..., latent_dim) and (batch, given_dim) to (..., observed_dim).
        scale: see :class:`VAE`.

    Examples:
        >>> import torch
        >>> from ppl_vae.models import ConditionalVAE
        >>> model = ConditionalVAE(observed_dim=64, latent_dim=2, given_dim=10)
        >>> labels = torch.eye(10)[:5]
        >>> z, images = model.generate(5, labels)
        >>> images.mean.shape
        torch.Size([5, 64])
    """

    given_count = 1

    def __init__(
        self,
        observed_dim: int,
        latent_dim: int,
        given_dim: int,
        likelihood: str = "bernoulli",
        hidden: tuple[int, ...] = (400, 400),
        decoder: nn.Module | None = None,
        scale: float | None = None,
    ) -> None:
        decoder = decoder if decoder is not None else JointMLP(latent_dim + given_dim, [*hidden, observed_dim])
        super().__init__(observed_dim, latent_dim, likelihood, hidden, decoder, scale)
        self.given_dim = given_dim
