"""What is learned of a model and its guide by running both once: what has a log-weight, plates, sizes, the device."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pyro
import torch
from pyro.infer.util import is_validation_enabled
from pyro.poutine import Trace
from torch import Tensor

from ppl_vae.errors import InputError
from ppl_vae.pairs.arguments import Batch, Data, batch_of, batch_size, device_of, rows
from ppl_vae.pairs.checks import explained
from ppl_vae.pairs.draws import LargestOutput
from ppl_vae.pairs.mistakes import seen
from ppl_vae.pairs.modules import Program
from ppl_vae.pairs.restore import evaluating, local_parameters, random_state_kept, seeded, store_kept
from ppl_vae.pairs.runs import Run, first_run, run, stacked
from ppl_vae.pairs.traces import (
    Site,
    bounds_evidence,
    deterministic_sites,
    latent_sites,
    prior_of,
    random_sites,
    trace,
    trace_guide,
)


class Probed:
    """What is known of a model and its guide with data.

    It runs both once (random numbers, parameters and modes are left as they were) to learn what the other methods need:
    on a few data points, on all where these share latents or where the programs take no fewer. Data may lie on another
    device than the parameters: what runs is moved, chunk by chunk.

    Args:
        model: any Pyro program.
        guide: its guide, called with the same arguments; None for the model by itself, whose latents come from its
            prior.
        data: a tensor, a tuple of tensors (one row a data point) or a DataLoader: the arguments of both.
        plate: the name of the plate that holds the data, where it can't be told.
        placeholder: whether the data are there for their shapes only: the likelihood's support need not hold them.

    Attributes:
        batch: the data as a tuple, where they were.
        size: the number of data points.
        unit: what has a log-weight of its own; see :mod:`ppl_vae.pairs.units`.
        device: where the pair runs.
        nesting: how many dimensions the programs have of their own: the particles are a plate outside all.
        cuttable: whether the programs can be run on a part of the data.
        vectorized: whether they can be run with many particles at once; else one is run after the other.
        largest_bytes: the largest tensor that any operation makes, for one particle of one data point.
        is_bound: False where a latent of the guide is a point mass, so that log w bounds nothing.
        sites: the model's random sites in a run of one particle.
        deterministic: its sites of ``pyro.deterministic``.

    Raises:
        InputError: in the words of :func:`ppl_vae.check`, where the two are no pair or the data don't fit them.
    """

    def __init__(
        self,
        model: Program,
        guide: Program | None,
        data: Data,
        *,
        plate: str | None = None,
        placeholder: bool = False,
    ) -> None:
        self.model, self.own_guide = model, guide  # None where the model is by itself: then ``guide`` is its prior
        self.guide: Program = prior_of(model) if guide is None else guide
        self.batch = batch_of(data)
        self.size = batch_size(self.batch)
        self.device = device_of(self.batch, model, guide)
        self._plate = plate
        self._checked = placeholder
        self._probe(placeholder)

    def _probe(self, placeholder: bool) -> None:
        """Runs both programs by themselves, which shows their plates, then two particles at once, which shows sizes."""
        validated = pyro.validation_enabled(is_validation_enabled() and not placeholder)
        with self.measuring(), random_state_kept(), validated, self._explained(self.batch), self._parameters():
            part, first = first_run(self._alone, self.batch, (self.model, self.own_guide), self.device)
            self.unit = first.unit
            points = batch_size(part)
            self.cuttable = points < self.size
            for line in () if placeholder else seen(first.guide, first.model):
                raise InputError(line)
            self.nesting, self.sites = self.unit.nesting, random_sites(first.model)
            own = (*random_sites(first.guide), *self.sites)
            self.deterministic = deterministic_sites(first.model)
            self._own = {site["name"]: len(site["fn"].batch_shape) for site in (*own, *self.deterministic)}
            self._events = {site["name"]: len(site["fn"].event_shape) for site in self.deterministic}
            with LargestOutput() as largest:
                self.vectorized = self._particles_are_free(part)
            self.is_bound = bounds_evidence(first.guide, lambda: trace_guide(self.guide, part, 1, 0))
        self.largest_bytes = max(1, largest.bytes // (2 * points))

    def _alone(self, part: Batch) -> Run:
        return run(self.model, self.guide, part, 1, 0, plate=self._plate)

    def _particles_are_free(self, part: Batch) -> bool:
        """Says whether, of two particles at once, one has the density in the model that it has by itself."""
        try:
            together = run(self.model, self.guide, part, 2, self.nesting, plate=self._plate)
            values = {site["name"]: self._stacked(site, 2)[1] for site in latent_sites(together.model)}
        except Exception:  # whatever a program does that a dimension more on the left breaks
            return False
        other = self.unit.split(self.model_at(part, values), self.unit.zeros(part, 1))
        pairs = zip((together.prior, together.likelihood), other, strict=True)
        return all(torch.allclose(ours[1], alone[0], 1e-3, 1e-3, equal_nan=True) for ours, alone in pairs)

    def _stacked(self, site: Site, particles: int) -> Tensor:
        events = self._events.get(site["name"], len(site["fn"].event_shape))
        if len(site["fn"].event_shape) > events:  # pyro.deterministic without event_dim takes particles for an event's
            return site["value"].reshape(particles, *site["value"].shape[site["value"].dim() - events :])
        return stacked(site, particles, self.nesting, self._own[site["name"]])

    @property
    def units(self) -> int:
        """The number of log-weights of one particle."""
        return 1 if self.unit.whole else self.size

    def require_all(self, what: str) -> None:
        """Raises InputError where a plate shows a part of its elements: what is asked for is not to be had of them."""
        if self.unit.subsampled is not None:
            raise InputError(
                f"the plate {self.unit.subsampled!r} shows {self.unit.fraction:.3g} of its elements, of which "
                f"{what} can't be had, but the ELBO alone (bounds with curve=[1]): give all the data, and a plate that "
                "does not subsample"
            )

    def rows(self, start: int, stop: int) -> Batch:
        """Returns the arguments for the data points from start to stop, on the pair's device."""
        return rows(self.batch, self.size, start, stop, self.device)

    def model_at(self, part: Batch, values: dict[str, Tensor] | None = None, particles: int | None = None) -> Trace:
        """Runs the model at the values of its latents; where None, they are drawn, and in no plate of particles."""
        with local_parameters(self.model):
            return trace(self.model, part, particles, self.nesting, values)

    @contextmanager
    def measuring(self, seed: int | None = None) -> Iterator[None]:
        """Puts modules in eval mode without gradients and, with a seed, draws by it; puts all back afterwards."""
        with evaluating(self.model, self.own_guide), seeded(seed), store_kept():
            yield

    def _explained(self, part: Batch) -> Any:
        return explained(self.model, self.own_guide, part, self._plate)

    def _parameters(self) -> Any:
        return local_parameters(*self._programs())

    def _programs(self) -> tuple[Program, ...]:
        return (self.model,) if self.own_guide is None else (self.model, self.own_guide)
