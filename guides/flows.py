"""Normalizing flows as families of q, by zuko: z = mu + sigma * f(eps; context), eps ~ N(0, I).

The source gives mu, sigma and the context; f's networks are shared by all data points. IAF and NSF run zuko's
autoregressive steps backwards: a draw and its density take one pass, the density of any other point latent_dim passes.
For MAF it is the other way round.
"""

from typing import ClassVar

import torch
import zuko
from pyro.contrib.zuko import ZukoToPyro
from pyro.distributions import is_validation_enabled
from torch import Tensor
from torch.distributions import AffineTransform, constraints
from zuko.distributions import DiagNormal, NormalizingFlow
from zuko.transforms import ComposedTransform

from ppl_vae.guides.families import Family, scale_of
from ppl_vae.programs import Distribution

torch.distributions.Distribution.set_default_validate_args(is_validation_enabled())  # zuko, imported, turns it off


class _Affine(AffineTransform):
    """A shift and a scale, with the event shape left alone (torch's spreads it over the batch of shifts)."""

    def forward_shape(self, shape: torch.Size) -> torch.Size:
        return shape

    def inverse_shape(self, shape: torch.Size) -> torch.Size:
        return shape


class _FlowDistribution(ZukoToPyro):
    """A zuko flow with the two ways to draw that ``Predictive`` and ``poutine.condition`` ask for."""

    support = constraints.real_vector
    arg_constraints: ClassVar[dict[str, constraints.Constraint]] = {}

    def rsample(self, sample_shape: torch.Size | tuple[int, ...] = ()) -> Tensor:
        """Draws with a gradient, and remembers the density of the draw."""
        return self(torch.Size(sample_shape))

    def sample(self, sample_shape: torch.Size | tuple[int, ...] = ()) -> Tensor:
        """Draws without a gradient."""
        with torch.no_grad():
            return self.dist.rsample(torch.Size(sample_shape))

    def expand(self, batch_shape: torch.Size, _instance: object = None) -> "_FlowDistribution":
        """Returns the same flow for a larger batch."""
        return _FlowDistribution(self.dist.expand(torch.Size(batch_shape)))


class _Flow(Family):
    """A base of the flows: everything but the kind of the steps.

    Args:
        latent_dim: the number of latents.
        transforms: the number of autoregressive steps, each in the reverse order of the one before.
        hidden: the widths of each step's masked network.
        context: how many numbers about x each step sees.
    """

    steps_of: type[zuko.lazy.Flow]
    backwards: bool

    def __init__(
        self, latent_dim: int, transforms: int = 2, hidden: tuple[int, ...] = (64, 64), context: int = 16
    ) -> None:
        super().__init__(latent_dim, 2 * latent_dim + context)
        self.steps = self.steps_of(latent_dim, context, transforms=transforms, hidden_features=hidden).transform

    def forward(self, params: Tensor) -> Distribution:
        """Takes params as mu, sigma before softplus, and the context."""
        loc, raw, context = params.split([self.latent_dim, self.latent_dim, self.num_params - 2 * self.latent_dim], -1)
        steps = self.steps(context)
        # An autoregressive step is quick in one direction, where all latents come from known ones at once; in the other
        # they come one by one, each from those before it. The Jacobian is triangular either way, so its determinant is
        # the product of its diagonal. Run backwards, the quick direction is the draw, which training needs.
        to_noise = ComposedTransform(
            _Affine(loc, scale_of(raw), event_dim=1).inv, steps.inv if self.backwards else steps
        )
        return _FlowDistribution(NormalizingFlow(to_noise, DiagNormal(torch.zeros_like(loc), torch.ones_like(loc))))


class IAF(_Flow):
    """An inverse autoregressive flow (Kingma et al. 2016): affine steps, fast to draw from.

    Examples:
        >>> import torch
        >>> from ppl_vae.guides import IAF
        >>> family = IAF(latent_dim=2, hidden=(8,), context=4)
        >>> q = family(torch.zeros(5, family.num_params))
        >>> family.num_params, q.batch_shape, q.event_shape
        (8, torch.Size([5]), torch.Size([2]))
    """

    steps_of, backwards = zuko.flows.MAF, True


class MAF(_Flow):
    """A masked autoregressive flow (Papamakarios et al. 2017): affine steps, slow to draw from.

    Examples:
        >>> import torch
        >>> from ppl_vae.guides import MAF
        >>> family = MAF(latent_dim=2, hidden=(8,), context=4)
        >>> q = family(torch.zeros(5, family.num_params))
        >>> family.num_params, q.batch_shape, q.event_shape
        (8, torch.Size([5]), torch.Size([2]))
    """

    steps_of, backwards = zuko.flows.MAF, False


class NSF(_Flow):
    """A neural spline flow (Durkan et al. 2019), run backwards: monotonic splines, fast to draw from.

    Examples:
        >>> import torch
        >>> from ppl_vae.guides import NSF
        >>> family = NSF(latent_dim=2, hidden=(8,), context=4)
        >>> q = family(torch.zeros(5, family.num_params))
        >>> family.num_params, q.batch_shape, q.event_shape
        (8, torch.Size([5]), torch.Size([2]))
    """

    steps_of, backwards = zuko.flows.NSF, True
