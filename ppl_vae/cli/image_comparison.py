"""``ppl-vae compare`` on images: many guides for one model, ranked by their ELBO."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyro
import torch
from pyro.infer import ELBO

from ppl_vae.cli import results
from ppl_vae.cli.options import CompareOptions
from ppl_vae.cli.resuming import run_of
from ppl_vae.cli.values import BATCH_SIZE, default_epochs, names, objective, widths
from ppl_vae.cli.watching import most_epochs, watched
from ppl_vae.data.images import load
from ppl_vae.data.tables import is_table
from ppl_vae.errors import InputError
from ppl_vae.measure.comparison import compare
from ppl_vae.measure.side_by_side import Comparison
from ppl_vae.pairs.progress import whole
from ppl_vae.programs import Guide, LatentVariableModel
from ppl_vae.runs.data_records import image_record
from ppl_vae.runs.image_data import ImageData, builder_for, data_for, initialized_model
from ppl_vae.runs.writing import write_pairs
from ppl_vae.runs.zoo import refuse_mixture
from ppl_vae.training.fit import resolve_device
from ppl_vae.training.optimizers import ADAM_RATE


def compare_on_images(options: CompareOptions) -> None:
    """Trains the model, fits every guide to it, writes the run's folder and prints.

    Raises:
        InputError: for a table, a model or guide that does not fit, or what ``compare`` refuses.
    """
    if is_table(options.data):
        raise InputError(
            f"compare takes images, {options.data} is a table: use `ppl-vae train`, or ppl_vae.compare in Python"
        )
    refuse_mixture(options.model, options.data)
    with run_of(options, "compare", f"compare-{Path(options.data).stem}") as running:
        source = load(options.data, options.data_root)
        pyro.set_rng_seed(options.seed)
        builder = builder_for(source, options.latents, widths(options.hidden), options.likelihood)
        model = initialized_model(builder, options.model, source)
        guide_names = names(options.guides, "--guides") if options.guides else builder.first_choices(model)
        base = options.base or ("diagonal" if "diagonal" in builder.fitting(model) else guide_names[0])
        settings = options.recorded(
            without=("runs",),
            guides=guide_names,
            base=base,
            hidden=builder.hidden,
            epochs=most_epochs(options, default_epochs(source)),
            batch_size=options.batch_size or BATCH_SIZE,
            lr=ADAM_RATE if options.lr is None else options.lr,
            device=str(resolve_device(options.device)),
            run=running.path,
        )
        trained_with = None if options.joint else builder.guide(base, model)
        guides: dict[str, torch.nn.Module] = {name: builder.guide(name, model) for name in guide_names}
        data = data_for(model, source, options.seed, options.images)
        results.tell_images(source, data.transform is not None)
        with whole("compare"):
            comparison = _compared(options, settings, model, trained_with, guides, builder.elbo, data, running.parts)
        _write(running.path, comparison, settings, data)
        files = write_pairs(running.path, comparison.pairs)
        of_data = image_record(source, builder)
        running.finish(kind="images", settings=settings, data=of_data, pairs=files, results="table.json")
    results.tell(results.summary(comparison, settings), results.table(comparison), options.as_json, running.path)


def _compared(
    options: CompareOptions,
    settings: dict[str, Any],
    model: LatentVariableModel,
    base: Guide | None,
    guides: dict[str, torch.nn.Module],
    elbo: Callable[[Guide], ELBO],
    data: ImageData,
    parts: Path,
) -> Comparison:
    """Compares the guides on the data."""
    return compare(
        model,
        guides,
        data.training,
        test=data.test,
        base=base,
        joint=options.joint,
        particles=options.particles,
        epochs=settings["epochs"],
        guide_epochs=options.guide_epochs,
        batch_size=settings["batch_size"],
        lr=settings["lr"],
        **watched(options, settings["run"]),
        **objective(options),
        transform=data.transform,
        device=options.device,
        seed=options.seed,
        elbo=elbo,
        evidence=options.evidence,
        split=options.split,
        annealing={"steps": options.annealing_steps},
        checkpoint=parts,
        progress=not options.quiet,
    )


def _write(folder: Path, comparison: Comparison, settings: dict[str, Any], data: ImageData) -> None:
    results.write_comparison(folder, comparison, settings)
    results.write_diagnostics(folder, comparison, data.test[0], data.shape)
    in_order = {row.guide: comparison.pairs[row.guide] for row in comparison.rows}
    results.write_images(folder, in_order, data.test, data.shape)
