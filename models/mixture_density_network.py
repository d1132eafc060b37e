"""A mixture of Gaussians whose weights, means and covariances a network gives: a density with many modes."""

from typing import Self

import pyro.distributions as dist
import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from ppl_vae.errors import InputError
from ppl_vae.models.gaussians import Gaussian, one_of
from ppl_vae.programs import Distribution, LatentVariableModel

_UNIT = 0.5413248546129181  # softplus(_UNIT) = 1
_BISECTIONS = 60


class MixtureDensityNetwork(LatentVariableModel):
    """A mixture of Gaussians whose parameters a network computes from an input ``given`` (Bishop 1994).

    p(x | given) = sum_z p(z | given) p(x | z, given).

    ``model(x, given)``: x of shape (batch, observed_dim) is what is predicted, given of shape (batch, ...) what it is
    predicted from. z is one-hot, event shape (components,), an explicit site: :meth:`posterior` says which component
    an x came from, and ``LogEvidence`` or ``TraceEnum_ELBO`` with the empty guide sums it out. Full covariances
    are parametrized by the lower root of the precision (Williams 1996).

    Args:
        observed_dim: the number of outputs.
        latent_dim: the number of components.
        given_dim: the width of what the network gets.
        covariance: "diagonal" or "full".
        hidden: the widths of the default network's hidden layers.
        network: any network that maps given to (batch, ``num_params``); a perceptron by default.
        floor: the smallest scale, as a share of the outputs' spread (see :meth:`standardize`).
        activation: the default network's.

    Raises:
        InputError: for another covariance, a floor that is not above 0 or, in use, a network of the wrong width.

    Examples:
        >>> import torch
        >>> from ppl_vae.models import MixtureDensityNetwork
        >>> given = torch.linspace(-1, 1, 50)[:, None]
        >>> x = given.square() + 0.1 * torch.randn(50, 1)
        >>> model = MixtureDensityNetwork(observed_dim=1, latent_dim=3, given_dim=1).standardize(x, given)
        >>> model.log_evidence(x, given).shape
        torch.Size([50])
        >>> low, high = model.interval(given, mass=0.9)
        >>> bool((low < high).all())
        True
    """

    given_count = 1
    starts: Tensor
    center: Tensor
    spread: Tensor
    given_center: Tensor
    given_spread: Tensor
    cells: Tensor

    def __init__(
        self,
        observed_dim: int,
        latent_dim: int,
        given_dim: int,
        covariance: str = "diagonal",
        hidden: tuple[int, ...] = (50,),
        network: nn.Module | None = None,
        floor: float = 1e-3,
        activation: type[nn.Module] = nn.ReLU,
    ) -> None:
        super().__init__(latent_dim)
        if covariance not in ("diagonal", "full"):
            raise InputError(f"covariance is {covariance!r}; a mixture density network has 'diagonal' or 'full'")
        if not floor > 0:
            raise InputError(f"floor is {floor}; a standard deviation is above 0")
        self.observed_dim, self.given_dim, self.covariance, self.floor = observed_dim, given_dim, covariance, floor
        below = observed_dim * (observed_dim - 1) // 2 if covariance == "full" else 0
        self.sizes = [latent_dim, *(latent_dim * count for count in (observed_dim, observed_dim, below))]
        if network is None:
            from torchvision.ops import MLP

            network = MLP(given_dim, [*hidden, self.num_params], activation_layer=activation)
        self.network = network
        rows, columns = torch.tril_indices(observed_dim, observed_dim, -1)
        self.register_buffer("cells", rows * observed_dim + columns, persistent=False)
        self.register_buffer("starts", torch.randn(latent_dim, observed_dim))
        for name, width in (("", observed_dim), ("given_", given_dim)):
            self.register_buffer(f"{name}center", torch.zeros(width))
            self.register_buffer(f"{name}spread", torch.ones(width))

    @property
    def components(self) -> int:
        """The number of Gaussians."""
        return self.latent_dim

    @property
    def num_params(self) -> int:
        """The width of the network's output: logits, means, scales and, where full, the precision's lower roots."""
        return sum(self.sizes)

    @property
    def full(self) -> bool:
        """Whether the covariances are matrices."""
        return self.covariance == "full"

    def standardize(self, x: Tensor, given: Tensor | None = None) -> Self:
        """Takes the mean and spread of the data as units, which training needs; returns self.

        Args:
            x: the outputs, shape (data, observed_dim).
            given: the inputs, shape (data, given_dim); None leaves them as they come.

        Raises:
            InputError: for a constant output. A constant input keeps the unit 1.
        """
        for column in (x.amax(0) == x.amin(0)).nonzero()[:1]:
            raise InputError(f"output {int(column)} is constant, so its density has no scale: drop it")
        with torch.no_grad():
            self.center.copy_(x.mean(0))
            self.spread.copy_(x.std(0, correction=0))
            if given is not None:
                spread = given.std(0, correction=0)
                self.given_center.copy_(given.mean(0))
                self.given_spread.copy_(torch.where(spread > 0, spread, 1.0))
        return self

    def heads(self, given: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Runs the network and takes its output apart: logits, means, roots of the precisions.

        The logits have shape (batch, components); the means are in units of the spread, and so are the roots behind
        them.
        """
        output = self.network((given - self.given_center) / self.given_spread)
        if output.shape[-1] != self.num_params:
            raise InputError(
                f"the network has {output.shape[-1]} outputs; {self.components} components with {self.covariance} "
                f"covariances over {self.observed_dim} outputs need {self.num_params}"
            )
        logits, locs, raw, below = output.split(self.sizes, -1)
        shape = (self.components, self.observed_dim)
        locs = self.starts + locs.unflatten(-1, shape)
        inverse = 1 / (softplus(raw.unflatten(-1, shape) + _UNIT) + self.floor)
        if not self.full:
            return logits, locs, inverse
        entries = below.reshape(*inverse.shape[:-1], len(self.cells))
        flat = inverse.new_zeros(*inverse.shape[:-1], self.observed_dim**2).index_copy(-1, self.cells, entries)
        root = inverse.unsqueeze(-1) * flat.unflatten(-1, (self.observed_dim, -1)) + inverse.diag_embed()
        return logits, locs, root

    def _gaussian(self, loc: Tensor, root: Tensor) -> Gaussian:
        return Gaussian(loc, root, self.full, self.center, self.spread)

    def prior(self, *given: Tensor) -> Distribution:
        """The prior over the components p(z | given), batch shape (batch,), event shape (components,)."""
        return dist.OneHotCategorical(logits=self.heads(given[0])[0])

    def likelihood(self, z: Tensor, *given: Tensor) -> Distribution:
        """The Gaussian that one-hot z picks, event shape (observed_dim,)."""
        _, locs, roots = self.heads(given[0])
        return self._gaussian(one_of(z, locs, 1), one_of(z, roots, 2 if self.full else 1))

    def log_joint(self, x: Tensor, *given: Tensor) -> Tensor:
        """Returns log p(x, z | given) in nats for each component, shape (batch, components)."""
        logits, locs, roots = self.heads(given[0])
        return logits.log_softmax(-1) + self._gaussian(locs, roots).log_prob(x[:, None])

    def posterior(self, x: Tensor, *given: Tensor) -> Distribution:
        """The exact posterior p(z | x, given): which component x came from."""
        return dist.OneHotCategorical(logits=self.log_joint(x, *given))

    def log_evidence(self, x: Tensor, *given: Tensor) -> Tensor:
        """Returns log p(x | given) in nats, shape (batch,)."""
        return self.log_joint(x, *given).logsumexp(-1)

    def predictive(self, given: Tensor) -> Distribution:
        """The density p(x | given) with z summed out, batch shape (batch,).

        It draws by ``.sample((count,))``, and has a mean and a variance.
        """
        logits, locs, roots = self.heads(given)
        return dist.MixtureSameFamily(dist.Categorical(logits=logits), self._gaussian(locs, roots))

    def modes(self, given: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Returns the components' weights, means and standard deviations, the heaviest component first.

        The weights have shape (batch, components), the others (batch, components, observed_dim).
        """
        logits, locs, roots = self.heads(given)
        weights, order = logits.softmax(-1).sort(-1, descending=True)
        rows, each = order[..., None].expand_as(locs), self._gaussian(locs, roots)
        return weights, each.mean.gather(-2, rows), each.stddev.gather(-2, rows)

    def quantile(self, given: Tensor, level: float) -> Tensor:
        """Finds the level's quantile of each output by itself by bisection, shape (batch, observed_dim)."""
        if not 0 < level < 1:
            raise InputError(f"level is {level}; a quantile's is between 0 and 1")
        weights, means, scales = self.modes(given)
        each = torch.distributions.Normal(means, scales)
        low, high = (means + side * 40 * scales for side in (-1, 1))
        low, high = low.amin(-2), high.amax(-2)
        for _ in range(_BISECTIONS):
            middle = (low + high) / 2
            below = (weights[..., None] * each.cdf(middle.unsqueeze(-2))).sum(-2) < level
            low, high = torch.where(below, middle, low), torch.where(below, high, middle)
        return (low + high) / 2

    def interval(self, given: Tensor, mass: float = 0.9) -> tuple[Tensor, Tensor]:
        """Returns both ends of each output's equal-tailed interval of that mass, shape (batch, observed_dim) each."""
        return self.quantile(given, (1 - mass) / 2), self.quantile(given, (1 + mass) / 2)
