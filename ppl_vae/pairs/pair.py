"""A model and its guide on some data: probed once, then run in bounded memory for everything that is measured."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import pyro
import torch
from pyro.infer.util import is_validation_enabled
from pyro.poutine import Trace, uncondition
from torch import Tensor

from ppl_vae.errors import InputError, require_count
from ppl_vae.pairs.arguments import Batch
from ppl_vae.pairs.draws import Draws, mean_and_variance
from ppl_vae.pairs.mistakes import require_sound
from ppl_vae.pairs.modules import Program
from ppl_vae.pairs.probed import Probed
from ppl_vae.pairs.progress import stage
from ppl_vae.pairs.replayed import ReplayedRun
from ppl_vae.pairs.restore import local_parameters, random_state_kept
from ppl_vae.pairs.runs import Run, run
from ppl_vae.pairs.traces import (
    Site,
    is_auxiliary,
    latent_sites,
    prior_of,
    random_sites,
    trace,
    trace_guide,
    trace_model,
)

# Of the largest tensor of a chunk: a few such tensors fit the processor's cache, and their memory is used again.
CHUNK_BYTES = 2**22
# From so many particles on, values are validated beforehand, once a data point, and not again in every run.
_MANY = 8


class Pair(Probed):
    """A model and its guide with data: what every measurement is made from, and the only thing that runs programs.

    Its arguments and attributes, and what it raises, are those of :class:`ppl_vae.pairs.probed.Probed`.
    """

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

    def parts(self, particles: int, memory: int | None = None) -> Iterator[Batch]:
        """Cuts the data into parts, so many particles of which fit the memory."""
        points = self._points(particles, memory or CHUNK_BYTES)
        for start in range(0, self.size, points):
            yield self.rows(start, start + points)

    def _points(self, particles: int, memory: int) -> int:
        if not self.cuttable:
            return self.size
        return min(self.size, max(1, memory // (self.largest_bytes * particles)))

    def _particles_at_once(self, particles: int) -> int:
        """Says how many particles to run at once: each shows a part of its own of a plate that subsamples."""
        if not self.vectorized or self.unit.subsampled is not None:
            return 1
        return min(particles, max(1, CHUNK_BYTES // (self.largest_bytes * (1 if self.cuttable else self.size))))

    def repeated(self, run: Callable[[Batch, int], Sequence[Any]], expected: int) -> ReplayedRun:
        """Makes a function that runs this pair so often that a graph of it may be worth while, with the same numbers.

        Args:
            run: takes tensors and a number of particles; see :class:`ppl_vae.pairs.replayed.ReplayedRun`.
            expected: how many runs are to come.
        """
        return ReplayedRun(self._programs(), run, expected)

    def run(self, part: Batch, particles: int) -> list[Run]:
        """Runs both programs on a part of the data: at once where they can take many particles, else so many times."""
        counts = [particles] if self.vectorized else [1] * particles
        with self._parameters():
            return [run(self.model, self.guide, part, count, self.nesting, plate=self._plate) for count in counts]

    def weigh(self, part: Batch, particles: int) -> Tensor:
        """Returns the log-weights of one run, shape (particles, units), in nats, differentiable as Pyro's traces."""
        return torch.cat([once.log_weights for once in self.run(part, particles)])

    def chunks(self, particles: int, *, latents: bool = False) -> Iterator[Draws]:
        """Draws for all units in their order, a few data points at a time, in bounded memory.

        Args:
            particles: draws of each unit.
            latents: keep the draws where the unit is the whole data set, too.

        Raises:
            InputError: for fewer particles than one, and for data outside the likelihood's support or latents outside
                the prior's, in the words of :func:`ppl_vae.check`.
        """
        require_count("particles", particles, 1)
        at_once = self._particles_at_once(particles)
        checked = particles >= _MANY and is_validation_enabled()
        if checked:  # every data point once, not for every particle: it takes a pass over each tensor
            self.require_sound()
        points = self._points(particles, CHUNK_BYTES)
        runs = -(-self.size // points) * -(-particles // at_once)
        kept = latents if self.unit.whole else self.nesting == 1
        repeated = self.repeated(partial(self._terms, latents=kept), runs)
        names = [site["name"] for site in self.sites if not site["is_observed"]] if kept else []
        by_point = self.unit.has_parts
        for part in self.parts(particles):
            with pyro.validation_enabled(is_validation_enabled() and not checked), self._explained(part):
                drawn: list[list[Tensor]] = []
                sums: list[Tensor] = []  # of what each data point adds, and of its square
                for done in range(0, particles, at_once):
                    terms = list(repeated(part, min(at_once, particles - done)))
                    added = [terms.pop(), terms.pop()] if by_point else []
                    sums = [old + new for old, new in zip(sums, added, strict=True)] if sums else added
                    drawn.append(terms)
            joined = drawn[0] if len(drawn) == 1 else [torch.cat(parts) for parts in zip(*drawn, strict=True)]
            prior, likelihood, proposed, *values = joined
            shared = {"shared": values.pop(0)} if by_point else {}
            draws = Draws(
                prior=prior,
                likelihood=likelihood,
                proposed=proposed,
                latents=dict(zip(names, values, strict=True)),
                points=mean_and_variance(sums[0], sums[1], particles) if sums else None,
                **shared,
            )
            if not draws.log_weights.isfinite().all():
                require_sound(self.model, self.own_guide, part, cut=self.cuttable)
            yield draws

    def each(
        self,
        particles: int,
        take: Callable[[Draws], object],
        description: str,
        progress: bool,
        shorten: str = "particles",
        latents: bool = False,
    ) -> None:
        """Gives the draws of :meth:`chunks` to a function, and shows how far it is; see :func:`stage`."""
        with stage(description, self.size, progress, shorten=shorten) as advance:
            for draws in self.chunks(particles, latents=latents):
                take(draws)
                advance(self.size if self.unit.whole else draws.log_weights.shape[1])

    def _terms(self, part: Batch, particles: int, latents: bool) -> list[Tensor]:
        """Returns the three terms of one run, its latents where they are kept, and sums over what each point adds."""
        with self._parameters():
            once = run(self.model, self.guide, part, particles, self.nesting, plate=self._plate, points=True)
        terms, sums = [once.prior, once.likelihood, once.proposed], []
        if once.points is not None:
            added = once.points.double()
            terms.append(once.log_weights - added.sum(1, keepdim=True) / once.unit.fraction)
            sums = [added.square().sum(0), added.sum(0)]
        if latents:
            terms += [self._stacked(site, particles) for site in latent_sites(once.model)]
        return terms + sums

    def at(self, part: Batch, values: dict[str, Tensor], particles: int) -> tuple[Tensor, ...]:
        """Returns log p(z), log p(x | z) and log q(z | x) where the guide's own draws are given, in nats.

        The fourth tensor is the log-density of these draws: log q(z | x), but where an autoguide makes z of them.

        Args:
            part: the arguments for some of the data.
            values: what the guide draws, by name, particles first; an autoguide makes the model's latents of them.
            particles: how many there are.

        Returns:
            Four tensors of shape (particles, units).
        """
        return self._one_by_one(part, values, particles, self._at_once)

    def log_joint(self, part: Batch, values: dict[str, Tensor], particles: int) -> tuple[Tensor, Tensor]:
        """Returns log p(z) and log p(x | z) at the model's latents, each of shape (particles, units), in nats."""

        def densities(part: Batch, values: dict[str, Tensor], particles: int | None) -> tuple[Tensor, ...]:
            return self.unit.split(self.model_at(part, values, particles), self.unit.zeros(part, particles or 1))

        prior, likelihood = self._one_by_one(part, values, particles, densities)
        return prior, likelihood

    def _one_by_one(self, part: Batch, values: dict[str, Tensor], particles: int, densities: Any) -> Any:
        """Calls a function of values in plates, with all particles, or with each where they can't be run at once."""
        if self.vectorized:
            return densities(part, {name: self._in_plates(name, value) for name, value in values.items()}, particles)
        each = [
            densities(part, {name: value[number] for name, value in values.items()}, None)
            for number in range(particles)
        ]
        return tuple(torch.cat(terms) for terms in zip(*each, strict=True))

    def _in_plates(self, name: str, value: Tensor) -> Tensor:
        """Moves the particles of a latent, in its first dimension, left of all plates."""
        return value.reshape(len(value), *[1] * (self.nesting - self._own[name]), *value.shape[1:])

    def _at_once(self, part: Batch, values: dict[str, Tensor], particles: int | None) -> tuple[Tensor, ...]:
        with self._parameters():
            guide_trace = trace(self.guide, part, particles, self.nesting, values)
            model_trace = trace(self.model, part, particles, self.nesting, guide_trace)
        zeros = self.unit.zeros(part, particles or 1)
        sites = random_sites(guide_trace)
        drawn = [site for site in sites if site["name"] in values]
        return *self.unit.split(model_trace, zeros), self.unit.sum(sites, zeros), self.unit.sum(drawn, zeros)

    def generated(self, part: Batch) -> tuple[Trace, dict[str, Tensor]]:
        """Runs the model with all of its sites drawn, observed ones too; their values by name have a particle first."""
        with local_parameters(self.model):
            drawn = trace(uncondition(self.model), part)
        return drawn, {site["name"]: site["value"][None] for site in random_sites(drawn)}

    def replayed(
        self, part: Batch, values: dict[str, Tensor], *, generate: bool = False
    ) -> Iterator[tuple[Trace, Callable[[Site], Tensor], int]]:
        """Runs the model at the values of its latents, particles first, as many at once as memory allows.

        Args:
            part: the arguments for some of the data.
            values: the latents by name.
            generate: draw what is observed, too.

        Yields:
            The trace, a function that gives the value of one of its sites with the particles first, and their number.
        """
        total = len(next(iter(values.values())))
        at_once = self._particles_at_once(total)
        program = uncondition(self.model) if generate else self.model
        for start in range(0, total, at_once):
            some = {name: value[start : start + at_once] for name, value in values.items()}
            count = min(at_once, total - start)
            if self.vectorized:
                given, particles = {name: self._in_plates(name, value) for name, value in some.items()}, count
            else:
                given, particles = {name: value[0] for name, value in some.items()}, None
            with local_parameters(self.model):
                traced = trace(program, part, particles, self.nesting, given)
            yield traced, partial(self._stacked, particles=count), count

    def log_guide(self, part: Batch, values: dict[str, Tensor], particles: int) -> Tensor:
        """Returns log q(z | x) at the values, shape (particles, units), in nats.

        Raises InputError where the guide has other sites than the model.
        """

        def density(part: Batch, values: dict[str, Tensor], particles: int | None) -> tuple[Tensor]:
            with self._parameters():
                sites = random_sites(trace(self.guide, part, particles, self.nesting, values))
            names = sorted(site["name"] for site in sites)
            if names != sorted(values):
                raise InputError(
                    f"the guide samples {names}, the model's latents are {sorted(values)}: a density of given latents "
                    "needs a guide of just these sites (an autoguide draws them all from one of its own)"
                )
            return (self.unit.sum(sites, self.unit.zeros(part, particles or 1)),)

        (proposed,) = self._one_by_one(part, values, particles, density)
        return proposed

    def proposals(self, part: Batch, particles: int) -> dict[str, Tensor]:
        """Draws from the guide; the draws are by name, with the particles in their first dimension."""
        counts = [particles] if self.vectorized else [1] * particles
        with self._parameters():
            runs = [latent_sites(trace_guide(self.guide, part, count, self.nesting)) for count in counts]
        drawn = [
            {site["name"]: self._stacked(site, count) for site in run} for run, count in zip(runs, counts, strict=True)
        ]
        return {name: torch.cat([one[name] for one in drawn]) for name in drawn[0]}

    def latents(self, part: Batch) -> list[Site]:
        """Returns the sites that the guide draws from on a part of the data, in a run without particles.

        They are the model's where the model is alone or the guide draws just these; else those of which the guide
        makes them.
        """
        with random_state_kept(), torch.no_grad(), self._parameters():
            guide_trace = trace_guide(self.guide, part, 1, 0)
            model_trace = trace_model(self.model, guide_trace, part, 1, 0)
        drawn = latent_sites(guide_trace)
        auxiliary = [site for site in drawn if is_auxiliary(site)]
        return auxiliary or latent_sites(model_trace)

    def require_sound(self) -> None:
        """Raises InputError with the first mistake that one draw for each data point shows; looks once."""
        if not self._checked:
            require_sound(self.model, self.own_guide, self.batch, cut=self.cuttable)
            self._checked = True
