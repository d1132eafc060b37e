"""Parameters from an encoder: q(z | x) = family(encoder(x))."""

from torch import Tensor, nn
from torchvision.ops import MLP

from ppl_vae.guides.families import Family
from ppl_vae.programs import Distribution, Guide


class Amortized(Guide):
    """One network gives the parameters of every data point's q, at once for all particles.

    Args:
        family: the family that the encoder parametrizes.
        observed_dim: the number of pixels of one data point; needed for the default encoder only.
        hidden: the widths of the default encoder's hidden layers.
        encoder: any network that maps (batch, ...) to (batch, family.num_params); an MLP by default.

    Raises:
        ValueError: without an encoder and without observed_dim; in use, if the encoder's output has a wrong shape.
    """

    def __init__(
        self,
        family: Family,
        observed_dim: int | None = None,
        hidden: tuple[int, ...] = (400, 400),
        encoder: nn.Module | None = None,
    ) -> None:
        super().__init__()
        if encoder is None:
            if observed_dim is None:
                raise ValueError("Amortized got neither an encoder nor observed_dim: give one of the two")
            encoder = MLP(observed_dim, [*hidden, family.num_params])
        self.encoder = encoder
        self.family = family

    def posterior(self, x: Tensor, *given: Tensor) -> Distribution:
        """q(z | x): batch shape (batch,), event shape (latent_dim,); ``given`` goes to the encoder behind x."""
        params = self.encoder(x, *given)
        needed = self.family.num_params
        if params.shape != (len(x), needed):
            raise ValueError(
                f"for {len(x)} data points the encoder gives shape {tuple(params.shape)}, but "
                f"{type(self.family).__name__} with {self.family.latent_dim} latents needs {(len(x), needed)}: end it "
                f"in {needed} outputs"
            )
        return self.family(params)
