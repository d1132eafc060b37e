"""The pair whose gradient variances are known: the cost (z - k)^2 under z ~ N(mu, sigma^2), with k = 0 and mu = d.

The gradient of E[(z - k)^2] for mu is 2 d. Its variance (in the setting of Mohamed, Rosca, Figurnov & Mnih 2020,
section 3) is d^4 / sigma^2 + 14 d^2 + 15 sigma^2 by the score function, and 4 sigma^2 by the path.
"""

import pyro
import pyro.distributions as dist
import torch
from pyro.nn import PyroModule
from torch import Tensor, nn

from ppl_vae.programs import FamilyGuide


class QuadraticGuide(FamilyGuide):
    """The guide z ~ N(mu, sigma^2), whose only parameter is mu.

    Args:
        distance: mu - k.
        sigma: the standard deviation.
        reparameterized: False for the score function in Pyro's ELBOs.
    """

    def __init__(self, distance: float, sigma: float = 1.0, reparameterized: bool = True) -> None:
        super().__init__()
        self.reparameterized = reparameterized
        self.loc = nn.Linear(1, 1, bias=False)  # of x = 1: a linear layer has gradients draw by draw
        nn.init.constant_(self.loc.weight, distance)
        self.family = _Normal(sigma)

    def params(self, x: Tensor, *given: Tensor) -> Tensor:
        """Returns mu, shape (batch, 1)."""
        return self.loc(x)


class QuadraticCost(PyroModule):
    """A model with log w = -(z - k)^2: its prior is q itself, which cancels, and the cost is a factor.

    Args:
        guide: whose q it is.
        held: the prior is a constant copy of q, as the score function needs it; else it moves with q, and the gradient
            through the draws of Pyro's ``Trace_ELBO`` is the cost's alone.
    """

    def __init__(self, guide: QuadraticGuide, held: bool) -> None:
        super().__init__()
        self.held = held
        self._of = [guide]  # in a list: its parameter stays the guide's alone

    def forward(self, x: Tensor) -> None:
        """Samples one z for each row of x, which is 1."""
        (guide,) = self._of
        loc = guide.loc(x)
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", guide.family(loc.detach() if self.held else loc))
            pyro.factor("cost", -z.square().sum(-1))


def quadratic(distance: float, sigma: float = 1.0, held: bool = True) -> tuple[QuadraticCost, QuadraticGuide, Tensor]:
    """Makes the model, its guide and a batch."""
    guide = QuadraticGuide(distance, sigma)
    return QuadraticCost(guide, held), guide, torch.ones(1, 1)


def known_variances(distance: float, sigma: float = 1.0) -> dict[str, float]:
    """Returns the two variances in closed form."""
    score = distance**4 / sigma**2 + 14 * distance**2 + 15 * sigma**2
    return {"score function": score, "pathwise": 4 * sigma**2}


class _Normal(nn.Module):
    num_params = 1

    def __init__(self, sigma: float) -> None:
        super().__init__()
        self.sigma = sigma

    def forward(self, params: Tensor) -> dist.Independent:
        return dist.Normal(params, self.sigma).to_event(1)
