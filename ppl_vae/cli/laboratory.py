"""What ``ppl-vae gradients`` measures: estimators side by side on one pair, by training, latents and particles."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pyro
from torch import Tensor

from ppl_vae.cli import results
from ppl_vae.cli.options import GradientsOptions
from ppl_vae.cli.values import counts, names, widths
from ppl_vae.data.images import Images
from ppl_vae.estimators import ESTIMATORS, IWAE
from ppl_vae.measure.gradients import TOTAL, gradient_statistics
from ppl_vae.measure.reference import Reference, reference_gradient
from ppl_vae.programs import Guide, LatentVariableModel
from ppl_vae.runs.image_data import builder_for, data_for, initialized_model
from ppl_vae.runs.plain_json import kept_json
from ppl_vae.runs.zoo import Builder
from ppl_vae.training.fit import History, fit, resolve_device

CONTINUOUS = ("pathwise", "pathwise-kl", "sticking-the-landing", "score-function", "running-mean", "rloo")
ONE_HOT = ("reinforce", "running-mean", "neural-baseline", "rloo", "gumbel-softmax", "straight-through")
BITS = (*ONE_HOT[:4], "disarm", "relax", *ONE_HOT[4:])
_STOPS = (0, 1, 2, 5, 10, 20, 50, 100, 200, 500)


class Laboratory:
    """Trains a pair with its usual estimator, and measures each estimator's gradient at stops on the way.

    Args:
        options: the options of the command.
        source: the images.
        parts: where each training and each measurement is kept as it ends, so that a run that was cut off goes on.

    Attributes:
        latents: the numbers of latents, one pair for each.
        particles: the numbers of draws of z for each image.
        estimators: the names of the estimators; those that are usually compared where none is named.
        records: what was measured, a dict for each estimator, group of parameters and stop.
        curves: the training of a pair from the start with each estimator.
    """

    def __init__(self, options: GradientsOptions, source: Images, parts: Path) -> None:
        self.options, self.source, self._parts = options, source, parts
        self.estimators: Sequence[str] = names(options.estimators, "--estimators")
        self.hidden = widths(options.hidden)
        self.latents = counts(options.latents, "--latents")
        self.particles = counts(options.particles, "--particles")
        self.device = resolve_device(options.device)
        self.records: list[dict[str, Any]] = []
        self.curves: dict[str, History] = {}

    def run(self) -> None:
        """Measures each number of latents after its training; the last one also along it, and with all particles."""
        for latents in self.latents:
            builder, model, guide = self._pair(latents)
            data = data_for(model, self.source, self.options.seed)
            if latents == self.latents[0]:
                results.tell_images(self.source, data.transform is not None)
            self._follow(latents, builder, model, guide, data.training, data.transform)
        if self.options.race:
            self._race(data.training, data.transform)

    def final(self) -> list[dict[str, Any]]:
        """The records of all parameters together, at the end of the training of the last pair."""
        latents = self.records[-1]["latents"]
        return [
            record
            for record in self.records
            if record["group"] == TOTAL and record["final"] and record["latents"] == latents
        ]

    def fewest_particles(self, records: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Those of the records that have each estimator's fewest particles."""
        fewest = {
            name: min(record["particles"] for record in records if record["estimator"] == name)
            for name in self.estimators
        }
        return [record for record in records if record["particles"] == fewest[record["estimator"]]]

    def _follow(
        self,
        latents: int,
        builder: Builder,
        model: LatentVariableModel,
        guide: Guide,
        training: tuple[Tensor, ...],
        transform: Callable[[Tensor], Tensor] | None,
    ) -> None:
        """Trains a pair from stop to stop, and measures all estimators at each."""
        batch = self._batch(training, transform)
        last, epochs, done = latents == self.latents[-1], self.options.epochs, 0
        for stop in [*(stop for stop in _STOPS if last and stop < epochs), epochs]:
            if stop > done:
                self._fit(
                    model,
                    guide,
                    training,
                    elbo=builder.elbo(guide),
                    epochs=stop - done,
                    transform=transform,
                    seed=self.options.seed + stop,
                    description=f"{latents} latents",
                    checkpoint=self._parts / f"training-{latents}-{stop}.safetensors",
                )
                done = stop
            at_stop = {"latents": latents, "epoch": stop, "final": stop == epochs}
            references: dict[int, Reference] = {}
            for particles in self.particles if last and stop == epochs else self.particles[:1]:
                for name in self.estimators:
                    self.records += kept_json(
                        self._parts / f"gradient-{latents}-{stop}-{particles}-{name}.json",
                        partial(self._measured, builder, model, guide, batch, name, particles, at_stop, references),
                    )

    def _race(self, training: tuple[Tensor, ...], transform: Callable[[Tensor], Tensor] | None) -> None:
        """Trains the last pair with each estimator, from the same start."""
        for name in self.estimators:
            builder, model, guide = self._pair(self.latents[-1])
            elbo = builder.estimator(name, model, guide, max(self.particles[0], ESTIMATORS[name].particles))
            self.curves[name] = self._fit(
                model,
                guide,
                training,
                elbo=elbo,
                epochs=self.options.epochs,
                transform=transform,
                seed=self.options.seed,
                description=name,
                checkpoint=self._parts / f"race-{name}.safetensors",
            )

    def _fit(self, model: LatentVariableModel, guide: Guide, training: tuple[Tensor, ...], **options: Any) -> History:
        return fit(
            model,
            guide,
            training,
            lr=self.options.lr,
            batch_size=self.options.batch_size,
            device=self.options.device,
            progress=not self.options.quiet,
            **options,
        )

    def _pair(self, latents: int) -> tuple[Builder, LatentVariableModel, Guide]:
        pyro.set_rng_seed(self.options.seed)
        builder = builder_for(self.source, latents, self.hidden, self.options.likelihood)
        model = initialized_model(builder, self.options.model, self.source)
        fitting = builder.fitting(model)
        guide = builder.guide(self.options.guide or ("diagonal" if "diagonal" in fitting else fitting[0]), model)
        if not self.estimators:
            prior = model.prior()
            self.estimators = CONTINUOUS if prior.has_rsample else BITS if len(prior.event_shape) == 1 else ONE_HOT
        return builder, model.to(self.device), guide.to(self.device)

    def _batch(self, training: tuple[Tensor, ...], transform: Callable[[Tensor], Tensor] | None) -> tuple[Tensor, ...]:
        first, *rest = (part[: self.options.batch_size].to(self.device) for part in training)
        pyro.set_rng_seed(self.options.seed)
        return (transform(first) if transform is not None else first, *rest)

    def _measured(
        self,
        builder: Builder,
        model: LatentVariableModel,
        guide: Guide,
        batch: tuple[Tensor, ...],
        name: str,
        particles: int,
        at_stop: dict[str, Any],
        references: dict[int, Reference],
    ) -> list[dict[str, Any]]:
        """The records of one estimator; the references, by the particles of their bound, are made once a stop."""
        entry = ESTIMATORS[name]
        count = max(particles, entry.particles)
        bound = count if entry.multi_sample else 1
        draws, pathwise = self.options.reference_draws, model.prior().has_rsample
        if at_stop["final"] and draws and bound not in references and (bound == 1 or pathwise):
            multi_sample = IWAE(bound) if bound > 1 else None
            builder.elbo(guide)  # the reference takes the pair's usual draws, whatever the estimator before it took
            references[bound] = reference_gradient(
                model, guide, batch, elbo=multi_sample, draws=draws, progress=not self.options.quiet
            )
        elbo = builder.estimator(name, model, guide, count)
        pyro.set_rng_seed(self.options.seed)
        statistics = gradient_statistics(
            model,
            guide,
            batch,
            elbo=elbo,
            draws=self.options.draws,
            reference=references.get(bound),
            learning_steps=self.options.learning_steps,
            progress=not self.options.quiet,
        )
        records = []
        for group in statistics.group.values:
            figures = statistics.sel(group=group).data_vars.items()
            records.append(
                {"estimator": name, "group": str(group), "particles": elbo.num_particles, "biased": entry.biased}
                | at_stop
                | {key: float(value) for key, value in figures if not value.dims}
                | {"seconds": statistics.attrs["seconds"], "reference": statistics.attrs["reference"]}
            )
        return records
