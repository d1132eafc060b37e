"""The variational autoencoder's generative half."""

import pyro.distributions as dist
import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from ppl_vae.programs import Distribution, JointMLP, LatentVariableModel


class VAE(LatentVariableModel):
    """z ~ N(0, I), x ~ p(x | decoder(z)): the noise of the decoder is this last density (Kingma & Welling 2014).

    Args:
        observed_dim: the number of pixels of one data point.
        latent_dim: the number of latents.
        likelihood: "bernoulli" (the decoder gives logits, x is 0 or 1) or "gaussian" (the decoder gives means).
        hidden: the widths of the default decoder's hidden layers.
        decoder: any network that maps (..., latent_dim) to (..., observed_dim); an MLP by default.
        scale: the Gaussian likelihood's standard deviation, one for all pixels; learned where None.

    Raises:
        ValueError: for an unknown likelihood, or a scale that is not above 0.
    """

    def __init__(
        self,
        observed_dim: int,
        latent_dim: int,
        likelihood: str = "bernoulli",
        hidden: tuple[int, ...] = (400, 400),
        decoder: nn.Module | None = None,
        scale: float | None = None,
    ) -> None:
        super().__init__(latent_dim)
        if likelihood not in ("bernoulli", "gaussian"):
            raise ValueError(f"likelihood is {likelihood!r}; a VAE has 'bernoulli' or 'gaussian'")
        if scale is not None and not scale > 0:
            raise ValueError(f"scale is {scale}; a standard deviation is above 0")
        self.observation = likelihood
        self.decoder = decoder if decoder is not None else JointMLP(latent_dim, [*hidden, observed_dim])
        if likelihood == "gaussian":
            raw = torch.tensor(1.0 if scale is None else scale).expm1().log()
            self.raw_scale = nn.Parameter(raw, requires_grad=scale is None)

    def likelihood(self, z: Tensor, *given: Tensor) -> Distribution:
        """p(x | z), event shape (observed_dim,); the decoder gets ``given`` behind z."""
        output = self.decoder(z, *given)
        if self.observation == "bernoulli":
            return dist.Bernoulli(logits=output).to_event(1)
        return dist.Normal(output, softplus(self.raw_scale)).to_event(1)
