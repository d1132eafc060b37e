"""Parameters from an encoder: q(z | x) = family(encoder(x))."""

from torch import Tensor, nn

from ppl_vae.errors import InputError
from ppl_vae.guides.families import Family
from ppl_vae.networks import JointMLP
from ppl_vae.programs import FamilyGuide


class Amortized(FamilyGuide):
    """One network gives the parameters of every data point's q, at once for all particles.

    Args:
        family: the family that the encoder parametrizes.
        observed_dim: the number of pixels of one data point; needed for the default encoder only.
        hidden: the widths of the default encoder's hidden layers.
        encoder: any network that maps (batch, ...) to (batch, family.num_params); an MLP by default.
        given_dim: the width of what a conditional model is given, 0 for another; the encoder gets it behind x.
        reparameterized: False takes the gradient off the draws, so that Pyro's ELBOs take the score function.

    Raises:
        InputError: without an encoder and without observed_dim; in use, if the encoder's output has a wrong shape.
    """

    def __init__(
        self,
        family: Family,
        observed_dim: int | None = None,
        hidden: tuple[int, ...] = (400, 400),
        encoder: nn.Module | None = None,
        given_dim: int = 0,
        reparameterized: bool = True,
    ) -> None:
        super().__init__()
        self.reparameterized = reparameterized
        if encoder is None:
            if observed_dim is None:
                raise InputError("Amortized got neither an encoder nor observed_dim: give one of the two")
            encoder = JointMLP(observed_dim + given_dim, [*hidden, family.num_params])
        self.encoder = encoder
        self.family = family
        self.given_count = int(given_dim > 0)

    def params(self, x: Tensor, *given: Tensor) -> Tensor:
        """The encoder's output, shape (batch, num_params)."""
        return self.encoder(x, *given[: self.given_count])
