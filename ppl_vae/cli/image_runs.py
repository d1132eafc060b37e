"""``ppl-vae train`` on images: one pair, its bounds on the test images, parameters, figures."""

import resource
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyro
import torch
import xarray as xr
from pyro.infer import ELBO
from rich.table import Table

from ppl_vae.cli import results
from ppl_vae.cli.options import OF_TABLES, TrainOptions
from ppl_vae.cli.resuming import run_of
from ppl_vae.cli.values import BATCH_SIZE, default_epochs, objective, widths
from ppl_vae.cli.watching import ending, ending_rows, most_epochs, watched
from ppl_vae.data.images import Images, load
from ppl_vae.errors import InputError
from ppl_vae.evidence import exact_evidence
from ppl_vae.measure.bounds import average, bounds
from ppl_vae.measure.health import untrusted
from ppl_vae.pairs.progress import whole
from ppl_vae.pairs.psis import shares
from ppl_vae.plots.bounds import NOT_A_BOUND, training_curves
from ppl_vae.programs import Guide, LatentVariableModel
from ppl_vae.runs.data_records import image_record
from ppl_vae.runs.folder import RunFolder
from ppl_vae.runs.image_data import ImageData, builder_for, data_for, initialized_model
from ppl_vae.runs.writing import write_bounds, write_histories, write_pairs
from ppl_vae.runs.zoo import Builder, refuse_mixture
from ppl_vae.training import distributed
from ppl_vae.training.fit import History, fit, resolve_device
from ppl_vae.training.health import TrainingWarning
from ppl_vae.training.optimizers import ADAM_RATE
from ppl_vae.training.warning import warn_caller


@dataclass(frozen=True)
class _Setting:
    """What a run starts from: the settings to record, the pair, its objective, and the data."""

    settings: dict[str, Any]
    source: Images
    builder: Builder
    model: LatentVariableModel
    guide: Guide
    elbo: ELBO
    data: ImageData


def train_on_images(options: TrainOptions) -> None:
    """Trains, measures, writes the run's folder and prints; of many processes only the first one measures.

    Raises:
        InputError: for an unknown name, a model of tables, or what ``fit`` refuses.
    """
    refuse_mixture(options.model, options.data)
    capture, weights = options.captured, objective(options)
    with run_of(options, "train", f"train-{Path(options.data).stem}") as running:
        watching = watched(options, running.path)
        start = _start(options, running.path)
        with whole("train"):
            history = fit(
                start.model,
                start.guide,
                start.data.training,
                elbo=start.elbo,
                epochs=start.settings["epochs"],
                batch_size=start.settings["batch_size"],
                lr=start.settings["lr"],
                **watching,
                **weights,
                transform=start.data.transform,
                device=options.device,
                seed=options.seed,
                description=options.guide,
                checkpoint=running.checkpoint("training", options.checkpoint),
                capture=capture,
                precision=options.precision,  # type: ignore[arg-type]
                progress=not options.quiet,
            )
            if distributed.rank() > 0:
                return
            began = time.perf_counter()
            measured = bounds(
                start.model,
                start.guide,
                start.data.test,
                particles=options.particles,
                seed=options.seed,
                progress=not options.quiet,
            )
            evaluation_seconds = time.perf_counter() - began
        result = _result(start, history, measured, evaluation_seconds)
        for line in result["advice"][len(history.advice) :]:  # those of the training are told already
            warn_caller(line, TrainingWarning)
        _write(running, options.guide, start, history, measured, result)
    results.tell(result, _table(options, history, measured, result), options.as_json, running.path)


def _start(options: TrainOptions, folder: Path) -> _Setting:
    """Makes the pair and its data, and says what a user's own file was understood to hold."""
    device = resolve_device(options.device)
    source = load(options.data, options.data_root)
    pyro.set_rng_seed(options.seed)
    hidden = widths("400,400" if options.hidden is None else options.hidden)
    builder = builder_for(source, options.latents, hidden, options.likelihood)
    model = initialized_model(builder, options.model, source)
    guide = builder.guide(options.guide, model)
    if options.step_particles and not options.estimator:
        raise InputError(
            f"--step-particles is {options.step_particles}, which needs an --estimator: see `ppl-vae list`"
        )
    if options.estimator:
        elbo = builder.estimator(options.estimator, model, guide, options.step_particles)
    else:
        elbo = builder.elbo(guide)
    data = data_for(model, source, options.seed, options.images)
    results.tell_images(source, data.transform is not None)
    settings = options.recorded(
        without=OF_TABLES,
        hidden=builder.hidden,
        epochs=most_epochs(options, default_epochs(source)),
        batch_size=options.batch_size or BATCH_SIZE,
        lr=ADAM_RATE if options.lr is None else options.lr,
        capture=options.captured,
        device=str(device),
        run=folder,
    )
    return _Setting(settings, source, builder, model, guide, elbo, data)


def _trusted(measured: xr.Dataset) -> float:
    """The share of the images whose importance weights can be trusted."""
    return shares(measured.khat, measured.attrs["khat_threshold"])["good"]


def _curve(measured: xr.Dataset) -> dict[int, tuple[float, float]]:
    """The mean IWELBO and its error for each K."""
    return {int(count): average(measured.iwelbo.sel(K=count), measured.iwelbo_se.sel(K=count)) for count in measured.K}


def _result(start: _Setting, history: History, measured: xr.Dataset, evaluation_seconds: float) -> dict[str, Any]:
    elbo, elbo_se = average(measured.elbo, measured.elbo_se)
    curve = _curve(measured)
    result: dict[str, Any] = {
        "settings": start.settings,
        "units": "nats per image; _se: Monte Carlo standard error",
        "is_bound": bool(measured.attrs["is_bound"]),
        "test_elbo": elbo,
        "test_elbo_se": elbo_se,
        "test_iwelbo": {count: value for count, (value, _) in curve.items()},
        "test_iwelbo_se": {count: error for count, (_, error) in curve.items()},
        "train_elbo": history.elbo,
        **ending(history),
        "advice": [*history.advice, *_doubts(start, measured)],
        "seconds_per_epoch": sum(history.seconds) / len(history.seconds),
        "compile_seconds": history.compile_seconds,
        "images_per_second": history.points_per_second,
        "evaluation_seconds": evaluation_seconds,
        "peak_memory_gib": _peak_memory(),
    }
    if hasattr(start.model, "log_evidence"):
        known = exact_evidence(start.model, start.data.test)
        result["test_log_evidence"] = float(known.log_evidence.mean()) if known is not None else None
    return result


def _doubts(start: _Setting, measured: xr.Dataset) -> list[str]:
    """What is to be said of the importance weights, where there is something."""
    good = _trusted(measured) if measured.attrs["is_bound"] else None
    line = untrusted({start.settings["guide"]: good}, measured.attrs["khat_threshold"])
    return [line] if line else []


def _write(
    running: RunFolder,
    name: str,
    start: _Setting,
    history: History,
    measured: xr.Dataset,
    result: dict[str, Any],
) -> None:
    folder, pairs = running.path, {name: (start.model, start.guide)}
    results.write_json(folder / "result.json", result)
    write_histories(folder, {name: history})
    write_bounds(folder, measured)
    results.save(folder / "training.png", training_curves({name: history}))
    results.write_images(folder, pairs, start.data.test, start.data.shape)
    files = write_pairs(folder, pairs)
    data = image_record(start.source, start.builder)
    running.finish(
        keep_parts=True, kind="images", settings=start.settings, data=data, pairs=files, results="result.json"
    )


def _table(options: TrainOptions, history: History, measured: xr.Dataset, result: dict[str, Any]) -> Table:
    """The table for a terminal."""
    mark = "" if result["is_bound"] else f" ({NOT_A_BOUND})"
    doubted = 1 - _trusted(measured)
    remark = f" (no error: the weights of {doubted:.0%} of the images can't be trusted)" if doubted > 0 else ""
    curve = _curve(measured)
    table = Table("", "on the test images", title=f"{options.model}, {options.guide} guide, {options.data}")
    table.add_row(f"ELBO{mark}", f"{results.with_error(result['test_elbo'], result['test_elbo_se'])} nats/image")
    table.add_row(f"IWELBO K={max(curve)}{mark}", f"{results.with_error(*curve[max(curve)])} nats/image{remark}")
    if result.get("test_log_evidence") is not None:
        table.add_row("log p(x), exact", f"{result['test_log_evidence']:.3f} nats/image")
    for what, said in ending_rows(history, "/image").items():
        table.add_row(what, said)
    table.add_row("seconds per epoch", f"{result['seconds_per_epoch']:.2f} ({history.points_per_second:.0f} images/s)")
    table.add_row("peak memory", f"{result['peak_memory_gib']:.2f} GiB")
    if history.compile_seconds:
        table.add_row("compiling", f"{history.compile_seconds:.1f} s")
    return table


def _peak_memory() -> float:
    """Returns the peak memory in GiB, of the GPU where one was used, else of the process."""
    if torch.cuda.is_initialized():
        return torch.cuda.max_memory_allocated() / 2**30
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30
