"""A model and its guide on some data: probed once, then run in bounded memory for everything that is measured."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pyro
import torch
from pyro.infer.util import is_validation_enabled
from pyro.poutine import Trace, uncondition
from torch import Tensor

from ppl_vae.errors import InputError, require_count
from ppl_vae.graphs.private import TorchDispatchMode
from ppl_vae.pairs.arguments import Batch, Data, batch_of, batch_size, device_of, rows
from ppl_vae.pairs.checks import explained
from ppl_vae.pairs.mistakes import require_sound, seen
from ppl_vae.pairs.modules import Program, follows_rows
from ppl_vae.pairs.progress import stage
from ppl_vae.pairs.replayed import ReplayedRun
from ppl_vae.pairs.restore import evaluating, local_parameters, random_state_kept, seeded, store_kept
from ppl_vae.pairs.runs import Run, Terms, run, zeros_for
from ppl_vae.pairs.traces import (
    Site,
    bounds_evidence,
    data_dimension,
    latent_sites,
    latent_values,
    plates_below,
    prior_of,
    random_sites,
    split_density,
    sum_density,
    trace,
    trace_guide,
    trace_model,
)

# Of the largest tensor of a chunk: a few such tensors fit the processor's cache, and their memory is used again.
CHUNK_BYTES = 2**22
_FEW = 4  # data points of the probe
# From so many particles on, values are validated beforehand, once a data point, and not again in every run.
_MANY = 8


@dataclass(frozen=True, kw_only=True)
class Draws(Terms):
    """What a pair gives for some of the data: the terms of the log-weights, and the draws.

    Attributes:
        latents: the draws by name, shape (particles, points, event); empty where plates lie below the data.
    """

    latents: dict[str, Tensor]


class Pair:
    """A model and its guide with data: what every measurement is made from, and the only thing that runs programs.

    It runs both once on a few data points (random numbers, parameters and modes are left as they were) to learn what
    the other methods need. Data may lie on another device than the parameters: what runs is moved, chunk by chunk.

    Args:
        model: any Pyro program whose local latents live in the plate "data".
        guide: its guide, called with the same arguments; None for the model by itself, whose latents come from its
            prior.
        data: a tensor, a tuple of tensors (one row a data point) or a DataLoader: the arguments of both.
        placeholder: whether the data are there for their shapes only: the likelihood's support need not hold them.

    Attributes:
        batch: the data as a tuple, where they were.
        size: the number of data points.
        device: where the pair runs.
        nesting: how many plates the programs have, that of the data included: the particles are a plate outside all.
        largest_bytes: the largest tensor that any operation makes, for one particle of one data point.
        is_bound: False where a latent of the guide is a point mass, so that log w bounds nothing.
        sites: the model's random sites in a run of two particles.

    Raises:
        InputError: in the words of :func:`ppl_vae.check`, where the two are no pair or the data don't fit them.
    """

    def __init__(self, model: Program, guide: Program | None, data: Data, *, placeholder: bool = False) -> None:
        self.model, self.own_guide = model, guide  # None where the model is by itself: then ``guide`` is its prior
        self.guide: Program = prior_of(model) if guide is None else guide
        self.batch = batch_of(data)
        self.size = batch_size(self.batch)
        self.device = device_of(self.batch, model, guide)
        self._checked = placeholder
        self._probe(placeholder)

    def _probe(self, placeholder: bool) -> None:
        """Runs both programs by themselves, which shows their plates, then two particles at once, which shows sizes."""
        points = min(self.size, _FEW) if follows_rows(self.own_guide) else self.size
        part = self.rows(0, points)
        validated = pyro.validation_enabled(is_validation_enabled() and not placeholder)
        with self.measuring(), random_state_kept(), validated, self._explained(self.batch), self._parameters():
            guide_trace = trace_guide(self.guide, part, 1, 0)
            model_trace = trace_model(self.model, guide_trace, part, 1, 0)
            for line in () if placeholder else seen(guide_trace, model_trace):
                raise InputError(line)
            for site in (*random_sites(model_trace), *random_sites(guide_trace)):
                data_dimension(site)
            self.nesting = plates_below(guide_trace, model_trace)
            self.is_bound = bounds_evidence(guide_trace)
            with LargestOutput() as largest:
                together = run(self.model, self.guide, part, 2, self.nesting)
        self.largest_bytes = max(1, largest.bytes // (2 * points))
        self.sites = random_sites(together.model)

    def with_guide(self, guide: Program, *more: Tensor) -> "Pair":
        """Returns the same model and data with another guide of the same shapes, without another probe.

        What the guide takes beside the data is given to both programs.
        """
        other = object.__new__(Pair)
        vars(other).update(vars(self))
        other.guide = other.own_guide = guide
        other.batch = (*self.batch, *more)
        return other

    def alone(self) -> "Pair":
        """Returns the same model and data without the guide, and without another probe."""
        other = self.with_guide(prior_of(self.model))
        other.own_guide = None
        return other

    def rows(self, start: int, stop: int) -> Batch:
        """Returns the arguments for the data points from start to stop, on the pair's device."""
        return rows(self.batch, self.size, start, stop, self.device)

    def parts(self, particles: int, memory: int | None = None) -> Iterator[Batch]:
        """Cuts the data into parts, so many particles of which fit the memory."""
        points = self._points(particles, memory or CHUNK_BYTES)
        for start in range(0, self.size, points):
            yield self.rows(start, start + points)

    def _points(self, particles: int, memory: int) -> int:
        if not follows_rows(self.own_guide):
            return self.size
        return min(self.size, max(1, memory // (self.largest_bytes * particles)))

    def run(self, part: Batch, particles: int) -> Run:
        """Runs both programs once on a part of the data."""
        with self._parameters():
            return run(self.model, self.guide, part, particles, self.nesting)

    def weigh(self, part: Batch, particles: int) -> Tensor:
        """Returns the log-weights of one run, shape (particles, points), in nats, differentiable as Pyro's traces."""
        return self.run(part, particles).log_weights

    def chunks(self, particles: int) -> Iterator[Draws]:
        """Draws for all data points in their order, a few points at a time, in bounded memory.

        Raises:
            InputError: for fewer particles than one, and for data outside the likelihood's support or latents outside
                the prior's, in the words of :func:`ppl_vae.check`.
        """
        require_count("particles", particles, 1)
        at_once = min(particles, max(1, CHUNK_BYTES // self.largest_bytes))
        checked = particles >= _MANY and is_validation_enabled()
        if checked:  # every data point once, not for every particle: it takes a pass over each tensor
            self.require_sound()
        points = self._points(particles, CHUNK_BYTES)
        runs = -(-self.size // points) * -(-particles // at_once)
        repeated = ReplayedRun(self._programs(), self._terms, runs)
        names = [site["name"] for site in self.sites if not site["is_observed"]] if self.nesting == 1 else []
        for part in self.parts(particles):
            with pyro.validation_enabled(is_validation_enabled() and not checked), self._explained(part):
                drawn = [repeated(part, min(at_once, particles - done)) for done in range(0, particles, at_once)]
            joined = drawn[0] if len(drawn) == 1 else [torch.cat(parts) for parts in zip(*drawn, strict=True)]
            prior, likelihood, proposed, *latents = joined
            by_name = dict(zip(names, latents, strict=True))
            draws = Draws(prior=prior, likelihood=likelihood, proposed=proposed, latents=by_name)
            if not draws.log_weights.isfinite().all():
                require_sound(self.model, self.own_guide, part)
            yield draws

    def each(
        self,
        particles: int,
        take: Callable[[Draws], object],
        description: str,
        progress: bool,
        shorten: str = "particles",
    ) -> None:
        """Gives the draws of :meth:`chunks` to a function, and shows how far it is; see :func:`stage`."""
        with stage(description, self.size, progress, shorten=shorten) as advance:
            for draws in self.chunks(particles):
                take(draws)
                advance(draws.log_weights.shape[1])

    def _terms(self, part: Batch, particles: int) -> list[Tensor]:
        """Returns the three terms of one run, and its latents where each data point has a value of its own."""
        once = self.run(part, particles)
        latents = once.latents().values() if self.nesting == 1 else ()
        return [once.prior, once.likelihood, once.proposed, *latents]

    def log_joint(self, part: Batch, values: dict[str, Tensor], particles: int) -> tuple[Tensor, Tensor]:
        """Returns log p(z) and log p(x | z) at the values, each of shape (particles, points), in nats."""
        return split_density(self.model_at(part, values, particles), self.nesting, zeros_for(part, particles))

    def model_at(self, part: Batch, values: dict[str, Tensor] | None = None, particles: int | None = None) -> Trace:
        """Runs the model at the values of its latents; where None, they are drawn, and in no plate of particles."""
        with local_parameters(self.model):
            return trace(self.model, part, particles, self.nesting, values)

    def generated(self, part: Batch) -> Trace:
        """Runs the model with all of its sites drawn, observed ones too, and one particle in a plate."""
        with local_parameters(self.model):
            return trace(uncondition(self.model), part, 1, self.nesting)

    def log_guide(self, part: Batch, values: dict[str, Tensor], particles: int) -> Tensor:
        """Returns log q(z | x) at the values, shape (particles, points), in nats.

        Raises InputError where the guide has other sites than the model.
        """
        with self._parameters():
            sites = random_sites(trace(self.guide, part, particles, self.nesting, values))
        names = sorted(site["name"] for site in sites)
        if names != sorted(values):
            raise InputError(
                f"the guide samples {names}, the model's latents are {sorted(values)}: a density of given latents "
                "needs a guide of just these sites (an autoguide draws them all from one of its own)"
            )
        return sum_density(sites, self.nesting, zeros_for(part, particles))

    def proposals(self, part: Batch, particles: int) -> dict[str, Tensor]:
        """Draws from the guide; the draws are by name, with the particles in their first dimension."""
        with self._parameters():
            return latent_values(trace(self.guide, part, particles, self.nesting))

    def latents(self, part: Batch) -> list[Site]:
        """Returns the model's latent sites on a part of the data, in a run of two particles."""
        with random_state_kept(), torch.no_grad():
            return latent_sites(self.model_at(part, particles=2))

    def require_sound(self) -> None:
        """Raises InputError with the first mistake that one draw for each data point shows; looks once."""
        if not self._checked:
            require_sound(self.model, self.own_guide, self.batch)
            self._checked = True

    @contextmanager
    def measuring(self, seed: int | None = None) -> Iterator[None]:
        """Puts modules in eval mode without gradients and, with a seed, draws by it; puts all back afterwards."""
        with evaluating(self.model, self.own_guide), seeded(seed), store_kept():
            yield

    def _explained(self, part: Batch) -> Any:
        return explained(self.model, self.own_guide, part)

    def _parameters(self) -> Any:
        return local_parameters(*self._programs())

    def _programs(self) -> tuple[Program, ...]:
        return (self.model,) if self.own_guide is None else (self.model, self.own_guide)


class LargestOutput(TorchDispatchMode):
    """Notes the largest tensor that an operation makes."""

    bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, tuple | list) else (result,):
            if isinstance(tensor, Tensor) and not func.is_view:
                self.bytes = max(self.bytes, tensor.numel() * tensor.element_size())
        return result
