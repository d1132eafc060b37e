"""``ppl-vae train`` on a table: a Gaussian mixture of its columns, or a mixture density of its target."""

import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pyro
import torch
from matplotlib.figure import Figure
from sklearn.model_selection import train_test_split
from torch import Tensor
from torch.optim import AdamW

from ppl_vae.cli import results
from ppl_vae.cli.options import OF_IMAGES, TrainOptions
from ppl_vae.cli.resuming import run_of
from ppl_vae.cli.table_report import density_figure, histories, tell_starts
from ppl_vae.cli.values import widths
from ppl_vae.cli.watching import ending, most_epochs, watched
from ppl_vae.data.tables import Table, load_table
from ppl_vae.errors import InputError
from ppl_vae.models import GaussianMixture
from ppl_vae.models.gaussian_mixture import bic
from ppl_vae.pairs.progress import whole
from ppl_vae.pairs.restore import evaluating
from ppl_vae.plots.bounds import training_curves
from ppl_vae.runs.data_records import table_record
from ppl_vae.runs.folder import RunFolder
from ppl_vae.runs.pairs import write_module
from ppl_vae.runs.tables import table_model
from ppl_vae.runs.writing import write_histories
from ppl_vae.runs.zoo import MIXTURES
from ppl_vae.training.fit import resolve_device
from ppl_vae.training.several_starts import Start, best_of

_STEPS = 1000
_FEW = 10_000  # up to so many rows a step takes them all
# of a network, as on the UCI tables (benchmarks/uci.py)
_NETWORK_BATCH = 128
_WEIGHT_DECAY = 1.0
_VALIDATION = 0.2  # of the rows that are not tested on


@dataclass(frozen=True)
class _Parts:
    """A table's rows: to train on and, for a network alone, to stop and choose by, and to test on."""

    training: tuple[Tensor, ...]
    validation: tuple[Tensor, ...] | None = None
    test: tuple[Tensor, ...] | None = None


def train_on_table(options: TrainOptions) -> None:
    """Trains from several starts, writes the run's folder, prints every start.

    A Gaussian mixture is trained on all rows, and the start with the highest likelihood is kept. A mixture density
    network is trained on 64% of the rows with weight decay, stopped and chosen by 16% (with ``--validation``, by that
    share of the 80%), and tested on 20%.

    Raises:
        InputError: for a model that takes images, a table that gives no density, or what ``fit`` refuses.
    """
    if options.model not in MIXTURES:
        raise InputError(
            f"{options.data} is a table, which {options.model!r} does not take: choose from {', '.join(MIXTURES)}"
        )
    with run_of(options, "train", f"train-{Path(options.data).stem}") as running:
        watching = _watching(options, running.path)
        table = load_table(options.data, options.data_root, options.target)
        is_network = options.model == "mixture-density-network"
        parts = _split(table, options) if is_network else _Parts((table.varied().values,))
        settings = _settings(options, table, len(parts.training[0])) | {"run": running.path}
        make = _maker(settings, parts.training)
        try:
            make(options.seed)
        except ValueError as error:
            raise InputError(f"{options.data}: {error}") from None
        with whole("train"):
            best, starts = best_of(
                make,
                parts.training,
                starts=options.starts,
                seed=options.seed,
                epochs=settings["epochs"],
                batch_size=settings["batch_size"],
                **watching,
                device=options.device,
                optimizer=partial(AdamW, lr=settings["lr"], weight_decay=settings["weight_decay"], fused=True),
                held_out=parts.validation,
                patience=options.patience,
                checkpoint=running.parts,
                progress=not options.quiet,
            )
        best.cpu()
        with evaluating(best):
            result = _result(settings, best, starts, table, parts)
            figure = density_figure(best, table, parts.training)
        _write(running, result, best, starts, table, figure)
    if options.as_json:
        print(json.dumps(results.plain(result)))
    else:
        tell_starts(result, starts)
    results.tell_folder(running.path, options.as_json)


def _watching(options: TrainOptions, folder: Path) -> dict[str, Any]:
    """What ``best_of`` passes on to ``fit``; the held-out rows are its own."""
    if options.model == "mixture-density-network":
        where = "for a mixture-density-network, whose weight decay keeps it from the optimum: take --patience"
        options.refuse(("until",), where)
    else:
        options.refuse(("patience", "validation"), f"for a {options.model}, which is trained on all rows")
        options.refuse(("hidden",), f"for a {options.model}, which has no network")
    found = watched(options, folder, has_held_out=True)
    by_itself = {"until": None} if options.patience is not None else {}  # best_of takes the patience
    return {name: found[name] for name in ("until", "schedule", "tracker")} | by_itself


def _write(
    running: RunFolder,
    result: dict[str, Any],
    best: torch.nn.Module,
    starts: list[Start],
    table: Table,
    figure: Figure | None,
) -> None:
    results.write_json(running.path / "result.json", result)
    curves = histories(starts)
    write_histories(running.path, curves)
    results.save(running.path / "training.png", training_curves(curves))
    write_module(running.path / "model.safetensors", best)
    if figure is not None:
        results.save(running.path / "density.png", figure)
    files = {"exact-posterior": {"model": "model.safetensors"}}
    running.finish(
        kind="table", settings=result["settings"], data=table_record(table), pairs=files, results="result.json"
    )


def _settings(options: TrainOptions, table: Table, rows: int) -> dict[str, Any]:
    """The options to record, with what this model takes where nothing was asked for.

    Raises:
        InputError: for too few rows, or a rate or decay that is out of range.
    """
    is_network = options.model == "mixture-density-network"
    if rows <= options.components:
        raise InputError(
            f"{options.data} has {rows} rows to train on, {options.components} components need more: lower --components"
        )
    size = options.batch_size or min(rows, _NETWORK_BATCH if is_network else _FEW)
    rate = options.lr if options.lr is not None else (0.005 if is_network else 0.03)
    decay = options.weight_decay if options.weight_decay is not None else (_WEIGHT_DECAY if is_network else 0.0)
    if not 0 < rate < math.inf:
        raise InputError(f"--lr is {rate}; a learning rate is above 0 and finite, such as 0.01")
    if not 0 <= decay < math.inf or (decay and not is_network):
        raise InputError(f"--weight-decay is {decay}; it is 0 or above, and 0 for a gaussian-mixture, which has none")
    return options.recorded(
        without=OF_IMAGES if is_network else (*OF_IMAGES, "hidden"),
        hidden=widths("100,100" if options.hidden is None else options.hidden),
        target=table.target,
        covariance=options.covariance or ("diagonal" if is_network else "full"),
        epochs=most_epochs(options, max(1, round(_STEPS / -(-rows // size)))),
        batch_size=size,
        lr=rate,
        weight_decay=decay,
        device=str(resolve_device(options.device)),
    )


def _maker(settings: dict[str, Any], batch: tuple[Tensor, ...]) -> Callable[[int], torch.nn.Module]:
    """A function that makes the model of the settings from a seed, started from the training rows."""

    def make(seed: int) -> torch.nn.Module:
        pyro.set_rng_seed(seed)
        if settings["model"] == "gaussian-mixture":
            return table_model(settings, batch[0].shape[1]).initialize(batch[0], seed)
        return table_model(settings, batch[1].shape[1]).standardize(*batch)

    return make


def _result(
    settings: dict[str, Any], best: torch.nn.Module, starts: list[Start], table: Table, parts: _Parts
) -> dict[str, Any]:
    """What is written as JSON."""
    chosen = next(start for start in starts if start.kept)
    result: dict[str, Any] = {
        "settings": settings,
        "units": "log_likelihood: nats, the sum over the training rows; held_out, test_nll: nats, means over rows",
        "kept_by": "held_out, the log-density of the validation rows" if parts.validation else "log_likelihood",
        "rows": len(parts.training[0]),
        "log_likelihood": chosen.log_likelihood,
        "degenerate": chosen.degenerate,
        **ending(chosen.history),
        "starts": [_record(start) for start in starts],
    }
    if isinstance(best, GaussianMixture):
        result |= {"smallest_eigenvalue": chosen.smallest_eigenvalue, "bic": bic(best, parts.training[0])}
        result |= {"weights": best.weights.tolist(), "means": best.means.tolist(), "columns": table.columns}
    elif parts.validation is not None and parts.test is not None:
        log_density = best.log_evidence(*parts.test).double()  # type: ignore[operator]
        result |= {"validation_rows": len(parts.validation[0]), "validation_nll": -float(chosen.held_out or 0.0)}
        result |= {"test_rows": len(log_density), "test_nll": -float(log_density.mean())}
        result["test_nll_se"] = float(log_density.std()) / len(log_density) ** 0.5
    return result


def _record(start: Start) -> dict[str, Any]:
    """A start for JSON: its curves have a file of their own."""
    figures = asdict(start)
    del figures["history"]
    return figures | {"ended": start.history.ended, "remaining": start.history.remaining}


def _split(table: Table, options: TrainOptions) -> _Parts:
    """Targets and what they are predicted from, divided at random."""
    if table.targets is None:
        raise InputError(
            f"{table.name} has no target, which a mixture-density-network predicts: name a column by --target"
        )
    if table.classes:
        raise InputError(
            f"{table.name}: the target {table.target!r} holds text, a mixture-density-network predicts a number: name "
            f"another column by --target, such as {table.columns[0]}"
        )
    targets = table.targets[:, None]
    if float(targets.min()) == float(targets.max()):
        raise InputError(f"{table.name}: the target {table.target!r} is constant, so its density has no scale")
    if len(targets) < 10:
        raise InputError(f"{table.name} has {len(targets)} rows: at least 10 are needed, a fifth of them to test on")
    values = table.varied().values
    seed, share = options.seed, _VALIDATION if options.validation is None else options.validation
    targets, test_targets, values, test_values = train_test_split(targets, values, test_size=0.2, random_state=seed)
    if not 0 < round(share * len(targets)) < len(targets):
        raise InputError(f"--validation is {share:g} of {len(targets)} rows, which leaves one side without any")
    targets, stop_targets, values, stop_values = train_test_split(targets, values, test_size=share, random_state=seed)
    return _Parts((targets, values), (stop_targets, stop_values), (test_targets, test_values))
