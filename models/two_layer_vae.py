"""A VAE with two stochastic layers: a model that writes its own forward."""

import pyro
import pyro.distributions as dist
from torch import Tensor, nn
from torch.nn.functional import softplus

from ppl_vae.programs import Distribution, LatentVariableModel


class TwoLayerVAE(LatentVariableModel):
    """A VAE with two stochastic layers, z2 above z1 (Burda et al. 2015, section 5).

    z2 ~ N(0, I), z1 ~ N(mu(z2), sigma(z2)^2), x ~ Bernoulli(decoder(z1)).

    Args:
        observed_dim: the number of pixels.
        latent_dim: the width of z2, the upper layer.
        middle_dim: the width of z1.
        widths: the widths of the two layers of tanh units between z1 and x, and between z2 and z1.

    Examples:
        >>> import torch
        >>> from ppl_vae import log_weights
        >>> from ppl_vae.guides import TwoLayer
        >>> from ppl_vae.models import TwoLayerVAE
        >>> x = torch.bernoulli(torch.full((5, 64), 0.3))
        >>> log_weights(TwoLayerVAE(64, latent_dim=2), TwoLayer(64, latent_dim=2), x, particles=10).shape
        torch.Size([10, 5])
    """

    def __init__(
        self, observed_dim: int, latent_dim: int, middle_dim: int = 100, widths: tuple[int, int] = (200, 100)
    ) -> None:
        from torchvision.ops import MLP

        super().__init__(latent_dim)
        lower, upper = widths
        self.decode_upper = MLP(latent_dim, [upper, upper, 2 * middle_dim], activation_layer=nn.Tanh)
        self.decoder = MLP(middle_dim, [lower, lower, observed_dim], activation_layer=nn.Tanh)

    def middle(self, upper: Tensor) -> Distribution:
        """The density p(z1 | z2), event shape (middle_dim,)."""
        loc, raw = self.decode_upper(upper).chunk(2, -1)
        return dist.Normal(loc, softplus(raw) + 1e-6).to_event(1)

    def likelihood(self, z: Tensor, *given: Tensor) -> Distribution:
        """The likelihood p(x | z1), event shape (observed_dim,)."""
        return dist.Bernoulli(logits=self.decoder(z)).to_event(1)

    def forward(self, x: Tensor, *given: Tensor) -> Tensor:
        """Samples z2, then z1, and observes x, in the plate "data"."""
        with pyro.plate("data", len(x)):
            upper = pyro.sample("z2", self.prior())
            middle = pyro.sample("z1", self.middle(upper))
            return pyro.sample("x", self.likelihood(middle), obs=x)

    def generate(self, count: int, *given: Tensor) -> tuple[Tensor, Distribution]:
        """Draws z1 of shape (count, middle_dim) through z2; returns it with p(x | z1)."""
        middle = self.middle(self.prior()((count,)))()
        return middle, self.likelihood(middle)
