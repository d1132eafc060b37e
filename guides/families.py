"""The families of q: each maps a vector of free numbers to a distribution, and knows nothing of where they come from.

All zeros mean something near the prior N(0, I), which is where a fresh encoder starts.
"""

import pyro.distributions as dist
import torch
from pyro.contrib.zuko import ZukoToPyro
from torch import Tensor, nn
from torch.distributions import Transform, constraints
from torch.nn.functional import softplus
from zuko.distributions import DiagNormal, NormalizingFlow
from zuko.flows import MAF

from ppl_vae.programs import Distribution

_UNIT = 0.5413248546129181  # softplus(_UNIT) = 1
_FLOOR = 1e-6  # a scale that underflows to 0 has no density


class Family(nn.Module):
    """A family of distributions over z.

    Args:
        latent_dim: the number of latents of one data point.

    Attributes:
        num_params: how many free numbers pick one member, the last dimension of :meth:`forward`'s argument.
    """

    def __init__(self, latent_dim: int, num_params: int) -> None:
        super().__init__()
        self.latent_dim, self.num_params = latent_dim, num_params

    def forward(self, params: Tensor) -> Distribution:
        """Params of shape (..., num_params) to a distribution of batch shape (...), event shape (latent_dim,)."""
        raise TypeError(f"{type(self).__name__} has no forward: define forward(self, params)")


def _scale(raw: Tensor) -> Tensor:
    return softplus(raw + _UNIT) + _FLOOR


class Delta(Family):
    """A point: the deterministic autoencoder. It has no density, so its "ELBO" is not a bound."""

    def __init__(self, latent_dim: int) -> None:
        super().__init__(latent_dim, latent_dim)

    def forward(self, params: Tensor) -> Distribution:
        """All mass at params."""
        return dist.Delta(params, event_dim=1)


class Diagonal(Family):
    """N(mu, diag(sigma^2)): the usual VAE's (Kingma & Welling 2014)."""

    def __init__(self, latent_dim: int) -> None:
        super().__init__(latent_dim, 2 * latent_dim)

    def forward(self, params: Tensor) -> Distribution:
        """Params are mu and the scales before softplus."""
        loc, raw = params.chunk(2, -1)
        return dist.Normal(loc, _scale(raw)).to_event(1)


class Full(Family):
    """N(mu, L L') with L lower triangular: sees the correlations between latents."""

    cells: Tensor

    def __init__(self, latent_dim: int) -> None:
        below = latent_dim * (latent_dim - 1) // 2
        super().__init__(latent_dim, 2 * latent_dim + below)
        rows, columns = torch.tril_indices(latent_dim, latent_dim, -1)
        self.register_buffer("cells", rows * latent_dim + columns, persistent=False)

    def forward(self, params: Tensor) -> Distribution:
        """Params are mu, L's diagonal before softplus, and the entries below it, each over its row's diagonal."""
        loc, raw, below = params.split([self.latent_dim, self.latent_dim, self.num_params - 2 * self.latent_dim], -1)
        flat = params.new_zeros(*params.shape[:-1], self.latent_dim**2)
        lower = flat.index_copy(-1, self.cells, below).unflatten(-1, (self.latent_dim, self.latent_dim))
        identity = torch.eye(self.latent_dim, dtype=params.dtype, device=params.device)
        base = dist.Normal(torch.zeros_like(loc), 1.0).to_event(1)
        return dist.TransformedDistribution(base, [_Triangular(loc, _scale(raw), lower + identity)])


class _Triangular(Transform):
    """z = mu + sigma * (U eps), U lower triangular with a unit diagonal.

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
        columns = residual.unsqueeze(0).flatten(0, residual.dim() - self.loc.dim()).movedim(0, -1)
        solved = torch.linalg.solve_triangular(self.unit, columns, upper=False, unitriangular=True)
        return solved.movedim(-1, 0).reshape(residual.shape)

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        return self.scale.log().sum(-1).expand(x.shape[:-1])

    def with_cache(self, cache_size: int = 1) -> "_Triangular":
        return _Triangular(self.loc, self.scale, self.unit, cache_size)


class Flow(Family):
    """An inverse autoregressive flow on a diagonal Gaussian (Kingma et al. 2016), by zuko.

    Sampling and the density of an own sample take one pass; the density of any other point takes latent_dim passes.

    Args:
        latent_dim: the number of latents.
        transforms: the number of autoregressive steps, each in the reverse order of the one before.
        hidden: the widths of each step's masked network.
        context: how many numbers about x each step sees.
    """

    def __init__(
        self, latent_dim: int, transforms: int = 2, hidden: tuple[int, ...] = (64, 64), context: int = 16
    ) -> None:
        super().__init__(latent_dim, 2 * latent_dim + context)
        self.steps = MAF(latent_dim, context, transforms=transforms, hidden_features=hidden).transform

    def forward(self, params: Tensor) -> Distribution:
        """Params are mu and the scales (before softplus) of the Gaussian, and the context."""
        loc, raw, context = params.split([self.latent_dim, self.latent_dim, self.num_params - 2 * self.latent_dim], -1)
        base = DiagNormal(loc, _scale(raw))
        return ZukoToPyro(NormalizingFlow(self.steps(context).inv, base))
