"""``ppl-vae compare`` and ``train`` for models with latents that all the data share, on the data they come with."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from ppl_vae.cli import results
from ppl_vae.cli.options import OF_TABLES, CompareOptions, TrainOptions
from ppl_vae.cli.resuming import run_of
from ppl_vae.cli.values import names, objective
from ppl_vae.cli.watching import most_epochs, watched
from ppl_vae.errors import InputError
from ppl_vae.measure.comparison import compare
from ppl_vae.measure.side_by_side import Comparison
from ppl_vae.models import BayesianModel
from ppl_vae.pairs.progress import whole
from ppl_vae.runs.data_records import data_record
from ppl_vae.runs.folder import RunFolder
from ppl_vae.runs.rebuilt import shared_start
from ppl_vae.runs.writing import write_pairs
from ppl_vae.runs.zoo import shared_first_choices, shared_guide
from ppl_vae.training import distributed
from ppl_vae.training.fit import resolve_device

_STEPS = 3000
_RATE = 0.02
_OF_OTHERS = (
    *("data", "data_root", "latents", "hidden", "likelihood", "batch_size", "images", "free_bits"),
    *("patience", "validation"),
)
_OF_OTHER_COMPARISONS = (*_OF_OTHERS, "base", "joint", "runs")
_OF_OTHER_TRAININGS = (*_OF_OTHERS, *OF_TABLES, "estimator", "step_particles", "checkpoint")


def compare_on_shared(options: CompareOptions) -> None:
    """Fits every guide to the model, ranks them, writes the run's folder and prints.

    Raises:
        InputError: for options of other models, guides that do not fit this one, or what ``compare`` refuses.
    """
    model, data = _start(options, _OF_OTHER_COMPARISONS)
    guide_names = names(options.guides, "--guides") if options.guides else shared_first_choices(model)
    guides = {name: shared_guide(name, options.model, model) for name in guide_names}
    with run_of(options, "compare", f"compare-{options.model}") as running:
        training = _training(options, running.path)
        settings = options.recorded(without=_OF_OTHER_COMPARISONS, guides=guide_names, **training)
        with whole("compare"):
            comparison = _compared(
                model,
                guides,
                data,
                options,
                settings,
                guide_epochs=options.guide_epochs,
                evidence=options.evidence,
                split=options.split,
                annealing={"steps": options.annealing_steps},
                checkpoint=running.parts,
            )
        _write(running, comparison, settings, data)
    results.tell(results.summary(comparison, settings), results.table(comparison), options.as_json, running.path)


def train_on_shared(options: TrainOptions) -> None:
    """Fits one guide to the model, measures the pair, writes the run's folder and prints.

    Raises:
        InputError: for options of other models, a guide that does not fit this one, or what ``fit`` refuses.
    """
    model, data = _start(options, _OF_OTHER_TRAININGS)
    name = options.guide if "guide" in options.typed else shared_first_choices(model)[0]
    guides = {name: shared_guide(name, options.model, model)}
    with run_of(options, "train", f"train-{options.model}") as running:
        training = _training(options, running.path)
        settings = options.recorded(without=_OF_OTHER_TRAININGS, guide=name, capture=options.captured, **training)
        with whole("train"):
            comparison = _compared(
                model,
                guides,
                data,
                options,
                settings,
                capture=options.captured,
                precision=options.precision,
                checkpoint=running.parts,
            )
        _write(running, comparison, settings, data)
    results.tell(results.summary(comparison, settings), results.table(comparison), options.as_json, running.path)


def _start(options: CompareOptions | TrainOptions, refused: Sequence[str]) -> tuple[BayesianModel, tuple[Tensor, ...]]:
    """Makes the model and its data from the seed."""
    options.refuse(refused, f"for {options.model}, which comes with its data and takes them all in each step")
    if distributed.count() > 1:
        raise InputError(f"{options.model} takes all its data in each step, which can't be divided: start one process")
    return shared_start(options.model, options.seed)


def _training(options: CompareOptions | TrainOptions, folder: Path) -> dict[str, Any]:
    """The settings of the training, with what is taken where nothing was typed."""
    return {
        "epochs": most_epochs(options, _STEPS),
        "lr": _RATE if options.lr is None else options.lr,
        "device": str(resolve_device(options.device)),
        "run": folder,
    }


def _compared(
    model: BayesianModel,
    guides: dict[str, nn.Module],
    data: tuple[Tensor, ...],
    options: CompareOptions | TrainOptions,
    settings: dict[str, Any],
    **more: Any,
) -> Comparison:
    """Compares the guides on the data that they are fitted to, one row for all of them."""
    return compare(
        model,
        guides,
        data,
        test=data,
        particles=options.particles,
        epochs=settings["epochs"],
        batch_size=len(data[0]),
        lr=settings["lr"],
        **watched(options, settings["run"]),
        **objective(options),
        device=options.device,
        seed=options.seed,
        progress=not options.quiet,
        **more,
    )


def _write(running: RunFolder, comparison: Comparison, settings: dict[str, Any], data: tuple[Tensor, ...]) -> None:
    results.write_comparison(running.path, comparison, settings)
    results.write_gaps(running.path, comparison)
    files = write_pairs(running.path, comparison.pairs)
    of_data = data_record(settings["model"], data)
    running.finish(keep_parts=True, kind="shared", settings=settings, data=of_data, pairs=files, results="table.json")
