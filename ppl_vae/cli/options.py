"""What each command takes: one frozen dataclass a command, one field an option, in the order of ``--help``."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ppl_vae.cli.base_options import JsonOption, Options, RunOptions, WatchedOptions
from ppl_vae.cli.catalogue import COVARIANCES
from ppl_vae.cli.values import CAPTURES
from ppl_vae.errors import InputError

if TYPE_CHECKING:
    from ppl_vae.training.capture import Capture

DataOption = Annotated[
    str, typer.Option(help="A data set's name (see `ppl-vae list`), a .npy file of images or a .csv table.")
]
RootOption = Annotated[Path | None, typer.Option(help="The folder of the data; $PPL_VAE_DATA or ./data by default.")]
ModelOption = Annotated[str, typer.Option(help="A model's name (see `ppl-vae list`).")]
LatentsOption = Annotated[int, typer.Option(min=1, help="Latents of one image.")]
HiddenOption = Annotated[
    str,
    typer.Option(help="Widths of the networks' hidden layers, comma-separated; none where it is empty."),
]
LikelihoodOption = Annotated[
    str, typer.Option(help="The VAE's likelihood: bernoulli (binarizes the images anew at each step) or gaussian.")
]
_EPOCHS = "Passes over the data; by default about 1.2 million images, 200 epochs at most; 3000 for shared latents"
EpochsOption = Annotated[int | None, typer.Option(min=1, help=f"{_EPOCHS}.")]
BatchOption = Annotated[int | None, typer.Option(min=1, help="Images in a step, 128 by default.")]
_RATE = "Adam's learning rate, by default 1e-3 for images and 0.02 for shared latents"
_FALLS = "it falls to 0 over the last 30% of the steps."
RateOption = Annotated[float | None, typer.Option(help=f"{_RATE}; {_FALLS}")]
KLWeightOption = Annotated[
    str,
    typer.Option(
        help="The divergence's weight in training: a number, warm-up or cyclical, or with the share of the training "
        "(of each cycle) in which it rises, warm-up:0.5 say."
    ),
]
FreeBitsOption = Annotated[
    float, typer.Option(help="Bits of each latent's dimension that cost nothing in training, on average over the data.")
]
ClipOption = Annotated[
    float | None, typer.Option(help="The largest norm of a step's gradient, of the mean ELBO of a data point.")
]
ParticlesOption = Annotated[
    int, typer.Option(min=2, help="Draws of z for each test image, or of the latents that all the data share.")
]
ImagesOption = Annotated[int | None, typer.Option(min=1, help="Measure on the first so many test images only.")]
EvidenceOption = Annotated[str, typer.Option(help="Where log p(x) comes from: auto, exact, importance or annealed.")]
StepsOption = Annotated[int, typer.Option(min=1, help="Annealed evidence: the number of distributions.")]
SplitOption = Annotated[
    bool, typer.Option("--split", help="Split each gap into approximation and amortization (takes a while).")
]
SeedOption = Annotated[int, typer.Option(min=0, help="The seed of everything random.")]
DeviceOption = Annotated[str, typer.Option(help="auto, cpu, cuda, ...")]

OF_TABLES = ("target", "components", "covariance", "starts", "weight_decay")
OF_IMAGES = (
    *("guide", "latents", "likelihood", "estimator", "step_particles"),
    *("checkpoint", "particles", "images", "capture", "precision"),
    *("kl_weight", "free_bits", "clip"),
)


@dataclass(frozen=True, kw_only=True)
class TrainOptions(WatchedOptions):
    """The options of ``ppl-vae train``."""

    data: DataOption = "digits"
    model: ModelOption = "vae"
    guide: Annotated[str, typer.Option(help="A guide's name (see `ppl-vae list`).")] = "diagonal"
    latents: LatentsOption = 32
    hidden: Annotated[
        str | None,
        typer.Option(
            help="Widths of the networks' hidden layers, comma-separated; none where it is empty. By default 400,400 "
            "for images and 100,100 for a table's network."
        ),
    ] = None
    likelihood: LikelihoodOption = "bernoulli"
    estimator: Annotated[
        str, typer.Option(help="A gradient estimator's name (see `ppl-vae list`); by default the guide's usual one.")
    ] = ""
    step_particles: Annotated[
        int | None,
        typer.Option(min=1, help="Draws of z for each image of a step; by default the fewest the estimator needs."),
    ] = None
    epochs: Annotated[int | None, typer.Option(min=1, help=f"{_EPOCHS}; about 1000 steps for a table.")] = None
    batch_size: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Data points in a step; by default 128, and for a mixture a whole table of up to 10,000 rows.",
        ),
    ] = None
    lr: Annotated[
        float | None,
        typer.Option(help=f"{_RATE}, 0.03 for a table and 0.005 for its network; {_FALLS}"),
    ] = None
    kl_weight: KLWeightOption = "1"
    free_bits: FreeBitsOption = 0.0
    clip: ClipOption = None
    particles: ParticlesOption = 1000
    images: ImagesOption = None
    target: Annotated[
        str | None, typer.Option(help="For a table: the column to predict, or the one that a mixture leaves out.")
    ] = None
    components: Annotated[int, typer.Option(min=1, help="For a mixture: the number of Gaussians.")] = 3
    covariance: Annotated[
        str,
        typer.Option(
            help=f"For a mixture: {', '.join(COVARIANCES)} (by default full; diagonal for a mixture density network)."
        ),
    ] = ""
    starts: Annotated[
        int, typer.Option(min=1, help="For a mixture: the number of starts, of which the best is kept.")
    ] = 5
    weight_decay: Annotated[
        float | None, typer.Option(help="For a mixture density network: AdamW's weight decay, 1 by default.")
    ] = None
    checkpoint: Annotated[
        Path | None, typer.Option(help="A file that holds the training, from which an interrupted run goes on.")
    ] = None
    capture: Annotated[
        str,
        typer.Option(
            help="Replay a graph of the pair: auto (where it pays), true, false, or compile (true, and compiled)."
        ),
    ] = "auto"
    precision: Annotated[str, typer.Option(help="The networks' precision: float32, tf32 (on a GPU) or bf16.")] = (
        "float32"
    )
    seed: SeedOption = 0
    device: DeviceOption = "auto"
    data_root: RootOption = None

    @property
    def captured(self) -> "Capture":
        """What ``--capture`` means in Python."""
        if self.capture not in CAPTURES:
            raise InputError(f"--capture is {self.capture!r}; expected {', '.join(CAPTURES)}")
        return CAPTURES[self.capture]


@dataclass(frozen=True, kw_only=True)
class CompareOptions(WatchedOptions):
    """The options of ``ppl-vae compare``."""

    runs: Annotated[
        list[Path] | None,
        typer.Option(
            "--from",
            metavar="RUN",
            help="Trains nothing: measures the pairs of this earlier run; may be given repeatedly.",
        ),
    ] = None
    data: DataOption = "digits"
    model: ModelOption = "vae"
    guides: Annotated[str, typer.Option(help="Guides' names, comma-separated (see `ppl-vae list`).")] = ""
    base: Annotated[str, typer.Option(help="The guide to train the model with; by default diagonal where it fits.")] = (
        ""
    )
    joint: Annotated[bool, typer.Option("--joint", help="Train a model with each guide instead of freezing one.")] = (
        False
    )
    latents: LatentsOption = 32
    hidden: HiddenOption = "400,400"
    likelihood: LikelihoodOption = "bernoulli"
    epochs: EpochsOption = None
    guide_epochs: Annotated[
        int | None, typer.Option(min=1, help="Passes over the data for each guide; by default as many as the model's.")
    ] = None
    batch_size: BatchOption = None
    lr: RateOption = None
    kl_weight: KLWeightOption = "1"
    free_bits: FreeBitsOption = 0.0
    clip: ClipOption = None
    particles: ParticlesOption = 1000
    evidence: EvidenceOption = "auto"
    annealing_steps: StepsOption = 500
    split: SplitOption = False
    images: ImagesOption = None
    seed: SeedOption = 0
    device: DeviceOption = "auto"
    data_root: RootOption = None


@dataclass(frozen=True, kw_only=True)
class GradientsOptions(RunOptions):
    """The options of ``ppl-vae gradients``."""

    data: DataOption = "digits"
    model: ModelOption = "vae"
    guide: Annotated[str, typer.Option(help="A guide's name; by default diagonal, or the discrete one that fits.")] = ""
    estimators: Annotated[
        str, typer.Option(help="Estimators' names, comma-separated (see `ppl-vae list`); by default the usual ones.")
    ] = ""
    latents: Annotated[str, typer.Option(help="Latents of one image, such as 2,10,50; one pair for each.")] = "8"
    particles: Annotated[str, typer.Option(help="Draws of z for each image, such as 1,2,4,8.")] = "1"
    hidden: HiddenOption = "200"
    likelihood: LikelihoodOption = "bernoulli"
    epochs: Annotated[int, typer.Option(min=1, help="Passes over the data before the last measurement.")] = 10
    batch_size: Annotated[int, typer.Option(min=1, help="Images in a step, and in the gradient.")] = 100
    lr: Annotated[float, typer.Option(help="Adam's learning rate.")] = 1e-3
    draws: Annotated[int, typer.Option(min=10, help="Gradients of each estimator at each stop.")] = 200
    reference_draws: Annotated[
        int,
        typer.Option(
            min=0, help="Draws of the reference gradient for the bias, where none is exact; 0 measures no bias."
        ),
    ] = 10_000
    learning_steps: Annotated[
        int | None,
        typer.Option(min=0, help="Steps in which an estimator itself learns before its draws; by default enough."),
    ] = None
    race: Annotated[bool, typer.Option(help="Also train with each estimator, from the same start.")] = True
    seed: SeedOption = 0
    device: DeviceOption = "auto"
    data_root: RootOption = None


@dataclass(frozen=True, kw_only=True)
class NewOptions(Options):
    """The options of ``ppl-vae new``."""

    name: Annotated[str, typer.Argument(help="The module's name, such as my_model.")]
    kind: Annotated[str, typer.Option(help="What to start from, one of the kinds above.")] = "local"
    folder: Annotated[Path, typer.Option(help="The folder to write to.")] = Path()


@dataclass(frozen=True, kw_only=True)
class ListOptions(Options):
    """The options of ``ppl-vae list``."""

    as_json: JsonOption = False
