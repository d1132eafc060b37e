"""A progress bar on standard error, which never waits for the device."""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

_REFRESH = 0.1  # seconds: a step may take less than an update


@contextmanager
def bar(description: str, steps: int, start: int, show: bool) -> Iterator[Callable[[int, float, int], None]]:
    """From its first step on; yields what a step is told to: its epoch from 1, its ELBO (nats, per row), its rows."""
    if not show:
        yield lambda epoch, elbo, points: None
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("epoch {task.fields[epoch]}  ELBO {task.fields[elbo]:.2f} nats"),
        TextColumn("{task.fields[rate]:.0f} points/s"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as shown:
        task = shown.add_task(description, total=steps, completed=start, epoch=0, elbo=math.nan, rate=0.0)
        began, seen, smooth, done = time.perf_counter(), 0, math.nan, start
        told = began

        def advance(epoch: int, elbo: float, points: int) -> None:
            nonlocal seen, smooth, done, told
            seen, done, now = seen + points, done + 1, time.perf_counter()
            smooth = elbo if math.isnan(smooth) else 0.98 * smooth + 0.02 * elbo
            if now - told >= _REFRESH or done == steps:
                shown.update(task, completed=done, epoch=epoch, elbo=smooth, rate=seen / (now - began))
                told = now

        yield advance


@contextmanager
def stage(description: str, total: int, show: bool, *, shorten: str = "") -> Iterator[Callable[[int], None]]:
    """To be replaced."""
    yield lambda count: None
