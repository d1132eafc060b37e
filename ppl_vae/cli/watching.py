"""What ``--until``, ``--patience``, ``--validation`` and ``--tracker`` mean in Python, and how a training ended."""

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ppl_vae.cli.base_options import WatchedOptions
from ppl_vae.errors import InputError
from ppl_vae.runs.writing import file_name
from ppl_vae.training.converged import Converged
from ppl_vae.training.history import History
from ppl_vae.training.optimizers import cooldown
from ppl_vae.training.patience import Patience
from ppl_vae.training.stopping import StoppingRule
from ppl_vae.training.trackers import CSVTracker, TensorBoardTracker, Tracker

WATCHING = ("until", "patience", "validation", "tracker")
CURVES = "curves"  # the folder of them in a run's
_LONGER = 10  # times the usual epochs, at most, where a rule ends the training


def most_epochs(options: WatchedOptions, usual: int) -> int:
    """The epochs that were asked for, or the usual ones; many more where ``--until`` says when to stop."""
    asked: int | None = getattr(options, "epochs", None)
    return asked or (usual if options.until is None else _LONGER * usual)


def watched(options: WatchedOptions, folder: Path, has_held_out: bool = False) -> dict[str, Any]:
    """The options as ``fit`` takes them, with the schedule that goes with them.

    Args:
        options: of the command.
        folder: the run's.
        has_held_out: whether there are held-out data where no share of them is asked for.

    Raises:
        InputError: for a value that is out of range, or options that do not go together.
    """
    until = _rule(options, has_held_out)
    return {
        "until": until,
        "validation": options.validation,
        "schedule": None if until is not None and until.lowers_rate else cooldown,
        "tracker": _tracker(options.tracker, folder / CURVES),
    }


def _rule(options: WatchedOptions, has_held_out: bool) -> StoppingRule | None:
    until, patience, share = options.until, options.patience, options.validation
    if share is not None and not 0 < share < 1:
        raise InputError(f"--validation is {share:g}; expected a share of the training data, such as 0.1")
    if until is not None and not 0 < until < math.inf:
        raise InputError(f"--until is {until:g}; expected nats above 0 that may be left to gain, such as 0.02")
    if until is not None and patience is not None:
        raise InputError(f"--until {until:g} and --patience {patience} both end the training: give one of them")
    if patience is not None and share is None and not has_held_out:
        raise InputError(f"--patience {patience} waits for a held-out bound: add --validation 0.1, say")
    if until is not None:
        return Converged(until)
    return None if patience is None else Patience(patience)


def _tracker(kind: str, folder: Path) -> Callable[[str], Tracker] | None:
    """A function that makes the tracker of a training of some name; None where none was asked for."""
    if kind == "csv":
        return lambda name: CSVTracker(folder / f"{file_name(name)}.csv")
    if kind == "tensorboard":
        TensorBoardTracker(folder)  # which says at once where it is not installed
        return lambda name: TensorBoardTracker(folder / file_name(name))
    if kind:
        raise InputError(f"--tracker is {kind!r}; expected csv or tensorboard")
    return None


def ending(history: History) -> dict[str, Any]:
    """How a training ended, for JSON."""
    return {
        "ended": history.ended,
        "epochs": len(history.elbo),
        "remaining": history.remaining,
        "held_out_elbo": history.held_out,
        "generalization_gap": history.generalization_gap,
    }


def ending_rows(history: History, unit: str) -> dict[str, str]:
    """How a training ended, in words for a table, by what they are about; ``unit`` is what a figure is per."""
    rows = {"training": f"{len(history.elbo)} epochs: {history.ended}"}
    known: Mapping[str, tuple[float, Callable[..., str]]] = {
        "predicted to be left": (history.remaining, "{:.2g} nats{}".format),
        "held-out ELBO": (history.held_out, "{:.3f} nats{}".format),
        "training ELBO above that": (history.generalization_gap, "{:.3f} nats{}".format),
    }
    return rows | {name: said(value, unit) for name, (value, said) in known.items() if not math.isnan(value)}


def ending_lines(histories: Mapping[str, History], unit: str) -> list[str]:
    """How those trainings ended that were watched, or that a rule has stopped, a line each."""
    lines = []
    for name, history in histories.items():
        rows = ending_rows(history, unit)
        if len(rows) > 1 or not history.ended.startswith("all "):
            how = rows.pop("training")
            figures = [f"{what} {value}" for what, value in rows.items() if what not in how]
            lines.append("; ".join([f"{name}: {how}", *figures]))
    return lines
