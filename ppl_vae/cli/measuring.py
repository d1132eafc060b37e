"""Measures the pairs of earlier runs again: of one run, or of several side by side."""

import math
from collections.abc import Sequence
from typing import Any

from rich.table import Table

from ppl_vae.cli import results
from ppl_vae.cli.opening_options import EvaluateOptions
from ppl_vae.cli.options import CompareOptions
from ppl_vae.cli.reporting import report
from ppl_vae.cli.resuming import run_of
from ppl_vae.cli.watching import WATCHING
from ppl_vae.errors import InputError
from ppl_vae.measure.side_by_side import Comparison, side_by_side
from ppl_vae.pairs.progress import whole
from ppl_vae.runs.opened import Run, open_run, require_pairs
from ppl_vae.runs.rebuilt import Pairs
from ppl_vae.runs.run_data import test_data
from ppl_vae.training.health import TrainingWarning
from ppl_vae.training.history import History
from ppl_vae.training.warning import warn_caller

_OF_TRAINING = (
    *("data", "model", "guides", "base", "joint", "latents", "hidden", "likelihood"),
    *("epochs", "guide_epochs", "batch_size", "lr", "kl_weight", "free_bits", "clip"),
    *WATCHING,
)


def measure_runs(options: EvaluateOptions) -> None:
    """Measures one run's pairs, prints their table, and adds it to the run's report.

    Raises:
        InputError: for a run without pairs, data that are not those of the run, or what ``tightness`` refuses.
    """
    run = open_run(options.folder)
    comparison = measured([run], options, "evaluate")
    settings = options.recorded(without=("folder",)) | {"run": options.folder}
    summary = results.summary(comparison, settings)
    results.tell(summary, _table(comparison, run), options.as_json)
    page = report(run.folder, summary)
    if page is not None and not options.as_json:
        print(f"report: {page}")


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
    for run in runs:
        require_pairs(run)
        if run.kind != "images":
            options.refuse(("images",), f"for {run.folder}, a run without images")
        if _values(run) != _values(first):
            raise InputError(
                f"{first.folder} is a run on {_described(first)}, {run.folder} one on {_described(run)}: compare runs "
                "on the same data"
            )
    pairs: Pairs = {}
    histories: dict[str, History] = {}
    seconds: dict[str, float] = {}
    for run, before in zip(runs, _labels(runs), strict=True):
        for name, pair in run.pairs.items():
            label = f"{before}{name}"
            pairs[label] = pair
            history = run.histories.get(name)
            seconds[label] = math.nan if history is None else sum(history.seconds)
            histories |= {} if history is None else {label: history}
            for line in () if history is None else history.advice:  # what its training has told
                warn_caller(f"{label}: {line}", TrainingWarning)
    data = test_data(first, next(iter(pairs.values()))[0], options.data_root, options.images)
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


def _labels(runs: Sequence[Run]) -> list[str]:
    """What stands before the names of each run's guides: its folder's name, or its path where names are not enough."""
    if len(runs) == 1:
        return [""]
    names = [run.folder.name for run in runs]
    told_apart = all(names) and len(set(names)) == len(names)
    return [f"{run.folder.name if told_apart else run.folder}/" for run in runs]


def _values(run: Run) -> dict[str, Any]:
    """What a run's record keeps of its data but their name, which may be one path or another to them."""
    return {key: value for key, value in run.data.items() if key != "name"}


def _described(run: Run) -> str:
    return f"{run.data['name']} ({run.data['fingerprint']})"
