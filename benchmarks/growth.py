"""How a training grows: with rows of data, latents, particles and width, one at a time, each size in its own process.

Measured is a step of a captured training on batches of 128 grey images of 784 bytes, binarized anew; what it takes to
the first batch; and the memory beyond that of the imports, of which the pages of a mapped file are told apart: those
are the system's, which takes them back where it needs them. Rows come

- in memory: from a tensor of bytes;
- mapped: from a tensor that is a file mapped into memory, given to ``fit`` as it is, its pages in the system's cache;
- mapped, from disk: the same after the system forgot the file, which is soon read again where it is small;
- by a loader: from a ``DataLoader`` of such a tensor, a batch at once, or row by row as it does by itself.

At most 200 steps are timed, of which an epoch may have more: their median, and what a tenth of them stay below, which
says more where others use the machine. Prints JSON: for each axis the sizes, and the exponents of
the growth with their standard errors. The file of the largest size, 8 GB for ten million rows, is written to the
system's folder for temporary files and deleted at the end, or is one of bytes that is there already.

    python benchmarks/growth.py
    python benchmarks/growth.py --axis "rows by a loader" --store benchmarks/results/growth-two-cores.json
"""

import argparse
import json
import math
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pyro
import torch
from exponents import exponent
from pyro.infer import Trace_ELBO
from stored import print_axes
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader, RandomSampler

from ppl_vae import bounds, fit
from ppl_vae.guides import Amortized, Diagonal, PerDatapoint
from ppl_vae.models import VAE
from ppl_vae.training.binarizing import bernoulli

USUAL = {"rows": 10_000, "latents": 32, "particles": 1, "width": 400}
ROWS = [10**3, 10**4, 10**5, 10**6, 10**7]
PIXELS, BATCH, IMAGES = 784, 128, 20
WARM, STEPS, SECONDS = 100, 200, 12.0  # steps that trace and compare, those that are timed, and the time for them
BLOCK = 100_000  # rows that are made at once


class EnoughError(Exception):
    """Ends a training whose steps have been timed."""


class Clock:
    """Binarizes each batch, and notes when."""

    def __init__(self) -> None:
        self.times: list[float] = []
        self.pages = 0.0

    def __call__(self, images: Tensor) -> Tensor:
        """Turns bytes into bits, as a training's ``transform``."""
        now = time.perf_counter()
        self.times.append(now)
        late = len(self.times) > WARM + 20 and now - self.times[WARM] > SECONDS
        if late or len(self.times) > WARM + STEPS:
            self.pages = memory()["RssFile"]
            raise EnoughError
        return bernoulli(images.float().div_(255))


def bytes_of(rows: int) -> Tensor:
    """Grey pixels in memory, some rows the same as others."""
    images = torch.empty(rows, PIXELS, dtype=torch.uint8)
    block = torch.randint(256, (min(rows, BLOCK), PIXELS), dtype=torch.uint8)
    for some in images.split(BLOCK):
        some.copy_(block[: len(some)])
    return images


def write(path: Path, rows: int) -> None:
    """Writes as many rows to a file."""
    block = bytes_of(min(rows, BLOCK))
    with path.open("wb") as file:
        for _ in range(math.ceil(rows / BLOCK)):
            file.write(block.numpy())


def mapped(path: str, rows: int) -> Tensor:
    """Maps the first rows of a file into memory: what is read of it is read when it is used."""
    return torch.from_file(path, shared=True, size=rows * PIXELS, dtype=torch.uint8).view(rows, PIXELS)


def forget(path: str, rows: int) -> None:
    """Has the system forget a file that it holds in its cache."""
    with open(path, "rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def read_whole(path: str, rows: int) -> None:
    """Has the system hold the first rows of a file in its cache."""
    with open(path, "rb") as file:
        for _ in range(math.ceil(rows / BLOCK)):
            file.read(BLOCK * PIXELS)


def in_batches(images: Tensor) -> DataLoader:
    """Reads the rows of a batch at once."""
    return DataLoader(images, batch_size=None, sampler=BatchSampler(RandomSampler(images), BATCH, drop_last=False))


def row_by_row(images: Tensor) -> DataLoader:
    """What one writes first."""
    return DataLoader(images, batch_size=BATCH, shuffle=True)


def pair(size: dict[str, int], of_each_row: bool = False) -> tuple[VAE, Amortized | PerDatapoint]:
    """The usual VAE with one hidden layer on each side, or with parameters for each row."""
    torch.manual_seed(0)
    latents, hidden = size["latents"], (size["width"],)
    model, family = VAE(PIXELS, latents, hidden=hidden), Diagonal(latents)
    return model, PerDatapoint(family, size["rows"]) if of_each_row else Amortized(family, PIXELS, hidden=hidden)


def training(size: dict[str, int], data: Any, of_each_row: bool = False) -> dict[str, float]:
    """Milliseconds of a step, seconds to the first batch, and GiB of mapped pages."""
    clock, before, start = Clock(), memory()["RssFile"], time.perf_counter()
    with suppress(EnoughError):
        fit(
            *pair(size, of_each_row),
            data,
            elbo=Trace_ELBO(size["particles"], vectorize_particles=True),
            epochs=math.ceil((WARM + STEPS) / math.ceil(size["rows"] / BATCH)),
            batch_size=BATCH,
            transform=clock,
            capture=not of_each_row,
            progress=False,
        )
    steps = [later - now for now, later in zip(clock.times[WARM:], clock.times[WARM + 1 :], strict=False)]
    return {
        "milliseconds": 1000 * statistics.median(steps),
        "fastest_tenth": 1000 * sorted(steps)[len(steps) // 10],
        "seconds_to_first_batch": clock.times[0] - start,
        "of_it_pages_of_files_gib": clock.pages - before,
    }


def evidence(size: dict[str, int], particles: int) -> dict[str, float]:
    """Milliseconds for all images."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model, guide = (part.to(device) for part in pair(size))
    x = torch.rand(IMAGES, PIXELS, device=device).bernoulli()
    times = []
    for _ in range(4 if particles < 50_000 else 2):
        start = time.perf_counter()
        bounds(model, guide, x, particles=particles, curve=(particles,))
        times.append(time.perf_counter() - start)
    return {"milliseconds": 1000 * statistics.median(times[1:])}


Run = Callable[[int, str], dict[str, float]]


def from_rows(source: Callable[[str, int], Any], before: Callable[[str, int], None] = read_whole) -> Run:
    """A training on some rows of the file."""

    def run(rows: int, path: str) -> dict[str, float]:
        before(path, rows)
        return training(USUAL | {"rows": rows}, source(path, rows))

    return run


def with_size(name: str) -> Run:
    """A training on the usual rows in memory, with one size of its pair changed."""
    return lambda value, path: training(USUAL | {name: value}, bytes_of(USUAL["rows"]))


def of_each_row(rows: int, path: str) -> dict[str, float]:
    """A training of parameters for each row."""
    return training(USUAL | {"rows": rows}, (mapped(path, rows), torch.arange(rows)), of_each_row=True)


AXES: dict[str, tuple[list[int], Run]] = {
    "rows in memory": (ROWS, from_rows(lambda path, rows: bytes_of(rows), before=lambda path, rows: None)),
    "rows mapped": (ROWS, from_rows(mapped)),
    "rows mapped, from disk": (ROWS[4:], from_rows(mapped, before=forget)),
    "rows by a loader": (ROWS, from_rows(lambda path, rows: in_batches(mapped(path, rows)))),
    "rows by a loader, row by row": (ROWS[1:3], from_rows(lambda path, rows: row_by_row(mapped(path, rows)))),
    "rows with parameters each": ([10**4, 10**5, 10**6, 3 * 10**6], of_each_row),
    "latents": ([2, 8, 32, 128, 512, 2048], with_size("latents")),
    "particles": ([1, 4, 16, 64], with_size("particles")),
    "width": ([100, 200, 400, 800, 1600, 3200], with_size("width")),
    "evidence particles": ([100, 1_000, 10_000, 100_000], lambda value, path: evidence(USUAL, value)),
}


def memory() -> dict[str, float]:
    """GiB of this process: the most it held, and what of a mapped file or a library it holds now."""
    lines = Path("/proc/self/status").read_text().splitlines()  # the peak of getrusage may be the parent's
    fields = dict(line.split(":", 1) for line in lines if ":" in line)
    return {name: int(fields[name].split()[0]) / 2**20 for name in ("VmHWM", "VmRSS", "RssFile")}


def measure(axis: str, value: int, path: str) -> dict[str, float]:
    """One size, in this process."""
    pyro.enable_validation(False)
    images = bytes_of(BATCH)
    fit(*pair(USUAL), images, epochs=1, transform=lambda some: bernoulli(some / 255), progress=False)  # which imports
    before = memory()
    found = AXES[axis][1](value, path)
    after = memory()
    peak = after["VmHWM"] - before["VmRSS"]
    if torch.cuda.is_available():
        peak = torch.cuda.max_memory_allocated() / 2**30
    own = peak - found.get("of_it_pages_of_files_gib", 0.0)
    found |= {"peak_gib": peak, "own_gib": own, "imports_gib": before["VmRSS"]}
    return {"size": value} | {name: round(number, 4) for name, number in found.items()}


def along(axis: str, path: str) -> dict[str, Any]:
    """All sizes of an axis in turn, and the exponents."""
    rows = []
    for value in AXES[axis][0]:
        command = [sys.executable, __file__, "--one", axis, str(value), path]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        rows.append(json.loads(done.stdout))
        print(axis, rows[-1], file=sys.stderr, flush=True)
    sizes = [row["size"] for row in rows]
    grown = [name for name in ("milliseconds", "fastest_tenth", "seconds_to_first_batch", "own_gib") if name in rows[0]]
    growth = {name: exponent(sizes, [row[name] for row in rows]) for name in grown if len(rows) > 2}
    return {"sizes": rows, "growth": growth}


def main(axes: list[str], store: Path | None, file: Path | None) -> None:
    """Every axis in turn; those of a file of results that is there stay in it."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    machine = f"{platform.machine()}, {torch.get_num_threads()} threads, {device}, torch {torch.__version__}"
    with tempfile.TemporaryDirectory() as folder:
        path = file or Path(folder) / "rows.bytes"
        if file is None:
            write(path, max((AXES[axis][0][-1] for axis in axes if axis.startswith("rows")), default=1))
        print_axes(axes, partial(along, path=str(path)), machine, USUAL, store)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--axis", action="append", choices=list(AXES), help="one of several; all where none is given")
    parser.add_argument("--store", type=Path, help="a file of results, to which the axes are added")
    parser.add_argument("--file", type=Path, help=f"a file of at least {ROWS[-1] * PIXELS} bytes to read rows from")
    parser.add_argument("--one", nargs=3, metavar=("AXIS", "SIZE", "FILE"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        print(json.dumps(measure(given.one[0], int(given.one[1]), given.one[2])))
    else:
        main(given.axis or list(AXES), given.store, given.file)
