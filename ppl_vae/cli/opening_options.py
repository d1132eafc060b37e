"""What the commands take that open an earlier run: evaluate, sample, report and reproduce."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from ppl_vae.cli.base_options import JsonOption, Options, QuietOption
from ppl_vae.cli.options import (
    DeviceOption,
    EvidenceOption,
    ImagesOption,
    ParticlesOption,
    RootOption,
    SeedOption,
    SplitOption,
    StepsOption,
)

FolderArgument = Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a finished run.")]


@dataclass(frozen=True, kw_only=True)
class EvaluateOptions(Options):
    """The options of ``ppl-vae evaluate``."""

    folder: FolderArgument
    particles: ParticlesOption = 1000
    evidence: EvidenceOption = "auto"
    annealing_steps: StepsOption = 500
    split: SplitOption = False
    images: ImagesOption = None
    seed: SeedOption = 0
    device: DeviceOption = "auto"
    data_root: RootOption = None
    quiet: QuietOption = False
    as_json: JsonOption = False


@dataclass(frozen=True, kw_only=True)
class SampleOptions(Options):
    """The options of ``ppl-vae sample``."""

    folder: FolderArgument
    count: Annotated[int, typer.Option(min=1, help="How many images or rows to draw.")] = 100
    guide: Annotated[str, typer.Option(help="Whose model, where each guide of the run has its own.")] = ""
    to: Annotated[Path | None, typer.Option(help="The folder to write to, by default that of the run.")] = None
    seed: SeedOption = 0
    data_root: RootOption = None


@dataclass(frozen=True, kw_only=True)
class ReportOptions(Options):
    """The options of ``ppl-vae report``."""

    folder: FolderArgument
    open: Annotated[bool, typer.Option("--open", help="Open the page in the browser.")] = False
    to: Annotated[
        Path | None, typer.Option(help="The file to write, or a folder for it; by default report.html in the run's.")
    ] = None
    data_root: RootOption = None


@dataclass(frozen=True, kw_only=True)
class ReproduceOptions(Options):
    """The options of ``ppl-vae reproduce``."""

    folder: FolderArgument
    run: Annotated[
        Path | None, typer.Option("--run", help="The new run's folder, absent or empty; by default none is kept.")
    ] = None
    device: DeviceOption = "auto"
    data_root: RootOption = None
    quiet: QuietOption = False
    as_json: JsonOption = False
