"""``ppl-vae train`` on images: one pair, its bounds on the test images, parameters, figures."""

import json
import resource
import sys
import time
from pathlib import Path
from typing import Any

import pyro
import torch
from rich.table import Table

from ppl_vae.cli import report
from ppl_vae.cli.options import CAPTURES, adam, default_epochs, refuse_mixture
from ppl_vae.cli.zoo import Builder
from ppl_vae.data.images import load
from ppl_vae.errors import InputError
from ppl_vae.measure.bounds import average, bounds
from ppl_vae.pairs.psis import shares
from ppl_vae.pairs.restore import evaluating
from ppl_vae.plots.bounds import NOT_A_BOUND, training_curves
from ppl_vae.training import distributed
from ppl_vae.training.fit import fit, resolve_device
from ppl_vae.training.optimizers import cooldown


def train_on_images(
    model: str,
    data: str,
    *,
    guide: str,
    latents: int,
    hidden: tuple[int, ...],
    likelihood: str,
    estimator: str,
    step_particles: int | None,
    epochs: int | None,
    batch_size: int,
    lr: float,
    particles: int,
    images: int | None,
    checkpoint: Path | None,
    capture: str,
    precision: str,
    seed: int,
    device: str,
    data_root: Path | None,
    run: Path | None,
    as_json: bool,
) -> None:
    """Trains, measures, writes the run's folder, prints; of many processes the first one alone measures.

    Raises:
        InputError: for a name that is none, a model of tables, or what ``fit`` refuses.
    """
    settings = {key: value for key, value in locals().items() if key != "as_json"}
    refuse_mixture(model, data)
    if capture not in CAPTURES:
        raise InputError(f"--capture is {capture!r}; expected {', '.join(CAPTURES)}")
    folder = report.new_run(run, f"train-{Path(data).stem}")
    used = resolve_device(device)
    source = load(data, data_root)
    length = settings["epochs"] = epochs or default_epochs(source)
    pyro.set_rng_seed(seed)
    builder = Builder(source, latents, hidden, likelihood)
    program = builder.model(model)
    fitted = builder.guide(guide, program)
    if step_particles and not estimator:
        raise InputError(f"--step-particles is {step_particles}, which needs an --estimator: see `ppl-vae list`")
    elbo = builder.estimator(estimator, program, fitted, step_particles) if estimator else builder.elbo(fitted)
    training, test, transform = builder.data(program, seed, images)
    report.tell_images(source, transform is not None)
    history = fit(
        program,
        fitted,
        training,
        elbo=elbo,
        epochs=length,
        batch_size=batch_size,
        optimizer=adam(lr),
        schedule=cooldown,
        transform=transform,
        device=device,
        seed=seed,
        description=guide,
        checkpoint=checkpoint,
        capture=CAPTURES[capture],
        precision=precision,  # type: ignore[arg-type]
    )
    if distributed.rank() > 0:
        return
    test = tuple(part.to(used) for part in test)
    start = time.perf_counter()
    pyro.set_rng_seed(seed)
    measured = bounds(program, fitted, test, particles=particles)
    evaluation = time.perf_counter() - start
    is_bound = bool(measured.attrs["is_bound"])
    curve = {int(count): average(measured.iwelbo.sel(K=count), measured.iwelbo_se.sel(K=count)) for count in measured.K}
    result: dict[str, Any] = {
        "settings": settings | {"device": str(used), "run": folder},
        "units": "nats per image; _se: Monte Carlo standard error",
        "is_bound": is_bound,
        "test_elbo": average(measured.elbo, measured.elbo_se)[0],
        "test_elbo_se": average(measured.elbo, measured.elbo_se)[1],
        "test_iwelbo": {count: value for count, (value, _) in curve.items()},
        "test_iwelbo_se": {count: error for count, (_, error) in curve.items()},
        "train_elbo": history.elbo,
        "seconds_per_epoch": sum(history.seconds) / length,
        "compile_seconds": history.compile_seconds,
        "images_per_second": history.points_per_second,
        "evaluation_seconds": evaluation,
        "peak_memory_gib": _peak_memory(),
    }
    if hasattr(program, "log_evidence"):
        with evaluating(program):
            result["test_log_evidence"] = float(program.log_evidence(*test).mean())
    with report.whole_folder(folder) as place:
        report.write_json(place / "result.json", result)
        report.save_parameters(place / "model.pt", program)
        report.save_parameters(place / "guide.pt", fitted)
        measured.to_netcdf(place / "bounds.nc", engine="scipy")
        report.save(place / "training.png", training_curves({guide: history}))
        report.write_images(place, {guide: (program, fitted)}, test, source.shape)
    if as_json:
        print(json.dumps(report.plain(result)))
        return
    mark = "" if is_bound else f" ({NOT_A_BOUND})"
    bad = 1 - shares(measured.khat, measured.attrs["khat_threshold"])["good"]
    heavy = f" (no error: the weights of {bad:.0%} of the images can't be trusted)" if bad > 0 else ""
    shown = Table("", "on the test images", title=f"{model}, {guide} guide, {data}")
    shown.add_row(f"ELBO{mark}", f"{report.with_error(result['test_elbo'], result['test_elbo_se'])} nats/image")
    shown.add_row(f"IWELBO K={max(curve)}{mark}", f"{report.with_error(*curve[max(curve)])} nats/image{heavy}")
    if "test_log_evidence" in result:
        shown.add_row("log p(x), exact", f"{result['test_log_evidence']:.3f} nats/image")
    shown.add_row("seconds per epoch", f"{result['seconds_per_epoch']:.2f} ({history.points_per_second:.0f} images/s)")
    shown.add_row("peak memory", f"{result['peak_memory_gib']:.2f} GiB")
    if history.compile_seconds:
        shown.add_row("compiling", f"{history.compile_seconds:.1f} s")
    report.show(shown)
    print(folder)


def _peak_memory() -> float:
    """GiB: of the GPU where one was used, else of the process."""
    if torch.cuda.is_initialized():
        return torch.cuda.max_memory_allocated() / 2**30
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30
