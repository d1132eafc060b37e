"""The families of q: each maps a vector of free numbers to a distribution, and knows nothing of where they come from.

All zeros mean something near the prior N(0, I), which is where a fresh encoder starts.
"""

import pyro.distributions as dist
import torch
from torch import Tensor, nn
from torch.distributions import Transform, constraints, register_kl
from torch.nn.functional import softplus

from ppl_vae.errors import Abstract, InputError
from ppl_vae.programs import Distribution

_UNIT = 0.5413248546129181  # softplus(_UNIT) = 1
_FLOOR = 1e-6  # a scale that underflows to 0 has no density


class Family(Abstract, nn.Module, abstract=True):
    """A family of distributions over z, whose members free numbers pick.

    A subclass tells ``super().__init__`` how many numbers there are and defines :meth:`forward`, from params of shape
    (..., num_params) to a distribution of batch shape (...) and event shape (latent_dim,). All zeros, which is about
    what a fresh encoder gives, should mean something near N(0, I). ``discrete`` may be left out where z is continuous.

    Args:
        latent_dim: the number of latents of one data point.
        num_params: how many free numbers pick one member, the last dimension of :meth:`forward`'s argument.

    Attributes:
        discrete: whether z is discrete, as the model's then must be.

    Raises:
        TypeError: for a subclass without ``forward``, when the class is made.

    Examples:
        >>> import pyro.distributions as dist
        >>> import torch
        >>> from ppl_vae.guides import Amortized, Family
        >>> class Laplace(Family):
        ...     def __init__(self, latent_dim):
        ...         super().__init__(latent_dim, 2 * latent_dim)
        ...
        ...     def forward(self, params):
        ...         loc, log_scale = params.chunk(2, -1)
        ...         return dist.Laplace(loc, log_scale.exp()).to_event(1)
        >>> Amortized(Laplace(2), observed_dim=64)(torch.ones(5, 64)).shape
        torch.Size([5, 2])
    """

    _recipe = "forward(self, params)"
    discrete = False

    def __init__(self, latent_dim: int, num_params: int) -> None:
        super().__init__()
        if latent_dim < 1:
            raise InputError(f"latent_dim is {latent_dim}; {type(self).__name__} needs at least 1")
        self.latent_dim, self.num_params = latent_dim, num_params

    def forward(self, params: Tensor) -> Distribution:
        """Returns the member at params (..., num_params): batch shape (...), event shape (latent_dim,)."""
        raise TypeError(f"{type(self).__name__} has no forward: define {self._recipe}")


def scale_of(raw: Tensor) -> Tensor:
    """Turns a free number into a scale: 1 at 0, and never 0."""
    return softplus(raw + _UNIT) + _FLOOR


class Delta(Family):
    """A point mass, as in the deterministic autoencoder; it has no density, so its "ELBO" is not a bound.

    Examples:
        >>> import torch
        >>> from ppl_vae.guides import Delta
        >>> Delta(latent_dim=2)(torch.tensor([[3.0, 4.0]])).sample()
        tensor([[3., 4.]])
    """

    def __init__(self, latent_dim: int) -> None:
        super().__init__(latent_dim, latent_dim)

    def forward(self, params: Tensor) -> Distribution:
        """Puts all mass at params."""
        return dist.Delta(params, event_dim=1)


class FixedScale(Family):
    """The Gaussian N(mu, sigma^2 I) with sigma hard-coded: only the mean is encoded.

    Args:
        latent_dim: the number of latents.
        scale: sigma, for every latent of every data point.

    Examples:
        >>> import torch
        >>> from ppl_vae.guides import FixedScale
        >>> FixedScale(latent_dim=2, scale=0.3)(torch.tensor([[3.0, 4.0]])).stddev
        tensor([[0.3000, 0.3000]])
    """

    def __init__(self, latent_dim: int, scale: float = 0.5) -> None:
        super().__init__(latent_dim, latent_dim)
        if not scale > 0:
            raise InputError(f"scale is {scale}; a standard deviation is above 0")
        self.scale = scale

    def forward(self, params: Tensor) -> Distribution:
        """Takes params as mu."""
        return dist.Normal(params, self.scale).to_event(1)


class Unit(FixedScale):
    """The Gaussian N(mu, I), with sigma hard-coded to 1.0.

    Examples:
        >>> import torch
        >>> from ppl_vae.guides import Unit
        >>> Unit(latent_dim=2)(torch.tensor([[3.0, 4.0]])).stddev
        tensor([[1., 1.]])
    """

    def __init__(self, latent_dim: int) -> None:
        super().__init__(latent_dim, 1.0)


class Diagonal(Family):
    """The diagonal Gaussian N(mu, diag(sigma^2)) of the usual VAE (Kingma & Welling 2014).

    Examples:
        >>> import torch
        >>> from ppl_vae.guides import Diagonal
        >>> Diagonal(latent_dim=2)(torch.zeros(1, 4)).stddev
        tensor([[1.0000, 1.0000]])
    """

    def __init__(self, latent_dim: int) -> None:
        super().__init__(latent_dim, 2 * latent_dim)

    def forward(self, params: Tensor) -> Distribution:
        """Takes params as mu and the scales before softplus."""
        loc, raw = params.chunk(2, -1)
        return dist.Normal(loc, scale_of(raw)).to_event(1)


class LowRank(Family):
    """The Gaussian N(mu, diag(sigma^2) + F F') with F of a few columns.

    It sees some of the correlations between latents, at a fraction of the numbers that :class:`Full` takes.

    Args:
        latent_dim: the number of latents.
        rank: the columns of F, at most latent_dim.

    Examples:
        >>> import torch
        >>> from ppl_vae.guides import LowRank
        >>> LowRank(latent_dim=2, rank=1)(torch.tensor([0.0, 0.0, 0.0, 0.0, 1.0, 1.0])).covariance_matrix
        tensor([[2.0000, 1.0000],
                [1.0000, 2.0000]])
    """

    def __init__(self, latent_dim: int, rank: int = 2) -> None:
        if rank < 1:
            raise InputError(f"rank is {rank}; a low-rank family needs at least 1")
        rank = min(rank, latent_dim)
        super().__init__(latent_dim, (2 + rank) * latent_dim)
        self.rank = rank

    def forward(self, params: Tensor) -> Distribution:
        """Takes params as mu, sigma before softplus, and F, each row over its sigma."""
        loc, raw, factor = params.split([self.latent_dim, self.latent_dim, self.rank * self.latent_dim], -1)
        scale = scale_of(raw)
        factor = scale[..., None] * factor.unflatten(-1, (self.latent_dim, self.rank))
        return dist.LowRankMultivariateNormal(loc, factor, scale.square())


class Full(Family):
    """The Gaussian N(mu, L L') with L lower triangular, which sees the correlations between latents.

    Examples:
        >>> import torch
        >>> from ppl_vae.guides import Full
        >>> family = Full(latent_dim=2)
        >>> q = family(torch.zeros(5, family.num_params))
        >>> family.num_params, q.batch_shape, q.event_shape
        (5, torch.Size([5]), torch.Size([2]))
    """

    cells: Tensor

    def __init__(self, latent_dim: int) -> None:
        below = latent_dim * (latent_dim - 1) // 2
        super().__init__(latent_dim, 2 * latent_dim + below)
        rows, columns = torch.tril_indices(latent_dim, latent_dim, -1)
        self.register_buffer("cells", rows * latent_dim + columns, persistent=False)

    def forward(self, params: Tensor) -> Distribution:
        """Takes params as mu, L's diagonal before softplus, and the entries below it, each over its row's diagonal.

        The latter count by their number in a row: as large as the rest, their noise holds up a model trained with them
        (MNIST, 16 latents, 5 epochs: ELBO -118.2 so, -109.0 at a tenth).
        """
        loc, raw, below = params.split([self.latent_dim, self.latent_dim, self.num_params - 2 * self.latent_dim], -1)
        flat = params.new_zeros(*params.shape[:-1], self.latent_dim**2)
        lower = flat.index_copy(-1, self.cells, below / self.latent_dim).unflatten(
            -1, (self.latent_dim, self.latent_dim)
        )
        identity = torch.eye(self.latent_dim, dtype=params.dtype, device=params.device)
        base = dist.Normal(torch.zeros_like(loc), 1.0).to_event(1)
        return _TriangularNormal(base, [_Triangular(loc, scale_of(raw), lower + identity)])


class _TriangularNormal(dist.TransformedDistribution):
    """A Gaussian whose type is its own, so that torch finds its divergence from the standard normal in closed form."""


@register_kl(_TriangularNormal, torch.distributions.Independent)
def _kl_from_diagonal(q: _TriangularNormal, p: torch.distributions.Independent) -> Tensor:
    """Returns KL(q || p) in nats for a diagonal normal p: the traces, the determinants and the means tell it."""
    base = p.base_dist
    if not isinstance(base, torch.distributions.Normal) or p.reinterpreted_batch_ndims != 1:
        raise NotImplementedError
    (map_,) = q.transforms
    lower = map_.scale[..., None] * map_.unit
    squares = lower.square().sum(-1) + (map_.loc - base.loc).square()
    logs = (base.scale / map_.scale).log()
    return (0.5 * (squares / base.scale.square() - 1) + logs).sum(-1).expand(q.batch_shape)


class _Triangular(Transform):
    """The map z = mu + sigma * (U eps), U lower triangular with a unit diagonal.

    It remembers the last eps, so that the density of an own draw comes without inverting U: a triangular matrix can
    be so ill-conditioned that eps comes back wrong by any amount, and training then seeks such matrices out.
    """

    domain = constraints.real_vector
    codomain = constraints.real_vector
    bijective = True

    def __init__(self, loc: Tensor, scale: Tensor, unit: Tensor, cache_size: int = 1) -> None:
        super().__init__(cache_size=cache_size)
        self.loc, self.scale, self.unit = loc, scale, unit

    def _call(self, x: Tensor) -> Tensor:
        return self.loc + self.scale * torch.einsum("...ij,...j->...i", self.unit, x)

    def _inverse(self, y: Tensor) -> Tensor:
        residual = (y - self.loc) / self.scale
        # all particles of a data point are columns of one system, so its U is solved with once and not for each of them
        columns = residual.unsqueeze(0).flatten(0, residual.dim() - self.loc.dim()).movedim(0, -1)
        solved = torch.linalg.solve_triangular(self.unit, columns, upper=False, unitriangular=True)
        return solved.movedim(-1, 0).reshape(residual.shape)

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        # the Jacobian diag(sigma) U is triangular, and U's diagonal is 1: only sigma is left of the determinant
        return self.scale.log().sum(-1).expand(x.shape[:-1])

    def with_cache(self, cache_size: int = 1) -> "_Triangular":
        return _Triangular(self.loc, self.scale, self.unit, cache_size)


class Mixture(Family):
    """A mixture of diagonal Gaussians with reparameterized draws (Jankowiak & Karaletsos 2018).

    Args:
        latent_dim: the number of latents, at least 2.
        components: how many Gaussians.

    Raises:
        InputError: for a single latent, for which Pyro's gradient does not hold.

    Examples:
        >>> import torch
        >>> from ppl_vae.guides import Mixture
        >>> family = Mixture(latent_dim=2, components=3)
        >>> q = family(torch.zeros(5, family.num_params))
        >>> family.num_params, q.batch_shape, q.event_shape
        (15, torch.Size([5]), torch.Size([2]))
    """

    starts: Tensor

    def __init__(self, latent_dim: int, components: int = 3) -> None:
        if latent_dim < 2:
            raise InputError("a mixture needs at least 2 latents: for 1 take a flow, such as nsf")
        super().__init__(latent_dim, components * (1 + 2 * latent_dim))
        self.components = components
        angles = torch.arange(components * latent_dim).reshape(components, latent_dim)
        self.register_buffer("starts", 0.3 * torch.sin(1.0 + angles.square()), persistent=False)

    def forward(self, params: Tensor) -> Distribution:
        """Takes params as the log weights, the means (over fixed, distinct starts) and the scales before softplus."""
        size = self.components * self.latent_dim
        logits, locs, raw = params.split([self.components, size, size], -1)
        shape = (self.components, self.latent_dim)
        locs = self.starts + locs.unflatten(-1, shape)
        return dist.MixtureOfDiagNormals(locs, scale_of(raw.unflatten(-1, shape)), logits)
