"""The continuous latents of a program as one unconstrained vector."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.distributions import biject_to, transforms

from ppl_vae.errors import InputError
from ppl_vae.pairs.arguments import Batch
from ppl_vae.pairs.pair import Pair
from ppl_vae.pairs.traces import data_dimension


@dataclass(frozen=True)
class _Site:
    name: str
    axes: tuple[int, int]  # of the particles and the data points in the unconstrained value
    rest: torch.Size  # its other dimensions
    transform: transforms.Transform


class Coordinates:
    """The continuous latents of a pair's model as one unconstrained vector u for each particle and data point.

    Args:
        pair: the pair.
        part: the arguments for some of its data points, whose latents may have supports of their own.

    Attributes:
        dim: the length of u.

    Raises:
        InputError: for a discrete latent, or none at all.
    """

    def __init__(self, pair: Pair, part: Batch) -> None:
        self._sites: list[_Site] = []
        self.dim = 0
        for site in pair.latents(part):
            if site["fn"].support.is_discrete:
                raise InputError(
                    f"the latent {site['name']!r} is discrete: annealing and quadrature move through real numbers; "
                    "take evidence='exact' where its values can be counted, or 'importance'"
                )
            transform = biject_to(site["fn"].support)
            free = transform.inv(site["value"])
            data_dim = data_dimension(site)
            left = len(site["fn"].batch_shape)
            axes = (left - 1 - pair.nesting, left + data_dim)
            rest = free.movedim(axes, (0, 1)).shape[2:]
            self._sites.append(_Site(site["name"], axes, rest, transform))
            self.dim += rest.numel()

        if not self._sites:
            raise InputError("the model has no latents to move through: its log p(x) is the density that it observes")

    def vector(self, values: dict[str, Tensor]) -> Tensor:
        """Turns the latents of a trace into u, shape (particles, batch, dim)."""
        parts = []
        for site in self._sites:
            free = site.transform.inv(values[site.name]).movedim(site.axes, (0, 1))
            parts.append(free.reshape(*free.shape[:2], -1))
        return torch.cat(parts, -1)

    def values(self, u: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """Turns u into the latents by name, and gives log |dz / du| of shape (particles, batch)."""
        latents, log_det = {}, u.new_zeros(u.shape[:2])
        for site, part in zip(self._sites, u.split([site.rest.numel() for site in self._sites], -1), strict=True):
            free = part.reshape(*part.shape[:2], *site.rest).movedim((0, 1), site.axes)
            latents[site.name] = value = site.transform(free)
            change = site.transform.log_abs_det_jacobian(free, value).movedim(site.axes, (0, 1))
            log_det = log_det + change.reshape(*log_det.shape, -1).sum(-1)
        return latents, log_det
