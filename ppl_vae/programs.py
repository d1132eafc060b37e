"""A Pyro program written from its densities.

A model is a prior and a likelihood, a guide is a posterior; the plate, the sites and the shape checks are written
here, once. Both are ordinary Pyro programs, callable as ``model(x)`` and ``guide(x)`` and ready for
``pyro.infer.SVI``. A program that does not fit overrides ``forward``: the engine only sees its trace.
"""

from typing import Any, ClassVar

import pyro
import pyro.distributions as dist
import torch
from pyro.distributions import TorchDistribution, constraints
from pyro.distributions.torch_distribution import TorchDistributionMixin as Distribution
from pyro.nn import PyroModule
from torch import Tensor, nn

__all__ = [
    "Distribution",
    "FamilyGuide",
    "Guide",
    "LatentVariableModel",
    "NotReparameterized",
    "last_index",
]


class LatentVariableModel(PyroModule):
    """p(x, z) = p(z) p(x | z), independently for each data point.

    A z of finitely many values, in one dimension, is marked for ``TraceEnum_ELBO``.

    Subclasses define :meth:`likelihood`, and :meth:`prior` where it is not the standard normal. ``given`` are the
    inputs of a conditional model p(x | given), one row per data point. A model whose evidence is tractable also has
    ``log_evidence(x, *given)`` of shape (batch,) in nats, and one whose posterior is has ``posterior(x, *given)``.

    Args:
        latent_dim: the number of latents of one data point, the size of z's event shape.

    Attributes:
        given_count: how many inputs the model is conditional on; arguments behind these are for the guide alone, such
            as the index of a guide with parameters for each data point.
    """

    given_count = 0

    def __init__(self, latent_dim: int) -> None:
        super().__init__()
        if latent_dim < 1:
            raise ValueError(f"latent_dim is {latent_dim}; a latent-variable model needs at least 1")
        self.latent_dim = latent_dim
        self.register_buffer("prior_loc", torch.zeros(latent_dim), persistent=False)

    def prior(self, *given: Tensor) -> Distribution:
        """p(z | given): event shape (latent_dim,), batch shape () or (batch,). The standard normal by default."""
        return dist.Normal(self.prior_loc, 1.0).to_event(1)

    def likelihood(self, z: Tensor, *given: Tensor) -> Distribution:
        """p(x | z, given) for z of shape (..., batch, latent_dim): batch shape (..., batch), event shape that of x."""
        raise TypeError(f"{type(self).__name__} has no likelihood: define likelihood(self, z, *given)")

    def forward(self, x: Tensor, *given: Tensor) -> Tensor:
        """Samples z, observes x: one row per data point, in the plate "data"."""
        given = given[: self.given_count]
        with pyro.plate("data", len(x)):
            prior = self.prior(*given)
            z = pyro.sample("z", prior, infer={"enumerate": "parallel"} if prior.has_enumerate_support else {})
            likelihood = self.likelihood(z, *given)
            _check_shapes(self, "likelihood", likelihood, len(x), x.shape[1:])
            return pyro.sample("x", likelihood, obs=x)

    def generate(self, count: int, *given: Tensor) -> tuple[Tensor, Distribution]:
        """Draws z of shape (count, latent_dim) from the prior; returns it with p(x | z)."""
        prior = self.prior(*given)
        z = prior(() if prior.batch_shape else (count,))
        return z, self.likelihood(z, *given)


class Guide(PyroModule):
    """q(z | x), independently for each data point. Subclasses define :meth:`posterior`.

    Attributes:
        enumerates: True marks z for ``TraceEnum_ELBO``, which then sums over q instead of drawing from it.
    """

    enumerates = False

    def posterior(self, x: Tensor, *given: Tensor) -> Distribution:
        """q(z | x, given): batch shape (batch,), event shape that of one data point's z."""
        raise TypeError(f"{type(self).__name__} has no posterior: define posterior(self, x, *given)")

    def forward(self, x: Tensor, *given: Tensor) -> Tensor:
        """Samples z given x, in the plate "data"."""
        with pyro.plate("data", len(x)):
            posterior = self.posterior(x, *given)
            _check_shapes(self, "posterior", posterior, len(x), None)
            return pyro.sample("z", posterior, infer={"enumerate": "parallel"} if self.enumerates else {})


class FamilyGuide(Guide):
    """q(z | x) = family(params(x)): a family of distributions times a source of its parameters.

    Subclasses define :meth:`params` and set ``family``, which maps (batch, num_params) to a distribution.

    Attributes:
        reparameterized: False takes the gradient off the draws, so that Pyro's ELBOs take the score function.
    """

    family: nn.Module
    reparameterized: bool = True

    def params(self, x: Tensor, *given: Tensor) -> Tensor:
        """The family's free numbers for each data point, shape (batch, num_params)."""
        raise TypeError(f"{type(self).__name__} has no params: define params(self, x, *given)")

    def posterior(self, x: Tensor, *given: Tensor) -> Distribution:
        """q(z | x, given): batch shape (batch,), event shape that of one data point's z."""
        params = self.params(x, *given)
        needed = self.family.num_params
        if params.shape != (len(x), needed):
            raise ValueError(
                f"for {len(x)} data points {type(self).__name__} gives parameters of shape {tuple(params.shape)}, but "
                f"{type(self.family).__name__} needs {(len(x), needed)}: end its network in {needed} outputs"
            )
        found = self.family(params)
        return found if self.reparameterized or not found.has_rsample else NotReparameterized(found)


class NotReparameterized(TorchDistribution):
    """A distribution whose draws are constants, so that its gradient is the score function's.

    A draw is a new tensor: a transformed distribution remembers the noise of its own draws, and log q of such a one
    would not see that the noise behind a given z moves with the parameters.
    """

    has_rsample = False
    arg_constraints: ClassVar[dict[str, Any]] = {}

    def __init__(self, base: Distribution) -> None:
        self.base = base
        super().__init__(base.batch_shape, base.event_shape, validate_args=False)

    @property
    def support(self) -> constraints.Constraint:
        """That of the distribution inside."""
        return self.base.support

    def sample(self, sample_shape: torch.Size | tuple[int, ...] = ()) -> Tensor:
        """A draw without a gradient."""
        with torch.no_grad():
            draw = self.base(torch.Size(sample_shape))  # not .sample, which not every flow has
            return draw.detach().clone()

    def log_prob(self, value: Tensor) -> Tensor:
        """The log-density, with its gradient, in nats."""
        return self.base.log_prob(value)

    def expand(self, batch_shape: torch.Size, _instance: object = None) -> "NotReparameterized":
        """Spread over more dimensions of the batch."""
        return NotReparameterized(self.base.expand(torch.Size(batch_shape)))


def last_index(guide: Guide, x: Tensor, given: tuple[Tensor, ...]) -> Tensor:
    """The last argument of a guide with parameters for each data point: their index, long, shape (batch,)."""
    if not given or given[-1].dtype != torch.long or given[-1].shape != x.shape[:1]:
        found = f"{given[-1].dtype} of shape {tuple(given[-1].shape)}" if given else "none"
        raise ValueError(
            f"{type(guide).__name__} needs the index of each data point as its last argument, long of shape "
            f"{(len(x),)}, and got {found}: call guide(x, index), with index = torch.arange(len(x)) for all data points"
        )
    return given[-1]


def _check_shapes(
    program: PyroModule, density: str, found: Distribution, batch: int, event_shape: torch.Size | None
) -> None:
    """Raises ValueError where a density's shapes would broadcast silently into a wrong log-weight."""
    if torch.jit.is_tracing():  # shapes are tensors then, and the same as in the run before
        return
    name = f"{type(program).__name__}.{density}"
    if event_shape is not None and found.event_shape != event_shape:
        missing = len(event_shape) - len(found.event_shape)
        mend = f"add .to_event({missing})" if missing > 0 else "make the two agree"
        raise ValueError(
            f"{name} has event shape {tuple(found.event_shape)}, but each data point has shape "
            f"{tuple(event_shape)}: {mend}"
        )
    if found.batch_shape[-1:] not in {(), (1,), (batch,)} or (event_shape is None and len(found.batch_shape) > 1):
        raise ValueError(
            f"{name} has batch shape {tuple(found.batch_shape)}, expected {(batch,)}: one density for each data point"
            + (", the dimensions of z moved into the event by .to_event(1)" if event_shape is None else "")
        )
