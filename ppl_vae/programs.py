"""The base classes that turn densities into Pyro programs.

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

from ppl_vae.errors import Abstract, InputError

__all__ = [
    "Distribution",
    "FamilyGuide",
    "Guide",
    "LatentVariableModel",
    "NotReparameterized",
    "last_index",
]


class LatentVariableModel(Abstract, PyroModule, abstract=True):
    """A model p(x, z) = p(z) p(x | z), independently for each data point, written as its two densities.

    A subclass defines :meth:`likelihood`, which is p(x | z), in terms of its parameters. It may leave out the rest:

    - :meth:`prior`, where p(z) is the standard normal over ``latent_dim`` numbers;
    - ``given_count``, where the model is not conditional. One of p(x | given) sets it to the number of its inputs, each
      with one row per data point, which every method gets behind x or z;
    - ``log_evidence(x, *given)``, log p(x) of shape (batch,) in nats, and ``posterior(x, *given)``, p(z | x), which it
      has where they are known exactly;
    - :meth:`forward`, unless its latents do not fit into one site "z"; a subclass may write this alone.

    Densities broadcast over dimensions left of the batch, in which particles come: no ``reshape(-1)``. Where z has
    finitely many values, in one dimension, its site is marked for ``TraceEnum_ELBO``.

    Args:
        latent_dim: the number of latents of one data point, the size of z's event shape.

    Attributes:
        given_count: how many inputs the model is conditional on; arguments behind these are for the guide alone, such
            as the index of a guide with parameters for each data point.

    Raises:
        TypeError: for a subclass that defines neither ``likelihood`` nor ``forward``, when the class is made.

    Examples:
        >>> import pyro.distributions as dist
        >>> import torch
        >>> from ppl_vae import LatentVariableModel
        >>> class Counts(LatentVariableModel):
        ...     def __init__(self, observed_dim, latent_dim):
        ...         super().__init__(latent_dim)
        ...         self.decoder = torch.nn.Linear(latent_dim, observed_dim)
        ...
        ...     def likelihood(self, z, *given):
        ...         return dist.Poisson(self.decoder(z).exp()).to_event(1)
        >>> model = Counts(observed_dim=3, latent_dim=2)
        >>> model(torch.ones(5, 3)).shape
        torch.Size([5, 3])
    """

    _recipe = "likelihood(self, z, *given)"
    given_count = 0

    def __init__(self, latent_dim: int) -> None:
        super().__init__()
        if latent_dim < 1:
            raise InputError(f"latent_dim is {latent_dim}; a latent-variable model needs at least 1")
        self.latent_dim = latent_dim
        self.register_buffer("prior_loc", torch.zeros(latent_dim), persistent=False)

    def prior(self, *given: Tensor) -> Distribution:
        """The prior p(z | given), by default the standard normal.

        It has event shape (latent_dim,) and batch shape () or (batch,).
        """
        return dist.Normal(self.prior_loc, 1.0).to_event(1)

    def likelihood(self, z: Tensor, *given: Tensor) -> Distribution:
        """The likelihood p(x | z, given) at z of shape (..., batch, latent_dim).

        It has batch shape (..., batch), and the event shape of one data point's x.
        """
        raise TypeError(f"{type(self).__name__} has no likelihood: define {self._recipe}")

    def forward(self, x: Tensor, *given: Tensor) -> Tensor:
        """Runs as a Pyro program: samples z and observes x, one row per data point, in the plate "data"."""
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


class Guide(Abstract, PyroModule, abstract=True):
    """A guide q(z | x), independently for each data point, written as its one density.

    A subclass defines :meth:`posterior`: batch shape (batch,), event shape that of one data point's z in the model.
    Where the latents do not fit into one site "z" it writes :meth:`forward` instead. ``given`` are the arguments behind
    x: the inputs of a conditional model, and an index where the guide has parameters for each data point.

    Attributes:
        enumerates: True marks z for ``TraceEnum_ELBO``, which then sums over q instead of drawing from it.

    Raises:
        TypeError: for a subclass that defines neither ``posterior`` nor ``forward``, when the class is made.

    Examples:
        >>> import pyro.distributions as dist
        >>> import torch
        >>> from ppl_vae import Guide
        >>> class Encoder(Guide):
        ...     def __init__(self, observed_dim, latent_dim):
        ...         super().__init__()
        ...         self.loc = torch.nn.Linear(observed_dim, latent_dim)
        ...
        ...     def posterior(self, x, *given):
        ...         return dist.Normal(self.loc(x), 1.0).to_event(1)
        >>> Encoder(observed_dim=3, latent_dim=2)(torch.ones(5, 3)).shape
        torch.Size([5, 2])
    """

    _recipe = "posterior(self, x, *given)"
    enumerates = False

    def posterior(self, x: Tensor, *given: Tensor) -> Distribution:
        """The density q(z | x, given): batch shape (batch,), event shape that of one data point's z."""
        raise TypeError(f"{type(self).__name__} has no posterior: define {self._recipe}")

    def forward(self, x: Tensor, *given: Tensor) -> Tensor:
        """Runs as a Pyro program: samples z given x, one row per data point, in the plate "data"."""
        with pyro.plate("data", len(x)):
            posterior = self.posterior(x, *given)
            _check_shapes(self, "posterior", posterior, len(x), None)
            return pyro.sample("z", posterior, infer={"enumerate": "parallel"} if self.enumerates else {})


class FamilyGuide(Guide, abstract=True):
    """A guide q(z | x) = family(params(x)): a family of distributions times a source of its parameters.

    A subclass is such a source. It sets ``family``, a module with ``num_params`` that maps (..., num_params) to a
    distribution of batch shape (...) (see :class:`ppl_vae.guides.Family`), and defines :meth:`params`, of shape
    (batch, num_params). The plate, the shape checks and ``posterior`` are written here; ``reparameterized`` may be left
    as it is.

    Attributes:
        reparameterized: False takes the gradient off the draws, so that Pyro's ELBOs take the score function.

    Raises:
        TypeError: for a subclass that defines neither ``params`` nor ``posterior`` nor ``forward``, when it is made.

    Examples:
        >>> import torch
        >>> from ppl_vae.guides import Diagonal
        >>> from ppl_vae.programs import FamilyGuide
        >>> class OneForAll(FamilyGuide):
        ...     def __init__(self, family):
        ...         super().__init__()
        ...         self.family = family
        ...         self.row = torch.nn.Parameter(torch.zeros(family.num_params))
        ...
        ...     def params(self, x, *given):
        ...         return self.row.expand(len(x), -1)
        >>> OneForAll(Diagonal(2))(torch.ones(5, 3)).shape
        torch.Size([5, 2])
    """

    _recipe = "params(self, x, *given)"
    family: nn.Module
    reparameterized: bool = True

    def params(self, x: Tensor, *given: Tensor) -> Tensor:
        """The family's free numbers for each data point, shape (batch, num_params)."""
        raise TypeError(f"{type(self).__name__} has no params: define {self._recipe}")

    def posterior(self, x: Tensor, *given: Tensor) -> Distribution:
        """The family's member at the parameters: batch shape (batch,), event shape that of one data point's z."""
        params = self.params(x, *given)
        needed = self.family.num_params
        if params.shape != (len(x), needed):
            raise InputError(
                f"for {len(x)} data points {type(self).__name__} gives parameters of shape {tuple(params.shape)}, but "
                f"{type(self.family).__name__} needs {(len(x), needed)}: end its network in {needed} outputs"
            )
        member = self.family(params)
        return member if self.reparameterized or not member.has_rsample else NotReparameterized(member)


class NotReparameterized(TorchDistribution):
    """A distribution whose draws are constants, so that its gradient is the score function's.

    A draw is a new tensor: a transformed distribution remembers the noise of its own draws, and log q of such a one
    would not see that the noise behind a given z moves with the parameters.

    Args:
        base: the distribution that is drawn from and weighed by.

    Examples:
        >>> import pyro.distributions as dist
        >>> import torch
        >>> from ppl_vae.programs import NotReparameterized
        >>> loc = torch.zeros(2, requires_grad=True)
        >>> q = NotReparameterized(dist.Normal(loc, 1.0).to_event(1))
        >>> q().requires_grad, q.log_prob(q()).requires_grad
        (False, True)
    """

    has_rsample = False
    arg_constraints: ClassVar[dict[str, Any]] = {}

    def __init__(self, base: Distribution) -> None:
        self.base = base
        super().__init__(base.batch_shape, base.event_shape, validate_args=False)

    @property
    def support(self) -> constraints.Constraint:
        """The support of the distribution inside."""
        return self.base.support

    def sample(self, sample_shape: torch.Size | tuple[int, ...] = ()) -> Tensor:
        """Draws without a gradient."""
        with torch.no_grad():
            draw = self.base(torch.Size(sample_shape))  # not .sample, which not every flow has
            return draw.detach().clone()

    def log_prob(self, value: Tensor) -> Tensor:
        """The log-density, with its gradient, in nats."""
        return self.base.log_prob(value)

    def expand(self, batch_shape: torch.Size, _instance: object = None) -> "NotReparameterized":
        """Returns the same distribution for a larger batch."""
        return NotReparameterized(self.base.expand(torch.Size(batch_shape)))


def last_index(guide: Guide, x: Tensor, given: tuple[Tensor, ...]) -> Tensor:
    """Returns the last argument of a guide with parameters for each data point: their index, long, shape (batch,).

    Args:
        guide: whose argument it is; named in the error.
        x: the data points.
        given: the arguments behind x.

    Raises:
        InputError: where the last argument is no such index.

    Examples:
        >>> import torch
        >>> from ppl_vae.guides import Diagonal, PerDatapoint
        >>> from ppl_vae.programs import last_index
        >>> last_index(PerDatapoint(Diagonal(2), count=9), torch.ones(3, 4), (torch.tensor([0, 4, 8]),))
        tensor([0, 4, 8])
    """
    if not given or given[-1].dtype != torch.long or given[-1].shape != x.shape[:1]:
        got = f"{given[-1].dtype} of shape {tuple(given[-1].shape)}" if given else "none"
        raise InputError(
            f"{type(guide).__name__} needs the index of each data point as its last argument, long of shape "
            f"{(len(x),)}, and got {got}: call guide(x, index), with index = torch.arange(len(x)) for all data points"
        )
    return given[-1]


def _check_shapes(
    program: PyroModule, density: str, distribution: Distribution, batch: int, event_shape: torch.Size | None
) -> None:
    """Raises InputError where a density's shapes would broadcast silently into a wrong log-weight."""
    if torch.jit.is_tracing():  # shapes are tensors then, and the same as in the run before
        return
    name, batch_shape = f"{type(program).__name__}.{density}", distribution.batch_shape
    if event_shape is not None and distribution.event_shape != event_shape:
        missing = len(event_shape) - len(distribution.event_shape)
        mend = f"add .to_event({missing})" if missing > 0 else "make the two agree"
        raise InputError(
            f"{name} has event shape {tuple(distribution.event_shape)}, but each data point has shape "
            f"{tuple(event_shape)}: {mend}"
        )
    if batch_shape[-1:] not in {(), (1,), (batch,)} or (event_shape is None and len(batch_shape) > 1):
        raise InputError(
            f"{name} has batch shape {tuple(batch_shape)}, expected {(batch,)}: one density for each data point"
            + (", the dimensions of z moved into the event by .to_event(1)" if event_shape is None else "")
        )
