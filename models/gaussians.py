"""What Gaussian models share: a Gaussian by the root of its precision, and where to start from the data."""

import math
from typing import Any

import torch
from pyro.distributions import TorchDistribution
from torch import Size, Tensor
from torch.distributions import constraints

from ppl_vae.errors import InputError

_FAR = 1e9  # in standard deviations; the square of its square, which Adam keeps of a gradient, still fits into float32


class Gaussian(TorchDistribution):
    """A Gaussian by the root P of its precision: x = center + spread * y, y ~ N(loc, (P'P)^-1) (Williams 1996).

    P is lower triangular or diagonal.

    The density needs no solve. The residual is scaled before it is squared, and held within 1e9 standard deviations,
    so that neither a tiny scale nor a far outlier makes log p or its gradient infinite in float32; farther out log p
    stays at its value there.

    Args:
        loc: the mean of y, shape (..., dim).
        precision: P, shape (..., dim) where diagonal, else (..., dim, dim), lower triangular, diagonals above 0.
        full: whether P is a matrix.
        center: the zero of y, shape (dim,).
        spread: the unit of y, likewise, above 0.
    """

    arg_constraints: dict[str, Any] = {}  # noqa: RUF012
    support = constraints.real_vector
    has_rsample = True

    def __init__(
        self,
        loc: Tensor,
        precision: Tensor,
        full: bool,
        center: Tensor,
        spread: Tensor,
        validate_args: bool | None = None,
    ) -> None:
        self.loc, self.precision, self.full, self.center, self.spread = loc, precision, full, center, spread
        batch_shape = torch.broadcast_shapes(loc.shape[:-1], precision.shape[: -2 if full else -1])
        super().__init__(batch_shape, loc.shape[-1:], validate_args=validate_args)

    def log_prob(self, value: Tensor) -> Tensor:
        """Returns the log-density in nats, shape (..., batch)."""
        residual = (value - self.center) / self.spread - self.loc
        if self.full:
            scaled = torch.einsum("...ij,...j->...i", self.precision, residual)
            log_det = self.precision.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        else:
            scaled, log_det = residual * self.precision, self.precision.log().sum(-1)
        constant = self.spread.log().sum() + self.event_shape[0] * math.log(2 * math.pi) / 2
        return log_det - scaled.clamp(-_FAR, _FAR).square().sum(-1) / 2 - constant

    def rsample(self, sample_shape: Size | tuple[int, ...] = ()) -> Tensor:
        """Draws with a gradient: center + spread * (loc + P^-1 noise)."""
        noise = torch.randn(self._extended_shape(Size(sample_shape)), dtype=self.loc.dtype, device=self.loc.device)
        if self.full:
            step = torch.linalg.solve_triangular(self.precision, noise[..., None], upper=False)[..., 0]
        else:
            step = noise / self.precision
        return self.center + self.spread * (self.loc + step)

    @property
    def mean(self) -> Tensor:
        """The mean, shape (batch, dim)."""
        return (self.center + self.spread * self.loc).expand(self.batch_shape + self.event_shape)

    @property
    def stddev(self) -> Tensor:
        """The square root of :attr:`variance`, computed without the squares, which underflow in float32."""
        return (self.spread * self._root.norm(dim=-1)).expand(self.batch_shape + self.event_shape)

    @property
    def variance(self) -> Tensor:
        """The diagonal of the covariance, shape (batch, dim)."""
        return self.stddev.square()

    @property
    def covariance(self) -> Tensor:
        """The covariance matrix, shape (batch, dim, dim)."""
        root = self.spread[:, None] * self._root
        return (root @ root.mT).expand(*self.batch_shape, -1, -1)

    @property
    def _root(self) -> Tensor:
        """The inverse of P, which is a root of the covariance."""
        if not self.full:
            return self.precision.reciprocal().diag_embed()
        eye = torch.eye(self.event_shape[0], dtype=self.loc.dtype, device=self.loc.device)
        return torch.linalg.solve_triangular(self.precision, eye.expand(self.precision.shape), upper=False)

    def expand(self, batch_shape: Size | tuple[int, ...], _instance: Any = None) -> "Gaussian":
        """Returns the same Gaussian for a larger batch."""
        shape = Size(batch_shape)
        dim = self.event_shape[0]
        precision = self.precision.expand(*shape, dim, dim) if self.full else self.precision.expand(*shape, dim)
        loc = self.loc.expand(*shape, dim)
        return Gaussian(loc, precision, self.full, self.center, self.spread, validate_args=False)


def one_of(z: Tensor, parameter: Tensor, trailing: int) -> Tensor:
    """Picks the entry of a parameter that one-hot z stands for.

    z has shape (..., components), the parameter (..., components, *event).

    The parameter's leading dimensions go with z's last ones, as the data do; ``trailing`` is the event's dimensions.
    """
    if parameter.dim() == trailing + 1:
        return torch.tensordot(z, parameter, 1)
    letters = "ij"[:trailing]
    return torch.einsum(f"...k,...k{letters}->...{letters}", z, parameter)


def mean_and_spread(x: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the mean of data of shape (data, dim), and the root mean square of what is left, one for all columns.

    Raises:
        InputError: where all data points are equal, so that a density has no scale.
    """
    mean = x.mean(0)
    spread = (x - mean).square().mean().sqrt()
    if not spread > 0:
        raise InputError("all data points are equal, so that a Gaussian likelihood has no scale: take other data")
    return mean, spread
