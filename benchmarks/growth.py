"""How time and memory grow: with data points, latents, particles and width, one at a time, each in its own process.

A step of a captured training on batches of 128 for each, its share of an epoch's other costs included, and the evidence
of 20 images by K particles. Prints JSON: milliseconds and peak memory at each size, and for each axis the exponent of
the growth between its last two sizes (0: constant, 1: linear).

    python benchmarks/growth.py
"""

import argparse
import json
import math
import platform
import resource
import statistics
import subprocess
import sys
import time

import pyro
import torch
from pyro.infer import Trace_ELBO

from ppl_vae import bounds, fit
from ppl_vae.guides import Amortized, Diagonal
from ppl_vae.models import VAE

USUAL = {"data points": 10_000, "latents": 32, "particles": 1, "width": 400}
AXES = {
    "data points": [1_000, 10_000, 100_000, 1_000_000],
    "latents": [2, 8, 32, 128, 512],
    "particles": [1, 4, 16, 64],
    "width": [100, 200, 400, 800, 1600, 3200],
    "evidence particles": [100, 1_000, 10_000, 100_000],
}
PIXELS, BATCH, IMAGES = 784, 128, 20


def pair(size: dict[str, int]) -> tuple[VAE, Amortized]:
    """The usual VAE with one hidden layer on each side."""
    torch.manual_seed(0)
    latents, hidden = size["latents"], (size["width"],)
    return VAE(PIXELS, latents, hidden=hidden), Amortized(Diagonal(latents), PIXELS, hidden=hidden)


def step(size: dict[str, int]) -> float:
    """Milliseconds: the median epoch, but the first, which traces, unless it is long."""
    x = torch.rand(size["data points"], PIXELS)
    elbo = Trace_ELBO(size["particles"], vectorize_particles=True)
    epochs = 5 if len(x) < 500_000 else 1
    history = fit(
        *pair(size),
        x,
        elbo=elbo,
        epochs=epochs,
        batch_size=BATCH,
        transform=torch.bernoulli,
        capture=True,
        progress=False,
    )
    return 1000 * statistics.median(history.seconds[1:] or history.seconds) / math.ceil(len(x) / BATCH)


def evidence(size: dict[str, int], particles: int) -> float:
    """Milliseconds for all images."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model, guide = (part.to(device) for part in pair(size))
    x = torch.rand(IMAGES, PIXELS, device=device).bernoulli()
    times = []
    for _ in range(4 if particles < 50_000 else 2):
        start = time.perf_counter()
        bounds(model, guide, x, particles=particles, curve=(particles,))
        times.append(time.perf_counter() - start)
    return 1000 * statistics.median(times[1:])


def measure(axis: str, value: int) -> dict[str, float]:
    """One size, in this process."""
    pyro.enable_validation(False)
    found = evidence(USUAL, value) if axis == "evidence particles" else step(USUAL | {axis: value})
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    if torch.cuda.is_available():
        peak = torch.cuda.max_memory_allocated() / 2**30
    return {"size": value, "milliseconds": round(found, 3), "peak_gib": round(peak, 3)}


def main(axes: str) -> None:
    """Every axis in turn."""
    found = {}
    for axis in axes.split(","):
        rows = []
        for value in AXES[axis]:
            command = [sys.executable, __file__, "--one", axis, str(value)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            rows.append(json.loads(done.stdout))
            print(axis, rows[-1], file=sys.stderr, flush=True)
        grown = {name: math.log(rows[-1][name] / rows[-2][name]) for name in rows[0]}
        exponents = {name: round(grown[name] / grown["size"], 2) for name in ("milliseconds", "peak_gib")}
        found[axis] = {"sizes": rows, "exponent": exponents}
    device = "cuda" if torch.cuda.is_available() else "cpu"
    machine = f"{platform.machine()}, {torch.get_num_threads()} threads, {device}, torch {torch.__version__}"
    print(json.dumps({"machine": machine, "usual": USUAL, "axes": found}, indent=2))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--axes", default=",".join(AXES), help="comma-separated")
    parser.add_argument("--one", nargs=2, metavar=("AXIS", "SIZE"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        print(json.dumps(measure(given.one[0], int(given.one[1]))))
    else:
        main(given.axes)
