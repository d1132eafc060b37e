"""What several processes gain: the steps of a training by 1, 2 and 4 of them on this machine's cores, and what is lost.

Each process takes its rows of every batch, and gradients are summed by gloo (``ppl_vae.training.distributed``). Sides
are one process with one thread and with two, and two and four processes with one thread each; batches are 128 and 1024
in all (strong scaling) or 128 for each process (weak). Each side trains twice in a round: as it is, and with a
barrier before each sum over the processes, which tells the wait for the slowest process from the sum itself. Beside
that: what each process does for the whole batch, whatever its share: gather its rows and binarize them.

Milliseconds a step, medians over rounds of the first process's means over its fastest quarter of steps (others on the
machine make steps longer, never shorter), are printed as JSON.

    python benchmarks/processes.py
    python benchmarks/processes.py --axis weak --store benchmarks/results/processes-two-cores.json
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pyro
import torch
import torch.distributed as dist
from growth import BATCH, USUAL, EnoughError, bytes_of, pair
from stored import print_axes
from torch import Tensor

from ppl_vae import fit
from ppl_vae.training.batches import batches
from ppl_vae.training.binarizing import bernoulli
from ppl_vae.training.distributed import count, joined, rank

SIDES = {"1 process, 1 thread": (1, 1), "1 process, 2 threads": (1, 2), "2 processes": (2, 1), "4 processes": (4, 1)}
AXES = {"strong, 128": (128, False), "strong, 1024": (1024, False), "weak": (BATCH, True)}
WARM, STEPS = 100, 150
ROWS = 10_000
SUM = dist.all_reduce


class Meter:
    """Notes when each batch comes and how long the sums over processes take, as a training's ``transform``."""

    def __init__(self, barrier: bool) -> None:
        self.times: list[float] = []
        self.waited: list[float] = []
        self.summed: list[float] = []
        self._barrier = barrier

    def __call__(self, images: Tensor) -> Tensor:
        """Turns bytes into bits."""
        self.times.append(time.perf_counter())
        if len(self.times) > WARM + STEPS:
            raise EnoughError
        return bits(images)

    def all_reduce(self, tensor: Tensor) -> None:
        """Sums a tensor over the processes, once all are there."""
        start = time.perf_counter()
        if self._barrier:
            dist.barrier()
        there = time.perf_counter()
        SUM(tensor)
        self.waited.append(there - start)
        self.summed.append(time.perf_counter() - there)

    def found(self) -> dict[str, float]:
        """Milliseconds a step and of it in the sums, means over the fastest quarter of the steps."""
        steps = {number: self.times[number + 1] - self.times[number] for number in range(WARM, len(self.times) - 1)}
        fast = sorted(steps, key=lambda number: steps[number])[: len(steps) // 4]
        found = {"step": statistics.mean(steps[number] for number in fast)}
        for name, parts in {"wait": self.waited, "sum": self.summed}.items():  # the first time is that of a probe
            found[name] = statistics.mean(parts[number - 1] for number in fast) if parts else 0.0
        return {name: 1000 * seconds for name, seconds in found.items()}


def bits(images: Tensor) -> Tensor:
    """Binarizes grey pixels."""
    return bernoulli(images.float().div_(255))


def reading(images: Tensor, batch_size: int) -> float:
    """Milliseconds in which a process gathers a whole batch and binarizes it."""
    start, number = time.perf_counter(), 0
    for _ in batches(images, batch_size, torch.device("cpu"), bits).epoch():
        number += 1
    return 1000 * (time.perf_counter() - start) / number


def one(batch_size: int) -> None:
    """This process's part of a training, twice; the first one prints what it took."""
    pyro.enable_validation(False)
    torch.manual_seed(0)
    images = bytes_of(ROWS // batch_size * batch_size)
    with joined():
        plain = metered(images, batch_size, Meter(barrier=False))
        parts = metered(images, batch_size, Meter(barrier=True)) if count() > 1 else {"wait": 0.0, "sum": 0.0}
        found = {
            "step": plain["step"],
            "reading": reading(images, batch_size),
            "in sums": plain["sum"],
            "with a barrier: waiting": parts["wait"],
            "with a barrier: summing": parts["sum"],
        }
        if rank() == 0:
            print(json.dumps(found))


def metered(images: Tensor, batch_size: int, meter: Meter) -> dict[str, float]:
    """Trains until the meter has enough steps."""
    dist.all_reduce = meter.all_reduce
    with suppress(EnoughError):
        fit(
            *pair(USUAL),
            images,
            epochs=1 + (WARM + STEPS) * batch_size // len(images),
            batch_size=batch_size,
            transform=meter,
            capture=True,
            device="cpu",
            seed=0,
            progress=False,
        )
    return meter.found()


def side(processes: int, threads: int, batch_size: int) -> dict[str, float]:
    """Starts a side by torchrun, and gives what its first process found."""
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    done = subprocess.run(
        [*torchrun, __file__, "--one", str(batch_size)],
        env=os.environ | {"OMP_NUM_THREADS": str(threads)},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return json.loads(done.stdout.splitlines()[-1])


def along(axis: str, turns: int) -> dict[str, Any]:
    """All sides in turn, round after round."""
    batch_size, is_weak = AXES[axis]
    rounds: dict[str, list[dict[str, float]]] = {name: [] for name in SIDES}
    for _ in range(turns):
        for name, (processes, threads) in SIDES.items():
            rounds[name].append(side(processes, threads, batch_size * (processes if is_weak else 1)))
            print(axis, name, rounds[name][-1], file=sys.stderr, flush=True)
    base = rounds["1 process, 1 thread"]
    table = {}
    for name, found in rounds.items():
        share = SIDES[name][0] if is_weak else 1
        speed = [share * b["step"] / turn["step"] for turn, b in zip(found, base, strict=True)]
        table[name] = {key: round(statistics.median(turn[key] for turn in found), 3) for key in found[0]}
        table[name]["rows a second, as a ratio to 1 process, 1 thread"] = round(statistics.median(speed), 3)
    return table


def main(axes: list[str], store: Path | None, rounds: int) -> None:
    """Every axis in turn; those of a file of results that is there stay in it."""
    machine = f"{platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}, gloo"
    print_axes(axes, partial(along, turns=rounds), machine, USUAL, store)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--axis", action="append", choices=list(AXES), help="one of several; all where none is given")
    parser.add_argument("--store", type=Path, help="a file of results, to which the axes are added")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--one", type=int, metavar="BATCH", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        one(given.one)
    else:
        main(given.axis or list(AXES), given.store, given.rounds)
