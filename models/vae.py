"""The variational autoencoder's generative half."""

import math
from typing import Self

import pyro.distributions as dist
import torch
from torch import Tensor, nn

from ppl_vae.errors import InputError
from ppl_vae.models.gaussians import mean_and_spread
from ppl_vae.networks import JointMLP
from ppl_vae.programs import Distribution, LatentVariableModel

# Adam moves every parameter by about its learning rate in a step, and log sigma has the longest way to go: from 1, or
# from the spread of the data, to that of what the decoder leaves. In units of 10 it moves by 1% a step at 1e-3.
_LOG_SCALE_UNIT = 10.0


class VAE(LatentVariableModel):
    """The model of a variational autoencoder: z ~ N(0, I), x ~ p(x | decoder(z)) (Kingma & Welling 2014).

    Args:
        observed_dim: the number of pixels of one data point.
        latent_dim: the number of latents.
        likelihood: "bernoulli" (the decoder gives logits, x is 0 or 1) or "gaussian" (the decoder gives means).
        hidden: the widths of the default decoder's hidden layers.
        decoder: any network that maps (..., latent_dim) to (..., observed_dim); an MLP by default.
        scale: the Gaussian likelihood's standard deviation, one for all pixels; learned where None, from 1 or, after
            :meth:`initialize`, from the data's spread.

    Raises:
        InputError: for an unknown likelihood, or a scale that is not above 0.

    Examples:
        >>> import torch
        >>> from ppl_vae import fit
        >>> from ppl_vae.guides import Amortized, Diagonal
        >>> from ppl_vae.models import VAE
        >>> x = torch.bernoulli(torch.full((50, 64), 0.3))
        >>> model = VAE(observed_dim=64, latent_dim=2, hidden=(32,))
        >>> history = fit(model, Amortized(Diagonal(2), 64), x, epochs=1, progress=False)
        >>> z, images = model.generate(5)
        >>> images.mean.shape
        torch.Size([5, 64])
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
            raise InputError(f"likelihood is {likelihood!r}; a VAE has 'bernoulli' or 'gaussian'")
        if scale is not None and not scale > 0:
            raise InputError(f"scale is {scale}; a standard deviation is above 0")
        self.observation = likelihood
        self.decoder = decoder if decoder is not None else JointMLP(latent_dim, [*hidden, observed_dim])
        if likelihood == "gaussian":
            raw = torch.tensor(0.0 if scale is None else math.log(scale) / _LOG_SCALE_UNIT)
            self.scaled_log_scale = nn.Parameter(raw, requires_grad=scale is None)

    @property
    def scale(self) -> Tensor:
        """The standard deviation of the Gaussian likelihood, a scalar."""
        return (_LOG_SCALE_UNIT * self.scaled_log_scale).exp()

    def initialize(self, x: Tensor) -> Self:
        """Starts a Gaussian likelihood at the mean of the data, with their spread around it; returns self.

        The scale starts at the root mean square of x minus its mean, where it is learned, and the bias of the default
        decoder's last layer at the mean. A network of one's own keeps its parameters, as does a Bernoulli likelihood.

        Args:
            x: training data, shape (data, observed_dim).

        Raises:
            InputError: where all data points are equal, so that their density has no scale.
        """
        if self.observation != "gaussian":
            return self
        mean, spread = mean_and_spread(x)
        with torch.no_grad():
            if self.scaled_log_scale.requires_grad:
                self.scaled_log_scale.copy_(spread.log() / _LOG_SCALE_UNIT)
            if isinstance(self.decoder, JointMLP):
                self.decoder.output.bias.copy_(mean)
        return self

    def likelihood(self, z: Tensor, *given: Tensor) -> Distribution:
        """The likelihood p(x | z), event shape (observed_dim,); the decoder gets ``given`` behind z."""
        output = self.decoder(z, *given)
        if self.observation == "bernoulli":
            return dist.Bernoulli(logits=output).to_event(1)
        return dist.Normal(output, self.scale).to_event(1)
