"""The options that commands share, and what is asked of them."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated

import torch
import typer

from ppl_vae.cli.table_runs import MIXTURES
from ppl_vae.data.images import Images
from ppl_vae.data.tables import TABLES
from ppl_vae.errors import InputError
from ppl_vae.training.capture import Capture

DataOption = Annotated[
    str, typer.Option("--data", help="A data set's name (see `ppl-vae list`), a .npy file of images or a .csv table.")
]
RootOption = Annotated[Path | None, typer.Option(help="The folder of the data; $PPL_VAE_DATA or ./data by default.")]
ModelOption = Annotated[str, typer.Option(help="A model's name (see `ppl-vae list`).")]
LatentsOption = Annotated[int, typer.Option(min=1, help="Latents of one image.")]
HiddenOption = Annotated[
    str, typer.Option(help="Widths of the networks' hidden layers, comma-separated; of a table's by default 100,100.")
]
LikelihoodOption = Annotated[str, typer.Option(help="The VAE's: bernoulli (images binarized anew) or gaussian.")]
EpochsOption = Annotated[
    int | None,
    typer.Option(min=1, help="Passes over the data; by default some 1.2 million images, 200 epochs at most."),
]
BatchOption = Annotated[
    int | None, typer.Option(min=1, help="Data points in a step; by default 128 images, or a whole table.")
]
RateOption = Annotated[
    float | None,
    typer.Option(help="Adam's learning rate, 1e-3 for images; it falls to 0 over the last 30% of the steps."),
]
ParticlesOption = Annotated[int, typer.Option(min=1, help="Draws of z for each test image.")]
ImagesOption = Annotated[
    int | None, typer.Option("--images", min=1, help="Measure on the first so many test images only.")
]
CaptureOption = Annotated[
    str,
    typer.Option(help="Replay a graph of the pair: auto (where it pays), always, never, or compile it too."),
]
PrecisionOption = Annotated[str, typer.Option(help="Of the networks: float32, tf32 (on a GPU) or bf16.")]
SeedOption = Annotated[int, typer.Option(min=0, help="The seed of everything random.")]
DeviceOption = Annotated[str, typer.Option(help="auto, cpu, cuda, ...")]
RunOption = Annotated[
    Path | None,
    typer.Option("--run", "--folder", help="The run's folder, absent or empty; a new one in runs/ by default."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of the table.")]

CAPTURES: dict[str, Capture] = {"auto": "auto", "always": True, "never": False, "compile": "compile"}


def refuse_given(context: typer.Context, names: tuple[str, ...], where: str) -> None:
    """InputError where one of these options was typed, rather than ignoring it."""
    sources = {name: context.get_parameter_source(name) for name in names}
    typed = [
        f"--{name.replace('_', '-')}"
        for name, source in sources.items()
        if source is not None and source.name == "COMMANDLINE"
    ]
    if typed:
        raise InputError(f"{', '.join(typed)} means nothing {where}: leave it away")


def refuse_mixture(model: str, data: str) -> None:
    """InputError where a model of tables is asked for images."""
    if model in MIXTURES:
        raise InputError(f"{model} takes a table, not the images of {data}: --data {', '.join(TABLES)} or a .csv file")


def widths(hidden: str) -> tuple[int, ...]:
    """The numbers in --hidden."""
    try:
        widths = tuple(int(width) for width in hidden.split(",") if width.strip())
    except ValueError:
        widths = (0,)
    if any(width < 1 for width in widths):
        raise InputError(f"--hidden is {hidden!r}; expected widths above 0, comma-separated, such as 400,400")
    return widths


def adam(lr: float) -> Callable[..., torch.optim.Optimizer]:
    """Adam with a learning rate that InputError refuses at 0 and below."""
    if not lr > 0:
        raise InputError(f"--lr is {lr}; a learning rate is above 0")
    return partial(torch.optim.Adam, lr=lr, fused=True)


def default_epochs(source: Images) -> int:
    """Some 1.2 million images, 200 epochs at most."""
    return max(1, min(200, round(1_200_000 / len(source.train))))
