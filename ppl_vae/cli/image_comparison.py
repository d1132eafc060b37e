"""``ppl-vae compare`` on images: many guides for one model, ranked by their ELBO."""

import json
from pathlib import Path
from typing import Any

import pyro
import torch
from torch import Tensor

from ppl_vae.cli import report
from ppl_vae.cli.options import CompareOptions
from ppl_vae.cli.terminal import show
from ppl_vae.cli.values import BATCH_SIZE, default_epochs, names, widths
from ppl_vae.runs.zoo import Builder, refuse_mixture
from ppl_vae.data.images import load
from ppl_vae.data.tables import is_table
from ppl_vae.errors import InputError
from ppl_vae.measure.comparison import Comparison, compare
from ppl_vae.pairs.progress import whole
from ppl_vae.programs import LatentVariableModel
from ppl_vae.training.fit import resolve_device
from ppl_vae.training.optimizers import ADAM_RATE, cooldown


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
    folder = report.new_run(options.run, f"compare-{Path(options.data).stem}")
    source = load(options.data, options.data_root)
    pyro.set_rng_seed(options.seed)
    builder = Builder(source, options.latents, widths(options.hidden), options.likelihood)
    model = builder.model(options.model)
    guide_names = names(options.guides) if options.guides else builder.first_choices(model)
    base = options.base or ("diagonal" if "diagonal" in builder.fitting(model) else guide_names[0])
    settings = options.recorded(
        guides=guide_names,
        base=base,
        hidden=builder.hidden,
        epochs=options.epochs or default_epochs(source),
        batch_size=options.batch_size or BATCH_SIZE,
        lr=ADAM_RATE if options.lr is None else options.lr,
        device=str(resolve_device(options.device)),
        run=folder,
    )
    with whole("compare"):
        comparison, test = _compared(options, settings, builder, model)
    _write(folder, comparison, settings, test, source.shape)
    if options.as_json:
        print(json.dumps(report.plain(report.summary(comparison, settings))))
        return
    show(report.table(comparison))
    print(folder)


def _compared(
    options: CompareOptions, settings: dict[str, Any], builder: Builder, model: LatentVariableModel
) -> tuple[Comparison, tuple[Tensor, ...]]:
    """Makes the guides and compares them; returns the test images too."""
    base = None if options.joint else builder.guide(settings["base"], model)
    guides: dict[str, torch.nn.Module] = {name: builder.guide(name, model) for name in settings["guides"]}
    training, test, transform = builder.data(model, options.seed, options.images)
    report.tell_images(builder.source, transform is not None)
    comparison = compare(
        model,
        guides,
        training,
        test=test,
        base=base,
        joint=options.joint,
        particles=options.particles,
        epochs=settings["epochs"],
        guide_epochs=options.guide_epochs,
        batch_size=settings["batch_size"],
        lr=settings["lr"],
        schedule=cooldown,
        transform=transform,
        device=options.device,
        seed=options.seed,
        elbo=builder.elbo,
        evidence=options.evidence,
        split=options.split,
        annealing={"steps": options.annealing_steps},
        progress=not options.quiet,
    )
    return comparison, test


def _write(
    folder: Path,
    comparison: Comparison,
    settings: dict[str, Any],
    test: tuple[Tensor, ...],
    shape: tuple[int, int],
) -> None:
    with report.whole_folder(folder) as partial:
        report.write_comparison(partial, comparison, settings)
        report.write_diagnostics(partial, comparison, test[0], shape)
        report.write_images(partial, comparison.pairs, test, shape)
        for name, (model, guide) in comparison.pairs.items():
            report.save_parameters(partial / f"guide-{name}.pt", guide)
            report.save_parameters(partial / (f"model-{name}.pt" if settings["joint"] else "model.pt"), model)
