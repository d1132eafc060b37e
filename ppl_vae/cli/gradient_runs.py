"""What ``ppl-vae gradients`` does: its run, its table, and the files that it writes."""

import math
from pathlib import Path
from typing import Any

from rich import box
from rich.table import Table

from ppl_vae.cli import results
from ppl_vae.cli.laboratory import Laboratory
from ppl_vae.cli.options import GradientsOptions
from ppl_vae.cli.resuming import run_of
from ppl_vae.cli.values import names
from ppl_vae.data.images import load
from ppl_vae.data.tables import is_table
from ppl_vae.errors import InputError
from ppl_vae.estimators import ESTIMATORS
from ppl_vae.measure.gradients import TOTAL
from ppl_vae.pairs.progress import whole
from ppl_vae.plots import gradients as gradient_plots
from ppl_vae.runs.data_records import data_record
from ppl_vae.runs.zoo import refuse_mixture


def measure_gradients(options: GradientsOptions) -> None:
    """Measures the estimators, writes the run's folder and prints.

    Raises:
        InputError: for a table, an unknown estimator, or a model or guide that does not fit.
    """
    if is_table(options.data):
        raise InputError(
            f"gradients takes images, {options.data} is a table: use ppl_vae.gradient_statistics in Python"
        )
    refuse_mixture(options.model, options.data)
    for name in names(options.estimators, "--estimators"):
        if name not in ESTIMATORS:
            raise InputError(f"there is no estimator {name!r}: choose from {', '.join(ESTIMATORS)}")
    with run_of(options, "gradients", f"gradients-{Path(options.data).stem}") as running:
        source = load(options.data, options.data_root)
        laboratory = Laboratory(options, source, running.parts)
        with whole("gradients"):
            laboratory.run()
        settings = options.recorded(
            estimators=list(laboratory.estimators),
            latents=laboratory.latents,
            particles=laboratory.particles,
            hidden=laboratory.hidden,
            device=str(laboratory.device),
            run=running.path,
        )
        content = _content(laboratory, settings)
        _write(running.path, laboratory, content)
        of_data = data_record(source.name, (source.train, source.test))
        running.finish(kind="images", settings=settings, data=of_data, pairs={}, results="gradients.json")
    results.tell(content, _table(laboratory), options.as_json, running.path)


def _content(laboratory: Laboratory, settings: dict[str, Any]) -> dict[str, Any]:
    """What is written as JSON."""
    return {
        "settings": settings,
        "units": "nats, summed over the batch; elbo: nats per image",
        "records": laboratory.records,
        "training": {
            name: {"elbo": curve.elbo, "seconds": curve.seconds, "is_bound": curve.is_bound}
            for name, curve in laboratory.curves.items()
        },
    }


def _write(folder: Path, laboratory: Laboratory, content: dict[str, Any]) -> None:
    """The records as JSON and CSV, and the figures."""
    results.write_json(folder / "gradients.json", content)
    results.write_csv(folder / "gradients.csv", laboratory.records)
    total = [record for record in laboratory.records if record["group"] == TOTAL]
    final = laboratory.final()
    sweeps = {
        "epoch": laboratory.fewest_particles([record for record in total if record["latents"] == final[0]["latents"]]),
        "latents": laboratory.fewest_particles([record for record in total if record["final"]]),
        "particles": final,
    }
    for axis, records in sweeps.items():
        if len({record[axis] for record in records}) > 1:
            results.save(folder / f"variance-{axis}.png", gradient_plots.variances(records, axis))
    if laboratory.curves:
        figure = gradient_plots.side_by_side(laboratory.curves, laboratory.options.batch_size)
        results.save(folder / "training.png", figure)


def _table(laboratory: Laboratory) -> Table:
    """The end of the training of the last pair, with the fewest particles."""
    records = sorted(laboratory.fewest_particles(laboratory.final()), key=lambda record: record["variance"])
    images, latents, epoch = laboratory.options.batch_size, records[0]["latents"], records[0]["epoch"]
    table = Table(
        title=f"Gradient in nats, summed over {images} images; {latents} latents, after {epoch} epochs",
        caption="Intervals: 95%. bias / noise: how far the mean lies from the reference, over how far "
        f"chance alone would put it (about 1 without bias). Reference: {records[0]['reference']}.",
        box=box.SIMPLE_HEAD,
    )
    for heading in ("estimator", "particles", "variance", "interval", "SNR", "bias / noise", "ms", "variance x s"):
        table.add_column(heading, justify="left" if heading == "estimator" else "right", no_wrap=True)
    for record in records:
        table.add_row(
            record["estimator"] + (" (biased)" if record["biased"] else ""),
            str(record["particles"]),
            f"{record['variance']:.4g}",
            _interval(record),
            f"{record['snr']:.3g}",
            f"{record['bias'] / record['bias_noise']:.2f}" if record.get("bias_noise") else "-",
            f"{1000 * record['seconds']:.2f}",
            f"{record['variance_cost']:.3g}",
        )
    return table


def _interval(record: dict[str, Any]) -> str:
    if math.isnan(record["variance_low"]):
        return "heavy tail: more draws"
    return f"{record['variance_low']:.4g} to {record['variance_high']:.4g}"
