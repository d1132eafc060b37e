"""What the options of all commands have in common, and those of the commands that leave a run's folder."""

from collections.abc import Collection
from dataclasses import Field, dataclass, fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from ppl_vae.errors import InputError

RunOption = Annotated[
    Path | None,
    typer.Option("--run", "--folder", help="The run's folder, absent or empty; a new one in runs/ by default."),
]
ResumeOption = Annotated[
    Path | None,
    typer.Option(help="The folder of a run that was cut off: it goes on with its own options, to the same figures."),
]
QuietOption = Annotated[bool, typer.Option("--quiet", help="Show no progress.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of the table.")]

UntilOption = Annotated[
    float | None,
    typer.Option(
        metavar="NATS",
        help="End a training where no more than this is predicted to be left to gain, for each data point (for all, "
        "where they share latents). It sets the learning rate; the usual --epochs are then ten times as many, at most.",
    ),
]
PatienceOption = Annotated[
    int | None,
    typer.Option(
        min=1,
        metavar="EPOCHS",
        help="End a training where the held-out bound has not risen for so many epochs; the best ones are kept.",
    ),
]
ValidationOption = Annotated[
    float | None,
    typer.Option(
        metavar="SHARE",
        help="Hold out this share of the training data, and measure their bound after each epoch; 0.2 by default for a "
        "mixture density network.",
    ),
]
TrackerOption = Annotated[
    str,
    typer.Option(
        help="Write each epoch's figures as they come, to the folder curves of the run's: csv (a file for each "
        "training) or tensorboard."
    ),
]

_OF_DATA = ("data", "data_root")  # by which a run's data are found again


@dataclass(frozen=True, kw_only=True)
class Options:
    """What all commands have in common.

    Attributes:
        typed: the names of the options that were typed; the others have their defaults.
    """

    typed: frozenset[str] = frozenset()

    def refuse(self, names: Collection[str], where: str) -> None:
        """InputError where one of these options was typed, rather than ignoring it."""
        refused = [f"--{name.replace('_', '-')}" for name in names if name in self.typed]
        if refused:
            raise InputError(f"{', '.join(refused)} means nothing {where}: leave it away")

    def recorded(self, *, without: Collection[str] = (), **in_python: Any) -> dict[str, Any]:
        """The options as a run's folder keeps them, all but those for the terminal alone.

        Args:
            without: the names of options that this run has no use for.
            in_python: what an option's text means in Python, to be recorded in its stead.
        """
        left_out = {"typed", "quiet", "as_json", "resume", *without}
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        values |= {name: absolute(name, values[name]) for name in _OF_DATA if name in values}
        return {name: value for name, value in (values | in_python).items() if name not in left_out}


def absolute(option: str, value: Any) -> Any:
    """The value of an option, with each path as one that holds from any folder; ``--data`` may name a file too."""
    if isinstance(value, list):
        return [absolute(option, part) for part in value]
    if option == "data" and isinstance(value, str) and value.lower().endswith((".npy", ".csv")):
        return str(Path(value).absolute())
    return value.absolute() if isinstance(value, Path) else value


def ordered_fields(kind: type[Options]) -> list[Field[Any]]:
    """The fields of options as ``--help`` shows them: those that several commands share come last."""
    shared = {field.name for base in kind.__bases__ if is_dataclass(base) for field in fields(base)}
    return sorted(fields(kind), key=lambda field: field.name in shared)


@dataclass(frozen=True, kw_only=True)
class RunOptions(Options):
    """The options of the commands that leave a folder and can go on in it."""

    run: RunOption = None
    resume: ResumeOption = None
    quiet: QuietOption = False
    as_json: JsonOption = False


@dataclass(frozen=True, kw_only=True)
class WatchedOptions(RunOptions):
    """The options of the commands whose trainings may be watched, and stopped before their last epoch."""

    until: UntilOption = None
    patience: PatienceOption = None
    validation: ValidationOption = None
    tracker: TrackerOption = ""
