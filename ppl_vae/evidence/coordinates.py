"""The continuous latents of a pair as one unconstrained vector."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.distributions import biject_to, transforms

from ppl_vae.errors import InputError
from ppl_vae.pairs.arguments import Batch
from ppl_vae.pairs.pair import Pair


@dataclass(frozen=True)
class _Site:
    name: str
    axis: int | None  # of the data points in the unconstrained value, behind the particles; None for the whole data set
    rest: torch.Size  # its other dimensions
    transform: transforms.Transform

    def by_unit(self, value: Tensor) -> Tensor:
        """Flattens a value, particles first, to shape (particles, units, numbers)."""
        moved = value.unsqueeze(1) if self.axis is None else value.movedim(self.axis, 1)
        return moved.reshape(*moved.shape[:2], -1)


class Coordinates:
    """The continuous latents that a pair draws, as one unconstrained vector u for each particle and unit.

    They are the model's latents, or where a guide makes these of draws of its own, as autoguides do, those draws.

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
            free = transform.inv(site["value"])[None]
            whole = pair.unit.whole
            axis = None if whole else 1 + len(site["fn"].batch_shape) + pair.unit.data_dimension(site)
            rest = free.shape[1:] if axis is None else free.movedim(axis, 1).shape[2:]
            self._sites.append(_Site(site["name"], axis, rest, transform))
            self.dim += rest.numel()

        if not self._sites:
            raise InputError("the model has no latents to move through: its log p(x) is the density that it observes")

    def vector(self, values: dict[str, Tensor]) -> Tensor:
        """Turns latents by name, particles first, into u, shape (particles, units, dim)."""
        return torch.cat([site.by_unit(site.transform.inv(values[site.name])) for site in self._sites], -1)

    def values(self, u: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """Turns u into the latents by name, and gives log |dz / du| of shape (particles, units)."""
        latents, log_det = {}, u.new_zeros(u.shape[:2])
        for site, part in zip(self._sites, u.split([site.rest.numel() for site in self._sites], -1), strict=True):
            if site.axis is None:
                free = part.reshape(len(part), *site.rest)
            else:
                free = part.reshape(*part.shape[:2], *site.rest).movedim(1, site.axis)
            latents[site.name] = value = site.transform(free)
            change = site.transform.log_abs_det_jacobian(free, value)
            log_det = log_det + site.by_unit(change).sum(-1)
        return latents, log_det
