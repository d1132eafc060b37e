"""The guide of the VAE with two stochastic layers."""

import pyro
import pyro.distributions as dist
from torch import Tensor, nn

from ppl_vae.guides.families import scale_of
from ppl_vae.programs import Guide


class TwoLayer(Guide):
    """The guide q(z1 | x) q(z2 | z1) of the two-layer VAE, both diagonal Gaussians (Burda et al. 2015, section 5).

    Args:
        observed_dim: the number of pixels.
        latent_dim: the width of z2, the upper layer.
        middle_dim: the width of z1.
        widths: the widths of the two layers of tanh units below z1, and below z2.

    Examples:
        >>> import torch
        >>> from ppl_vae.guides import TwoLayer
        >>> TwoLayer(observed_dim=64, latent_dim=2)(torch.ones(5, 64)).shape  # z2; z1 has 100 numbers
        torch.Size([5, 2])
    """

    def __init__(
        self, observed_dim: int, latent_dim: int, middle_dim: int = 100, widths: tuple[int, int] = (200, 100)
    ) -> None:
        from torchvision.ops import MLP

        super().__init__()
        lower, upper = widths
        self.encode_middle = MLP(observed_dim, [lower, lower, 2 * middle_dim], activation_layer=nn.Tanh)
        self.encode_upper = MLP(middle_dim, [upper, upper, 2 * latent_dim], activation_layer=nn.Tanh)

    def forward(self, x: Tensor, *given: Tensor) -> Tensor:
        """Samples z1 given x, then z2 given z1."""
        with pyro.plate("data", len(x)):
            loc, raw = self.encode_middle(x).chunk(2, -1)
            middle = pyro.sample("z1", dist.Normal(loc, scale_of(raw)).to_event(1))
            loc, raw = self.encode_upper(middle).chunk(2, -1)
            return pyro.sample("z2", dist.Normal(loc, scale_of(raw)).to_event(1))
