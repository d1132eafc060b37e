"""What looks at all the data at once: at the start of a training, at each epoch, at each checkpoint.

A training step costs the batch, not the data. This measures what does grow with them: the look for NaN in float32
tensors; the digest by which a checkpoint knows its data (of bytes: that of float32 takes four times as long); the order
of an epoch, of tensors and of a ``DataLoader``'s sampler, which makes a list of Python's numbers; and, for a guide with
parameters for each row, the copy of them that an epoch begins with and the look for NaN that it ends with. Prints JSON:
seconds by rows, and the exponents of the growth.

    python benchmarks/whole_data.py
"""

import argparse
import json
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from exponents import exponent
from growth import BATCH, PIXELS, USUAL, bytes_of
from torch.utils.data import RandomSampler

from ppl_vae.guides import Diagonal
from ppl_vae.networks import RowTable
from ppl_vae.pairs.mistakes import not_finite
from ppl_vae.pairs.restore import is_finite
from ppl_vae.training.digests import digest

ROUNDS = 2
BYTES, FLOATS = [10**4, 10**5, 10**6, 10**7], [10**4, 10**5, 10**6]
Make = Callable[[int], Callable[[], object]]


def look_for_nan(rows: int) -> Callable[[], object]:
    """As ``fit`` does with tensors."""
    x = bytes_of(rows).float()
    return lambda: list(not_finite("x", x))


def digest_of_bytes(rows: int) -> Callable[[], object]:
    """As a checkpoint does."""
    x = bytes_of(rows)
    return lambda: digest([x])


def order(rows: int) -> Callable[[], object]:
    """An epoch's, of tensors."""
    return lambda: torch.randperm(rows).split(BATCH)


def sampler(rows: int) -> Callable[[], object]:
    """An epoch's, of a loader."""
    drawn = RandomSampler(range(rows))
    return lambda: next(iter(drawn))


def table(rows: int) -> Callable[[], object]:
    """Copies the parameters of each row, and looks whether they are finite."""
    weight = RowTable(rows, Diagonal(USUAL["latents"]).num_params).weight.detach()
    spare = weight.clone()
    return lambda: (spare.copy_(weight), is_finite(weight))


COSTS: dict[str, tuple[list[int], Make]] = {
    f"look for NaN, float32 ({4 * PIXELS} bytes a row)": (FLOATS, look_for_nan),
    f"digest, bytes ({PIXELS} bytes a row)": (BYTES, digest_of_bytes),
    "order of an epoch": (BYTES, order),
    "order of an epoch, DataLoader": (BYTES, sampler),
    "copy and look at parameters for each row": (FLOATS, table),
}


def seconds(run: Callable[[], object]) -> float:
    """The least of some rounds."""
    times = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return min(times)


def main(store: Path | None) -> None:
    """Every cost at every size."""
    found = {}
    for name, (sizes, make) in COSTS.items():
        times = [seconds(make(rows)) for rows in sizes]
        rounded = {str(rows): round(taken, 5) for rows, taken in zip(sizes, times, strict=True)}
        found[name] = {"seconds": rounded, "growth": exponent(sizes, times)}
        print(name, found[name], file=sys.stderr, flush=True)
    machine = f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}"
    text = json.dumps({"machine": machine, "costs": found}, indent=2)
    print(text)
    if store is not None:
        store.write_text(text + "\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", type=Path, help="a file of results")
    main(parser.parse_args().store)
