"""Parameters of its own for each data point: the q_i of classical stochastic variational inference."""

from torch import Tensor, nn

from ppl_vae.guides.families import Family
from ppl_vae.networks import RowTable
from ppl_vae.programs import FamilyGuide, last_index


class PerDatapoint(FamilyGuide):
    """A guide with parameters of its own for each data point: q_i(z) = family(table[i]) (Hoffman et al. 2013).

    There is no network, so no amortization gap.

    The last argument of model and guide is the index i of each row, of type long: ``guide(x, index)``. Any
    optimizer trains it; :func:`ppl_vae.fit` steps the rows of the batch alone, so that a step costs the batch and not
    the table.

    Args:
        family: the family that each row of the table parametrizes.
        count: the number of data points.
        reparameterized: False takes the gradient off the draws, so that Pyro's ELBOs take the score function.

    Raises:
        InputError: in use, for a missing index or one outside the table.

    Examples:
        >>> import torch
        >>> from ppl_vae import fit
        >>> from ppl_vae.guides import Diagonal, PerDatapoint
        >>> from ppl_vae.models import VAE
        >>> x, index = torch.bernoulli(torch.full((50, 64), 0.3)), torch.arange(50)
        >>> guide = PerDatapoint(Diagonal(2), count=50)
        >>> history = fit(VAE(64, 2, hidden=(32,)), guide, (x, index), epochs=1, progress=False)
        >>> guide(x[:5], index[:5]).shape
        torch.Size([5, 2])
    """

    def __init__(self, family: Family, count: int, reparameterized: bool = True) -> None:
        super().__init__()
        self.reparameterized = reparameterized
        self.family = family
        self.table = RowTable(count, family.num_params)
        nn.init.normal_(self.table.weight, std=0.01)

    def params(self, x: Tensor, *given: Tensor) -> Tensor:
        """Returns the rows of the table at the index, shape (batch, num_params)."""
        return self.table(last_index(self, x, given))
