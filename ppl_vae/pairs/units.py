"""What has a log-weight of its own: each data point, or the whole data set where its points share a latent.

Where every site of both programs lies in the plate that holds the data, log p(x, z) - log q(z | x) is a sum over data
points, each with a term of its own. A latent outside of that plate, the weights of a regression, say, belongs to all
of them, and then one draw of everything has one log-weight.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
from pyro.distributions.util import scale_and_mask
from pyro.poutine import Trace
from torch import Tensor

from ppl_vae.errors import InputError
from ppl_vae.pairs.arguments import Batch, batch_size
from ppl_vae.pairs.densities import log_density
from ppl_vae.pairs.traces import DATA_PLATE, PARTICLE_PLATE, Site, plates_below, random_sites


@dataclass(frozen=True)
class Unit:
    """What has a log-weight of its own, and where it lies in the shapes of a pair's densities.

    Attributes:
        whole: True where it is the whole data set, False where it is a data point.
        plate: the name of the plate that holds the data; None where no plate can be told to.
        nesting: how many plates the programs have, that of the data included: the particles are a plate outside all.
        subsampled: the plate that shows some of its elements only, which are scaled up to stand for all; None where
            there is none.
        fraction: the share of its elements that it shows.
        random: True where those that it shows are others in each run.
    """

    whole: bool
    plate: str | None
    nesting: int
    subsampled: str | None = None
    fraction: float = 1.0
    random: bool = False

    @property
    def has_parts(self) -> bool:
        """Whether the log-weight of the whole data set has a part of each data point, the same ones in each run."""
        return self.whole and self.plate is not None and not self.random

    def zeros(self, batch: Batch, particles: int) -> Tensor:
        """Makes zeros of shape (particles, units) on the data's device.

        They have torch's default type: what is added to them, in another floating-point type, decides that of the sum.
        """
        return torch.zeros(particles, 1 if self.whole else batch_size(batch), device=batch[0].device)

    def sum(self, sites: list[Site], zeros: Tensor) -> Tensor:
        """Sums the log-density of some sites of a trace by particle and unit, to the shape of zeros, in nats."""
        return sum((self._reduced(site, self._density(site), zeros) for site in sites), zeros)

    def by_point(self, sites: list[Site], batch: Batch, particles: int) -> Tensor:
        """Sums the log-density of those sites that lie in the plate of the data, by particle and data point.

        Nothing is scaled up. The shape is (particles, points).
        """
        points = Unit(False, self.plate, self.nesting)
        return points.sum([site for site in sites if self.plate in plates_of(site)], points.zeros(batch, particles))

    def sum_and_points(self, sites: list[Site], zeros: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
        """Returns what :meth:`sum` and :meth:`by_point` do, for one pass over the densities; zeros of both shapes."""
        of_points = Unit(False, self.plate, self.nesting)
        total = zeros
        for site in sites:
            log_prob = self._density(site)
            if self.plate in plates_of(site):
                log_prob = of_points._reduced(site, log_prob, points)
                points = points + log_prob
                stands_for = _scale(site, None) / _scale(site, self.plate)
                total = total + log_prob.sum(1, keepdim=True, dtype=torch.float64) * stands_for
            else:
                total = total + self._reduced(site, log_prob, zeros)
        return total, points

    def split(self, model_trace: Trace, zeros: Tensor) -> tuple[Tensor, Tensor]:
        """Returns log p(z) and log p(x | z) of a trace, each of the shape of zeros.

        A guide's auxiliary sites in the model count as latents.
        """
        sites = random_sites(model_trace)
        latent = self.sum([site for site in sites if not site["is_observed"]], zeros)
        return latent, self.sum([site for site in sites if site["is_observed"]], zeros)

    def data_dimension(self, site: Site) -> int:
        """Returns the dimension of a site's plate of the data, counted from the right of its batch shape."""
        return int(plates_of(site)[self.plate or ""].dim)

    def _density(self, site: Site) -> Tensor:
        log_prob = log_density(site["fn"], site["value"], *site["args"], **site["kwargs"])
        return scale_and_mask(log_prob, 1.0, site["mask"])

    def _reduced(self, site: Site, log_prob: Tensor, like: Tensor) -> Tensor:
        """Sums a site's log-density over all dimensions but those of particles and units, to another's shape."""
        shape = (like.shape[0], like.shape[1])
        kept = [-1 - self.nesting] if self.whole else [-1 - self.nesting, self.data_dimension(site)]
        others = [dim for dim in range(-log_prob.dim(), 0) if dim not in kept]
        if others:  # float32 has no digits left behind the point for the sum of 100,000 rows
            log_prob = log_prob.sum(others, dtype=torch.float64 if self.whole else None)
        if self.whole:
            log_prob = log_prob.reshape(-1, 1).double()
        elif plates_of(site)[self.plate or ""].size != shape[1] or log_prob.shape[-1:] not in {(), (1,), (shape[1],)}:
            raise InputError(
                f"site {site['name']!r} has log-densities of shape {tuple(log_prob.shape)}, expected {shape} "
                f"(particles, data points): its plate is {self.plate!r}, make it as long as the batch, len(x)"
            )
        # not poutine.scale, which is a weight: a density of all the data is made of those that are shown
        scale = _scale(site, None if self.whole else self.plate)
        return (log_prob if scale == 1 else log_prob * scale).expand(shape)


def unit_of(guide_trace: Trace, model_trace: Trace, size: int, plate: str | None = None) -> Unit:
    """Finds out what has a log-weight of its own.

    Args:
        guide_trace: a run of the guide, in which particles are no plate or the outermost one.
        model_trace: one of the model on its draws.
        size: the number of rows of the data.
        plate: the name of the plate that holds the data, where it is known.

    Raises:
        InputError: for a name that no plate has, and where several plates may hold the data.
    """
    sites = [site for trace in (guide_trace, model_trace) for site in random_sites(trace)]
    nesting = plates_below(guide_trace, model_trace)
    held = [plates_of(site) for site in sites]
    known = {name: frame for frames in held for name, frame in frames.items()}
    if plate is not None and plate not in known:
        raise InputError(f"there is no plate {plate!r} in model and guide; their plates are {sorted(known) or 'none'}")
    around_all = set(known).intersection(*map(set, held))
    chosen = plate or (DATA_PLATE if DATA_PLATE in around_all else None)
    rows = [name for name in sorted(around_all) if known[name].size == size]
    if chosen in around_all and known[chosen].size != size and known[chosen].full_size == size:
        around_all = set()  # it shows some of the rows, others in each run
    elif chosen is None and len(rows) > 1:
        raise InputError(
            f"the plates {' and '.join(map(repr, rows))} both have {size} elements, as many as there are data points: "
            f"rename the one that holds the data to {DATA_PLATE!r}, or say which it is, by plate={rows[0]!r}"
        )
    point = chosen if chosen in around_all else rows[0] if chosen is None and rows else None
    if point is None:
        chosen = plate or _plate_of_observed(model_trace, size)
    shown = [frame for site in sites for frame in site["cond_indep_stack"] if _is_subsampled(frame, point)]
    name = shown[0].name if shown else None
    fraction = min((frame.size / frame.full_size for frame in shown), default=1.0)
    random = bool(shown) and not (name == (point or chosen) and shown[0].size == size)
    return Unit(point is None, point or chosen, nesting, name, fraction, random)


def plates_of(site: Site) -> dict[Any, Any]:
    """Returns a site's plates by name, that of the particles not among them."""
    return {
        frame.name: frame for frame in site["cond_indep_stack"] if frame.vectorized and frame.name != PARTICLE_PLATE
    }


def _plate_of_observed(model_trace: Trace, size: int) -> str | None:
    """Names the plate of what is observed with an element for each row of the data; None where one can't be told."""
    observed = [plates_of(site) for site in random_sites(model_trace) if site["is_observed"]]
    fitting = {name for frames in observed for name, frame in frames.items() if size in (frame.size, frame.full_size)}
    if DATA_PLATE in fitting:
        return DATA_PLATE
    return fitting.pop() if len(fitting) == 1 else None


def _is_subsampled(frame: Any, point: str | None) -> bool:
    return frame.full_size not in (None, frame.size) and frame.name != point


def _scale(site: Site, point: str | None) -> float:
    """Says how many elements one that is shown stands for, in all plates of a site but that of the unit."""
    frames = site["cond_indep_stack"]
    return math.prod(frame.full_size / frame.size for frame in frames if _is_subsampled(frame, point))
