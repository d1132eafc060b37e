"""Parameters from an encoder: q(z | x) = family(encoder(x))."""

from torch import Tensor, nn

from ppl_vae.errors import InputError
from ppl_vae.guides.families import Family
from ppl_vae.networks import JointMLP
from ppl_vae.programs import FamilyGuide


class Amortized(FamilyGuide):
    """A guide whose parameters an encoder network computes from x: q(z | x) = family(encoder(x)).

    Args:
        family: the family that the encoder parametrizes.
        observed_dim: the number of pixels of one data point; needed for the default encoder only.
        hidden: the widths of the default encoder's hidden layers.
        encoder: any network that maps (batch, ...) to (batch, family.num_params); an MLP by default.
        given_dim: the width of what a conditional model is given, 0 for another; the encoder gets it behind x.
        reparameterized: False takes the gradient off the draws, so that Pyro's ELBOs take the score function.

    Raises:
        InputError: without an encoder and without observed_dim; in use, if the encoder's output has a wrong shape.

    Examples:
        >>> import torch
        >>> from ppl_vae.guides import Amortized, Full
        >>> guide = Amortized(Full(2), observed_dim=64, hidden=(32,))
        >>> guide.posterior(torch.ones(5, 64)).batch_shape
        torch.Size([5])
        >>> convolutions = torch.nn.Sequential(
        ...     torch.nn.Unflatten(1, (1, 8, 8)),
        ...     torch.nn.Conv2d(1, 4, 3),
        ...     torch.nn.Flatten(),
        ...     torch.nn.Linear(144, Full(2).num_params),
        ... )
        >>> Amortized(Full(2), encoder=convolutions)(torch.ones(5, 64)).shape
        torch.Size([5, 2])
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
        """Returns the encoder's output, shape (batch, num_params)."""
        return self.encoder(x, *given[: self.given_count])
