"""Runs a recorded command again, and tells which figures are the same."""

import io
import json
import math
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import Any

import typer
from rich.table import Table

from ppl_vae.cli.base_options import RunOptions
from ppl_vae.cli.compare import compare
from ppl_vae.cli.gradients import gradients
from ppl_vae.cli.opening_options import ReproduceOptions
from ppl_vae.cli.options import CompareOptions, GradientsOptions, TrainOptions
from ppl_vae.cli.resuming import earlier_options
from ppl_vae.cli.terminal import show
from ppl_vae.cli.train import train
from ppl_vae.errors import InputError
from ppl_vae.runs.folder import read_record
from ppl_vae.runs.opened import Run, open_run

_ROUNDING = 1e-5  # relative: other sums on other threads or processors
_OF_THE_MACHINE = ("seconds", "memory", "per_second", "variance_cost")  # in the names of figures
_COMMANDS: dict[str, tuple[type[RunOptions], Callable[[Any], None]]] = {
    "train": (TrainOptions, train),
    "compare": (CompareOptions, compare),
    "gradients": (GradientsOptions, gradients),
}
Figures = dict[str, float | str | None]


def run_again(options: ReproduceOptions) -> None:
    """Runs the command into a folder of its own, which is kept where one was named, and prints the comparison.

    Raises:
        InputError: for a folder without a finished run, or what the command refuses.
    """
    earlier = open_run(options.folder)
    if earlier.command not in _COMMANDS:
        raise InputError(f"{options.folder} is a run of `{earlier.command}`, which is a script: run it again by itself")
    kind, run = _COMMANDS[earlier.command]
    recorded = earlier_options(kind, read_record(options.folder)["options"], options.folder)
    changed = {name: getattr(options, name) for name in ("device", "data_root") if name in options.typed}
    with tempfile.TemporaryDirectory() as place:
        folder = options.run or Path(place) / "again"
        own: dict[str, Any] = {"run": folder, "quiet": options.quiet, "as_json": True}
        if hasattr(recorded, "checkpoint"):
            own["checkpoint"] = None  # which would give the earlier training back
        with redirect_stdout(io.StringIO()):
            run(replace(recorded, **own, **changed, typed=recorded.typed - {"checkpoint"} | frozenset(changed)))
        again = open_run(folder)
    _tell(options, earlier, again)


def _tell(options: ReproduceOptions, earlier: Run, again: Run) -> None:
    """Prints what differs, or that nothing does; exit status 1 where a figure does."""
    then, now = dict(_figures(earlier.results)), dict(_figures(again.results))
    names = list(dict.fromkeys([*then, *now]))
    others = [name for name in names if then.get(name) != now.get(name)]
    differing = [name for name in others if not _is_rounding(then.get(name), now.get(name))]
    if options.as_json:
        print(json.dumps({"figures": len(names), "same": len(names) - len(others), "differing": differing}))
    else:
        for key, was in earlier.made_with.items():
            if key != "started" and was != again.made_with[key]:
                print(f"{key}: {was} then, {again.made_with[key]} now", file=sys.stderr)
        _show(then, now, others, len(names))
    if differing:
        raise typer.Exit(1)


def _show(then: Figures, now: Figures, others: list[str], count: int) -> None:
    if not others:
        print(f"all {count} figures are the same to the last digit")
        return
    table = Table("figure", "then", "now", "", title=f"{count - len(others)} of {count} figures are the same")
    for name in others:
        note = "rounding" if _is_rounding(then.get(name), now.get(name)) else "differs"
        table.add_row(name, str(then.get(name, "missing")), str(now.get(name, "missing")), note)
    show(table)


def _figures(content: Any, name: str = "") -> Iterator[tuple[str, float | str | None]]:
    """The figures of a run's JSON by their place; guides by their name, other lists by number; no settings."""
    if isinstance(content, dict):
        for key, part in content.items():
            if key != "settings" and not any(word in key for word in _OF_THE_MACHINE):
                yield from _figures(part, f"{name}.{key}" if name else key)
    elif isinstance(content, list):
        for index, part in enumerate(content):
            label = part.get("guide", index) if isinstance(part, dict) else index
            yield from _figures(part, f"{name}[{label}]")
    else:
        yield name, content


def _is_rounding(then: Any, now: Any) -> bool:
    numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in (then, now))
    return numbers and math.isclose(then, now, rel_tol=_ROUNDING, abs_tol=1e-9)
