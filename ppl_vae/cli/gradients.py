"""``ppl-vae gradients``: estimators side by side on one pair, along its training, by latents and by particles."""

import csv
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyro
import torch
from rich import box
from rich.table import Table
from torch import Tensor

from ppl_vae.cli import report
from ppl_vae.cli.zoo import Builder
from ppl_vae.errors import InputError
from ppl_vae.estimators import ESTIMATORS, IWAE
from ppl_vae.measure.gradients import TOTAL, gradient_statistics
from ppl_vae.measure.reference import Reference, reference_gradient
from ppl_vae.plots import gradients as gradient_plots
from ppl_vae.programs import Guide, LatentVariableModel
from ppl_vae.training.fit import History, fit, resolve_device

CONTINUOUS = ("pathwise", "pathwise-kl", "sticking-the-landing", "score-function", "running-mean", "rloo")
ONE_HOT = ("reinforce", "running-mean", "neural-baseline", "rloo", "gumbel-softmax", "straight-through")
BITS = (*ONE_HOT[:4], "disarm", "relax", *ONE_HOT[4:])
_STOPS = (0, 1, 2, 5, 10, 20, 50, 100, 200, 500)


@dataclass
class Laboratory:
    """Trains a pair by its usual estimator, and measures each estimator's gradient at stops on the way.

    Attributes:
        builder: makes pairs with so many latents.
        model: the model's name.
        guide: the guide's; the diagonal or the discrete one where empty.
        estimators: their names; those that are usually compared where empty.
        batch_size: images in the batch whose gradient is measured, and in a training step.
        draws: gradients of each estimator at each stop.
        exact_draws: of the gradient that the bias is told against, where it can't be exact; 0 tells no bias.
        learning_steps: for what an estimator itself learns, before its draws; as many as settle it where None.
        optimizer: for the training.
        device: where.
        seed: of everything.
        records: what was measured, a dict for each estimator, group of parameters and stop.
        curves: the training of a pair from the start by each estimator.
    """

    builder: Callable[[int], Builder]
    model: str
    guide: str
    estimators: Sequence[str]
    batch_size: int
    draws: int
    exact_draws: int
    learning_steps: int | None
    optimizer: Callable[..., torch.optim.Optimizer]
    device: str
    seed: int
    records: list[dict[str, Any]] = field(default_factory=list)
    curves: dict[str, History] = field(default_factory=dict)

    def run(self, latents: Sequence[int], particles: Sequence[int], epochs: int, race: bool) -> None:
        """Every number of latents at the end of its training; the last also along it, with all particles, and raced."""
        for count in latents:
            last = count == latents[-1]
            builder, model, guide = self._pair(count)
            training, _, transform = builder.data(model, self.seed, None)
            batch = self._batch(training, transform)
            if count == latents[0]:
                report.tell_images(builder.source, transform is not None)
            done = 0
            for stop in [*(stop for stop in _STOPS if last and stop < epochs), epochs]:
                if stop > done:
                    fit(
                        model,
                        guide,
                        training,
                        elbo=builder.elbo(guide),
                        optimizer=self.optimizer,
                        epochs=stop - done,
                        transform=transform,
                        batch_size=self.batch_size,
                        device=self.device,
                        seed=self.seed + stop,
                        description=f"{count} latents",
                    )
                    done = stop
                final = stop == epochs
                exact: dict[int, Reference] = {}
                for wanted in particles if last and final else particles[:1]:
                    at = {"latents": count, "epoch": stop, "final": final}
                    for name in self.estimators:
                        self._measure(builder, model, guide, batch, name, wanted, at, exact)
        if race:
            for name in self.estimators:
                builder, model, guide = self._pair(latents[-1])
                elbo = builder.estimator(name, model, guide, max(particles[0], ESTIMATORS[name].particles))
                self.curves[name] = fit(
                    model,
                    guide,
                    training,
                    elbo=elbo,
                    optimizer=self.optimizer,
                    epochs=epochs,
                    batch_size=self.batch_size,
                    transform=transform,
                    device=self.device,
                    seed=self.seed,
                    description=name,
                )

    def table(self) -> Table:
        """The end of the training of the last pair, with the first number of particles."""
        chosen = sorted(self._first(self._final()), key=lambda record: record["variance"])
        latents, epoch = (chosen[0][key] for key in ("latents", "epoch"))
        shown = Table(
            title=f"Gradient in nats, summed over {self.batch_size} images; {latents} latents, after {epoch} epochs",
            caption="Intervals: 95%. bias / noise: how far the mean lies from the reference, over how far "
            f"chance alone would put it (about 1 without bias). Reference: {chosen[0]['reference']}.",
            box=box.SIMPLE_HEAD,
        )
        for heading in ("estimator", "particles", "variance", "interval", "SNR", "bias / noise", "ms", "variance x s"):
            shown.add_column(heading, justify="left" if heading == "estimator" else "right", no_wrap=True)
        for record in chosen:
            shown.add_row(
                record["estimator"] + (" (biased)" if record["biased"] else ""),
                str(record["particles"]),
                f"{record['variance']:.4g}",
                _interval(record),
                f"{record['snr']:.3g}",
                f"{record['bias'] / record['bias_noise']:.2f}" if record.get("bias_noise") else "-",
                f"{1000 * record['seconds']:.2f}",
                f"{record['variance_cost']:.3g}",
            )
        return shown

    def write(self, folder: Path, settings: dict[str, Any]) -> dict[str, Any]:
        """The records as JSON and CSV, and the figures; returns the JSON's content."""
        training = {
            name: {"elbo": curve.elbo, "seconds": curve.seconds, "is_bound": curve.is_bound}
            for name, curve in self.curves.items()
        }
        units = "nats, summed over the batch; elbo: nats per image"
        content = {"settings": settings, "units": units, "records": self.records, "training": training}
        report.write_json(folder / "gradients.json", content)
        with (folder / "gradients.csv").open("w", newline="") as file:
            columns = dict.fromkeys(key for record in self.records for key in record)
            writer = csv.DictWriter(file, fieldnames=list(columns))
            writer.writeheader()
            writer.writerows(self.records)
        total, final = [record for record in self.records if record["group"] == TOTAL], self._final()
        latents = final[0]["latents"]
        sweeps = {
            "epoch": self._first([record for record in total if record["latents"] == latents]),
            "latents": self._first([record for record in total if record["final"]]),
            "particles": final,
        }
        for axis, chosen in sweeps.items():
            if len({record[axis] for record in chosen}) > 1:
                report.save(folder / f"variance-{axis}.png", gradient_plots.variances(chosen, axis))
        if self.curves:
            report.save(folder / "training.png", gradient_plots.side_by_side(self.curves, self.batch_size))
        return content

    def _final(self) -> list[dict[str, Any]]:
        last = self.records[-1]["latents"]
        return [one for one in self.records if one["group"] == TOTAL and one["final"] and one["latents"] == last]

    def _first(self, records: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Those with each estimator's fewest particles."""
        fewest = {
            name: min(record["particles"] for record in records if record["estimator"] == name)
            for name in self.estimators
        }
        return [record for record in records if record["particles"] == fewest[record["estimator"]]]

    def _pair(self, latents: int) -> tuple[Builder, LatentVariableModel, Guide]:
        pyro.set_rng_seed(self.seed)
        builder = self.builder(latents)
        model = builder.model(self.model)
        fitting = builder.fitting(model)
        guide = builder.guide(self.guide or ("diagonal" if "diagonal" in fitting else fitting[0]), model)
        if not self.estimators:
            prior = model.prior()
            self.estimators = CONTINUOUS if prior.has_rsample else BITS if len(prior.event_shape) == 1 else ONE_HOT
        target = resolve_device(self.device)
        return builder, model.to(target), guide.to(target)

    def _batch(self, training: tuple[Tensor, ...], transform: Callable[[Tensor], Tensor] | None) -> tuple[Tensor, ...]:
        target = resolve_device(self.device)
        first, *rest = (part[: self.batch_size].to(target) for part in training)
        pyro.set_rng_seed(self.seed)
        return (transform(first) if transform is not None else first, *rest)

    def _measure(
        self,
        builder: Builder,
        model: LatentVariableModel,
        guide: Guide,
        batch: tuple[Tensor, ...],
        name: str,
        wanted: int,
        at: dict[str, Any],
        exact: dict[int, Reference],
    ) -> None:
        entry = ESTIMATORS[name]
        elbo = builder.estimator(name, model, guide, max(wanted, entry.particles))
        used = elbo.num_particles
        bound = used if entry.multi_sample else 1
        pathwise = model.prior().has_rsample
        if at["final"] and self.exact_draws and bound not in exact and (bound == 1 or pathwise):
            own = IWAE(bound) if bound > 1 else None
            exact[bound] = reference_gradient(model, guide, batch, elbo=own, draws=self.exact_draws)
        pyro.set_rng_seed(self.seed)
        found = gradient_statistics(
            model,
            guide,
            batch,
            elbo=elbo,
            draws=self.draws,
            reference=exact.get(bound),
            learning_steps=self.learning_steps,
        )
        for group in found.group.values:
            row = {key: float(value) for key, value in found.sel(group=group).data_vars.items() if not value.dims}
            self.records.append(
                {"estimator": name, "group": str(group), "particles": used, "biased": entry.biased, **at, **row}
                | {"seconds": found.attrs["seconds"], "reference": found.attrs["reference"]}
            )


def _interval(record: dict[str, Any]) -> str:
    if math.isnan(record["variance_low"]):
        return "heavy tail: more draws"
    return f"{record['variance_low']:.4g} to {record['variance_high']:.4g}"


def counts(text: str, option: str) -> list[int]:
    """Numbers above 0 from "2,10,50", in order; InputError for anything else."""
    try:
        found = sorted({int(part) for part in text.split(",") if part.strip()})
    except ValueError:
        found = []
    if not found or found[0] < 1:
        raise InputError(f"{option} is {text!r}; expected numbers above 0, comma-separated, such as 2,10,50")
    return found
