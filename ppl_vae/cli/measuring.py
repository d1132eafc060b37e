"""Measures the pairs of earlier runs again: of one run, or of several side by side."""

import math
from collections.abc import Sequence
from typing import Any

from rich.table import Table
from torch import Tensor

from ppl_vae.cli import results
from ppl_vae.cli.opening_options import EvaluateOptions
from ppl_vae.cli.options import CompareOptions
from ppl_vae.cli.resuming import run_of
from ppl_vae.cli.watching import WATCHING
from ppl_vae.data.images import load
from ppl_vae.data.tables import load_table
from ppl_vae.errors import InputError
from ppl_vae.measure.side_by_side import Comparison, side_by_side
from ppl_vae.pairs.progress import whole
from ppl_vae.runs.data_records import image_tensors, table_tensors
from ppl_vae.runs.image_data import data_for
from ppl_vae.runs.opened import Run, open_run
from ppl_vae.runs.rebuilt import Pairs, shared_start
from ppl_vae.training.digests import digest
from ppl_vae.training.health import TrainingWarning
from ppl_vae.training.history import History
from ppl_vae.training.warning import warn_caller

_OF_TRAINING = (
    *("data", "model", "guides", "base", "joint", "latents", "hidden", "likelihood"),
    *("epochs", "guide_epochs", "batch_size", "lr", "kl_weight", "free_bits", "clip"),
    *WATCHING,
)


def measure_runs(options: EvaluateOptions) -> None:
    """Measures one run's pairs and prints their table.

    Raises:
        InputError: for a run without pairs, data that are not those of the run, or what ``tightness`` refuses.
    """
    run = open_run(options.folder)
    comparison = measured([run], options, "evaluate")
    settings = options.recorded(without=("folder",)) | {"run": options.folder}
    results.tell(results.summary(comparison, settings), _table(comparison, run), options.as_json)


def compare_runs(options: CompareOptions) -> None:
    """Measures the pairs of earlier runs side by side, writes a folder and prints.

    Raises:
        InputError: for options of a training, runs of other data, or what ``tightness`` refuses.
    """
    options.refuse(_OF_TRAINING, "beside --from, which trains nothing")
    opened = [open_run(folder) for folder in options.runs or ()]
    if len({run.folder.resolve() for run in opened}) < len(opened):
        raise InputError("--from names one run twice: name each once")
    with run_of(options, "compare", "compare-runs") as running:
        comparison = measured(opened, options, "compare")
        settings = options.recorded(without=_OF_TRAINING, run=running.path)
        results.write_comparison(running.path, comparison, settings)
        results.write_gaps(running.path, comparison)
        first = opened[0]
        running.finish(kind=first.kind, settings=settings, data=first.data, pairs={}, results="table.json")
    results.tell(results.summary(comparison, settings), _table(comparison, first), options.as_json, running.path)


def _table(comparison: Comparison, run: Run) -> Table:
    return results.table(comparison, "row" if run.kind == "table" else "image")


def measured(runs: Sequence[Run], options: EvaluateOptions | CompareOptions, description: str) -> Comparison:
    """Measures the pairs of runs on the data of the first; all must have the same.

    Raises:
        InputError: for runs of other data, or what :func:`ppl_vae.measure.side_by_side.side_by_side` refuses.
    """
    first = runs[0]
    for run in runs[1:]:
        if run.data != first.data:
            raise InputError(
                f"{first.folder} is a run on {_described(first)}, {run.folder} one on {_described(run)}: compare runs "
                "on the same data"
            )
    pairs: Pairs = {}
    histories: dict[str, History] = {}
    seconds: dict[str, float] = {}
    for run in runs:
        for name, pair in run.pairs.items():
            label = name if len(runs) == 1 else f"{run.folder.name}/{name}"
            pairs[label] = pair
            history = run.histories.get(name)
            seconds[label] = math.nan if history is None else sum(history.seconds)
            histories |= {} if history is None else {label: history}
            for line in () if history is None else history.advice:  # what its training has told
                warn_caller(f"{label}: {line}", TrainingWarning)
    if not pairs:
        raise InputError(f"{first.folder} is a run of `{first.command}`, which keeps no pair: take one of train")
    data = test_data(first, next(iter(pairs.values()))[0], options)
    with whole(description):
        return side_by_side(
            pairs,
            data,
            particles=options.particles,
            evidence=options.evidence,
            split=options.split,
            annealing={"steps": options.annealing_steps},
            device=options.device,
            seed=options.seed,
            progress=not options.quiet,
            seconds=seconds,
            histories=histories,
        )


def test_data(run: Run, model: Any, options: EvaluateOptions | CompareOptions) -> tuple[Tensor, ...]:
    """The data that a run's pairs are measured on: its test images, a table's rows, or those that its model comes with.

    Raises:
        InputError: where the data are no longer those of the run.
    """
    settings = run.settings
    if run.kind == "images":
        source = load(settings["data"], run.data_root(options.data_root))
        _require_same(run, image_tensors(source))
        return data_for(model, source, settings["seed"], options.images or settings.get("images")).test
    if run.kind == "table":
        table = load_table(settings["data"], run.data_root(options.data_root), run.data["target"])
        _require_same(run, table_tensors(table))
        if model.given_count and table.targets is not None:
            return table.targets[:, None], table.values
        return (table.values,)
    _, data = shared_start(settings["model"], settings["seed"])
    _require_same(run, data)
    return data


def _require_same(run: Run, tensors: Sequence[Tensor]) -> None:
    if digest(tensors) != run.data["fingerprint"]:
        raise InputError(
            f"the data {run.data['name']} are not those of {run.folder}, whose values were others: give the folder of "
            "those by --data-root"
        )


def _described(run: Run) -> str:
    return f"{run.data['name']} ({run.data['fingerprint']})"
