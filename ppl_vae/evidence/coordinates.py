"""The continuous latents of a program as one unconstrained vector."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.distributions import biject_to, transforms

from ppl_vae.errors import InputError
from ppl_vae.pairs.latents import latent_values, nesting_of, run
from ppl_vae.pairs.modules import Program
from ppl_vae.pairs.restore import random_state_kept
from ppl_vae.pairs.traces import (
    data_dimension,
    random_sites,
)


@dataclass(frozen=True)
class _Site:
    name: str
    axes: tuple[int, int]  # of the particles and the data points in the unconstrained value
    rest: torch.Size  # its other dimensions
    transform: transforms.Transform


class Coordinates:
    """The continuous latents of a model as one unconstrained vector u for each particle and data point.

    Args:
        model: any Pyro program whose latents live in the plate "data".
        batch: its arguments.

    Attributes:
        dim: the length of u.
        nesting: how many plates of the model's own lie below the particles.

    Raises:
        InputError: for a discrete latent, one outside the plate "data", or none at all.
    """

    def __init__(self, model: Program, batch: tuple[Any, ...]) -> None:
        self.nesting = nesting_of(model, batch)
        with random_state_kept(), torch.no_grad():
            trace = run(model, batch, 2, self.nesting)
        self._sites: list[_Site] = []
        self.dim = 0
        for site in random_sites(trace):
            if site["is_observed"]:
                continue
            if site["fn"].support.is_discrete:
                raise InputError(
                    f"the latent {site['name']!r} is discrete: annealing and quadrature move through real numbers; "
                    "take evidence='exact' where its values can be counted, or 'importance'"
                )
            transform = biject_to(site["fn"].support)
            free = transform.inv(site["value"])
            data_dim = data_dimension(site)
            left = len(site["fn"].batch_shape)
            axes = (left - 1 - self.nesting, left + data_dim)
            rest = free.movedim(axes, (0, 1)).shape[2:]
            self._sites.append(_Site(site["name"], axes, rest, transform))
            self.dim += rest.numel()

        if not self._sites:
            raise InputError("the model has no latents to move through: its log p(x) is the density that it observes")

    def vector(self, values: dict[str, Tensor]) -> Tensor:
        """The latents of a trace to u, shape (particles, batch, dim)."""
        parts = []
        for site in self._sites:
            free = site.transform.inv(values[site.name]).movedim(site.axes, (0, 1))
            parts.append(free.reshape(*free.shape[:2], -1))
        return torch.cat(parts, -1)

    def values(self, u: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """The latents at u, and log |dz / du| of shape (particles, batch)."""
        found, log_det = {}, u.new_zeros(u.shape[:2])
        for site, part in zip(self._sites, u.split([site.rest.numel() for site in self._sites], -1), strict=True):
            free = part.reshape(*part.shape[:2], *site.rest).movedim((0, 1), site.axes)
            found[site.name] = value = site.transform(free)
            change = site.transform.log_abs_det_jacobian(free, value).movedim(site.axes, (0, 1))
            log_det = log_det + change.reshape(*log_det.shape, -1).sum(-1)
        return found, log_det

    def from_prior(self, model: Program, batch: tuple[Any, ...], particles: int) -> Tensor:
        """u of latents drawn from p(z)."""
        return self.vector(latent_values(run(model, batch, particles, self.nesting)))
