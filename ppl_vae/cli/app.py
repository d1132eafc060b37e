"""The command line, ``ppl-vae``: a thin face on the Python.

Tables and JSON go to standard output, progress and errors to standard error; bad input ends with status 2.
"""

import json
import sys
import warnings
from pathlib import Path
from typing import Annotated, Any

import pyro
import torch
import typer
from rich import box
from rich.table import Table

from ppl_vae.cli import report
from ppl_vae.cli.gradients import Laboratory, counts
from ppl_vae.cli.image_runs import train_on_images
from ppl_vae.cli.options import (
    BatchOption,
    CaptureOption,
    DataOption,
    DeviceOption,
    EpochsOption,
    HiddenOption,
    ImagesOption,
    JsonOption,
    LatentsOption,
    LikelihoodOption,
    ModelOption,
    ParticlesOption,
    PrecisionOption,
    RateOption,
    RootOption,
    RunOption,
    SeedOption,
    adam,
    default_epochs,
    refuse_given,
    refuse_mixture,
    widths,
)
from ppl_vae.cli.scaffold import new_pair
from ppl_vae.cli.table_runs import train_on_table
from ppl_vae.cli.zoo import ALIASES, OF_A_MODEL, Builder
from ppl_vae.data.images import DATASETS, load
from ppl_vae.data.tables import TABLES, is_table
from ppl_vae.errors import InputError
from ppl_vae.estimators import ESTIMATORS
from ppl_vae.guides import FAMILIES
from ppl_vae.measure.comparison import compare as compare_guides
from ppl_vae.models import COVARIANCES, MODELS
from ppl_vae.training import distributed
from ppl_vae.training.fit import resolve_device
from ppl_vae.training.optimizers import cooldown

_USAGE: Any = typer.BadParameter.__base__
_STOPPED = "stopped; a run with --checkpoint goes on from its last whole epoch by the same command"
_COMMANDS = ("train", "compare", "gradients", "new", "list")
app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode=None)


@app.callback()
def root() -> None:
    """Train latent-variable models in Pyro, swap their guides, and see how tight each ELBO is."""


@app.command()
def train(
    context: typer.Context,
    data: DataOption = "digits",
    model: ModelOption = "vae",
    guide: Annotated[str, typer.Option(help="A guide's name (see `ppl-vae list`).")] = "diagonal",
    latents: LatentsOption = 32,
    hidden: HiddenOption = "",
    likelihood: LikelihoodOption = "bernoulli",
    estimator: Annotated[
        str, typer.Option(help="The gradient's (see `ppl-vae list`); by default the usual one for the guide.")
    ] = "",
    step_particles: Annotated[
        int | None, typer.Option(min=1, help="Draws of z for each image of a step; the estimator's fewest by default.")
    ] = None,
    epochs: EpochsOption = None,
    batch_size: BatchOption = None,
    lr: RateOption = None,
    particles: ParticlesOption = 1000,
    images: ImagesOption = None,
    target: Annotated[str | None, typer.Option(help="Of a table: the column that is predicted, or left out.")] = None,
    components: Annotated[int, typer.Option(min=1, help="Of a mixture: how many Gaussians.")] = 3,
    covariance: Annotated[
        str, typer.Option(help=f"Of a mixture: {', '.join(COVARIANCES)} (full by default; a network: diagonal).")
    ] = "",
    starts: Annotated[int, typer.Option(min=1, help="Of a mixture: the best of so many is kept.")] = 5,
    weight_decay: Annotated[
        float | None, typer.Option(help="Of a mixture density network: AdamW's, 1 by default.")
    ] = None,
    checkpoint: Annotated[
        Path | None, typer.Option(help="Kept whole after each epoch; a run that was cut off goes on from it.")
    ] = None,
    capture: CaptureOption = "auto",
    precision: PrecisionOption = "float32",
    seed: SeedOption = 0,
    device: DeviceOption = "auto",
    data_root: RootOption = None,
    run: RunOption = None,
    as_json: JsonOption = False,
) -> None:
    """Train a model with one guide and measure its bounds on the test images; or a mixture on a table.

    Example: ppl-vae train --data mnist --guide diagonal --epochs 30 --run runs/mnist

    Example: torchrun --nproc-per-node 2 -m ppl_vae train --data mnist

    Example: ppl-vae train --model gaussian-mixture --data iris --components 3
    """
    if is_table(data):
        refuse_given(
            context,
            (
                "guide",
                "latents",
                "likelihood",
                "estimator",
                "step_particles",
                "checkpoint",
                "particles",
                "images",
                "capture",
                "precision",
            ),
            f"on {data}, which is a table",
        )
        train_on_table(
            model,
            data,
            target=target,
            components=components,
            covariance=covariance,
            starts=starts,
            hidden=widths(hidden or "100,100"),
            epochs=epochs,
            batch_size=batch_size,
            lr=lr,
            weight_decay=weight_decay,
            seed=seed,
            device=device,
            data_root=data_root,
            run=run,
            as_json=as_json,
        )
        return
    of_tables = ("target", "components", "covariance", "starts", "weight_decay")
    refuse_given(context, of_tables, f"on {data}, which has images and no table")
    train_on_images(
        model,
        data,
        guide=guide,
        latents=latents,
        hidden=widths(hidden or "400,400"),
        likelihood=likelihood,
        estimator=estimator,
        step_particles=step_particles,
        epochs=epochs,
        batch_size=batch_size or 128,
        lr=1e-3 if lr is None else lr,
        particles=particles,
        images=images,
        checkpoint=checkpoint,
        capture=capture,
        precision=precision,
        seed=seed,
        device=device,
        data_root=data_root,
        run=run,
        as_json=as_json,
    )


@app.command()
def compare(
    data: DataOption = "digits",
    model: ModelOption = "vae",
    guides: Annotated[str, typer.Option(help="Guides' names, comma-separated (see `ppl-vae list`).")] = "",
    base: Annotated[str, typer.Option(help="The guide to train the model with; diagonal where it fits.")] = "",
    joint: Annotated[
        bool, typer.Option("--joint", help="Train a model with each guide instead of freezing one.")
    ] = False,
    latents: LatentsOption = 32,
    hidden: HiddenOption = "400,400",
    likelihood: LikelihoodOption = "bernoulli",
    epochs: EpochsOption = None,
    guide_epochs: Annotated[
        int | None, typer.Option(min=1, help="Passes for each guide; as many as for the model by default.")
    ] = None,
    batch_size: BatchOption = None,
    lr: RateOption = None,
    particles: ParticlesOption = 1000,
    evidence: Annotated[str, typer.Option(help="Source of log p(x): auto, exact, importance, annealed.")] = "auto",
    annealing_steps: Annotated[int, typer.Option(min=1, help="Distributions on the way, for annealed.")] = 500,
    split: Annotated[
        bool, typer.Option("--split", help="Split each gap into approximation and amortization (takes a while).")
    ] = False,
    images: ImagesOption = None,
    seed: SeedOption = 0,
    device: DeviceOption = "auto",
    data_root: RootOption = None,
    run: RunOption = None,
    as_json: JsonOption = False,
) -> None:
    """Train one model, freeze it, fit every guide to it, and rank the guides by their ELBO.

    Example: ppl-vae compare --data mnist --guides diagonal,full,flow --latents 32
    Example: ppl-vae compare --data mnist --guides diagonal,flow --images 100 --split --evidence annealed
    """
    if is_table(data):
        raise InputError(f"compare takes images, {data} is a table: use `ppl-vae train`, or ppl_vae.compare in Python")
    refuse_mixture(model, data)
    batch_size, lr = batch_size or 128, 1e-3 if lr is None else lr
    settings = {key: value for key, value in locals().items() if key != "as_json"}
    folder = report.new_run(run, f"compare-{Path(data).stem}")
    source = load(data, data_root)
    epochs = settings["epochs"] = epochs or default_epochs(source)
    pyro.set_rng_seed(seed)
    builder = Builder(source, latents, widths(hidden), likelihood)
    program = builder.model(model)
    names = [name.strip() for name in guides.split(",") if name.strip()] if guides else builder.first_choices(program)
    base = settings["base"] = base or ("diagonal" if "diagonal" in builder.fitting(program) else names[0])
    first = None if joint else builder.guide(base, program)
    chosen: dict[str, torch.nn.Module] = {name: builder.guide(name, program) for name in names}
    training, test, transform = builder.data(program, seed, images)
    report.tell_images(source, transform is not None)
    found = compare_guides(
        program,
        chosen,
        training,
        test,
        base=first,
        joint=joint,
        particles=particles,
        epochs=epochs,
        guide_epochs=guide_epochs,
        batch_size=batch_size,
        optimizer=adam(lr),
        schedule=cooldown,
        transform=transform,
        device=device,
        seed=seed,
        elbo=builder.elbo,
        evidence=evidence,
        split=split,
        annealing={"steps": annealing_steps},
    )
    settings |= {"guides": names, "device": str(resolve_device(device)), "run": folder}
    with report.whole_folder(folder) as place:
        report.write_comparison(place, found, settings)
        report.write_diagnostics(place, found, test[0], source.shape)
        report.write_images(place, found.pairs, tuple(part.to(resolve_device(device)) for part in test), source.shape)
        for name, (own, fitted) in found.pairs.items():
            report.save_parameters(place / f"guide-{name}.pt", fitted)
            report.save_parameters(place / (f"model-{name}.pt" if joint else "model.pt"), own)
    if as_json:
        print(json.dumps(report.plain(report.summary(found, settings))))
        return
    report.show(report.table(found))
    print(folder)


@app.command()
def gradients(
    data: DataOption = "digits",
    model: ModelOption = "vae",
    guide: Annotated[str, typer.Option(help="A guide's name; the diagonal or the discrete one by default.")] = "",
    estimators: Annotated[str, typer.Option(help="Names, comma-separated (see `ppl-vae list`); the usual ones.")] = "",
    latents: Annotated[str, typer.Option(help="Latents of one image, such as 2,10,50; one pair for each.")] = "8",
    particles: Annotated[str, typer.Option(help="Draws of z for each image, such as 1,2,4,8.")] = "1",
    hidden: HiddenOption = "200",
    likelihood: LikelihoodOption = "bernoulli",
    epochs: Annotated[int, typer.Option(min=1, help="Passes over the data before the last measurement.")] = 10,
    batch_size: Annotated[int, typer.Option(min=1, help="Images in a step, and in the gradient.")] = 100,
    lr: Annotated[float, typer.Option(help="Adam's learning rate.")] = 1e-3,
    draws: Annotated[int, typer.Option(min=10, help="Gradients of each estimator at each stop.")] = 200,
    exact_draws: Annotated[
        int, typer.Option(min=0, help="Of the gradient to tell the bias against, where none is exact; 0 tells none.")
    ] = 10_000,
    learning_steps: Annotated[
        int | None, typer.Option(min=0, help="In which an estimator itself learns, before its draws; what it needs.")
    ] = None,
    race: Annotated[bool, typer.Option(help="Also train by each estimator, from the same start.")] = True,
    seed: SeedOption = 0,
    device: DeviceOption = "auto",
    data_root: RootOption = None,
    run: RunOption = None,
    as_json: JsonOption = False,
) -> None:
    """Measure gradient estimators side by side on one pair: variance, bias and cost, along its training.

    Example: ppl-vae gradients --data mnist --latents 2,10,50 --estimators pathwise,score-function
    """
    if is_table(data):
        raise InputError(f"gradients takes images, {data} is a table: use ppl_vae.gradient_statistics in Python")
    refuse_mixture(model, data)
    names = [name.strip() for name in estimators.split(",") if name.strip()]
    for name in names:
        if name not in ESTIMATORS:
            raise InputError(f"there is no estimator {name!r}: choose from {', '.join(ESTIMATORS)}")
    settings = {key: value for key, value in locals().items() if key not in ("as_json", "names", "name")}
    folder = report.new_run(run, f"gradients-{Path(data).stem}")
    source, layers = load(data, data_root), widths(hidden)
    laboratory = Laboratory(
        lambda count: Builder(source, count, layers, likelihood),
        model,
        guide,
        names,
        batch_size,
        draws,
        exact_draws,
        learning_steps,
        adam(lr),
        device,
        seed,
    )
    laboratory.run(counts(latents, "--latents"), counts(particles, "--particles"), epochs, race)
    settings |= {"estimators": list(laboratory.estimators), "device": str(resolve_device(device)), "run": folder}
    with report.whole_folder(folder) as place:
        content = laboratory.write(place, settings)
    if as_json:
        print(json.dumps(report.plain(content)))
        return
    report.show(laboratory.table())
    print(folder)


@app.command()
def new(
    name: Annotated[str, typer.Argument(help="The module's name, such as my_model.")],
    folder: Annotated[Path, typer.Option(help="Where to write.")] = Path(),
) -> None:
    """Write a model, a guide and their tests from a template that passes at once.

    Example: ppl-vae new my_model && pytest test_my_model.py
    """
    for path in new_pair(name, folder):
        print(path)


@app.command("list")
def list_members(as_json: JsonOption = False) -> None:
    """List the models, guides, gradient estimators and data sets by the names that the other commands take.

    Example: ppl-vae list --json
    """
    members: dict[str, dict[str, str]] = {
        "models": {name: _first_line(member) for name, member in MODELS.items()},
        "guides": {
            **{name: _first_line(member) for name, member in [*FAMILIES.items(), *OF_A_MODEL.items()]},
            **{alias: f"The same as {name}." for alias, name in ALIASES.items()},
        },
        "estimators": {name: entry.about for name, entry in ESTIMATORS.items()},
        "data": {name: _first_line(member) for name, member in (DATASETS | TABLES).items()},
    }
    if as_json:
        print(json.dumps(members))
        return
    for kind, named in members.items():
        shown = Table(kind, "", box=box.SIMPLE_HEAD)
        for name, line in named.items():
            shown.add_row(name, line)
        report.show(shown)


def main() -> None:
    """The console script: input that a person can mend ends in one line and status 2."""
    warnings.showwarning = _in_one_line
    given = sys.argv[1:]
    try:
        with distributed.joined():
            code = app(given or ["--help"], standalone_mode=False)
    except InputError as error:
        message, code = str(error), 2
    except _USAGE as error:  # an option or a command that is none
        command = f"ppl-vae {given[0]}" if given[0] in _COMMANDS else "ppl-vae"
        told = str(error.format_message()).rstrip(".")
        message, code = f"{told} (given: {' '.join(given)}): see `{command} --help`", 2
    except (KeyboardInterrupt, typer.Abort):
        message, code = _STOPPED, 130
    else:
        message = _STOPPED if code == 130 else ""
    if message:
        print(f"ppl-vae: {message}", file=sys.stderr)
    sys.exit(code)


def _in_one_line(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
    if issubclass(category, UserWarning):
        print(f"ppl-vae: {' '.join(str(message).split())}", file=sys.stderr)


def _first_line(member: Any) -> str:
    return (member.__doc__ or "").strip().splitlines()[0]
