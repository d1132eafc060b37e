"""What a step of ``PerDatapoint`` costs: a table of 10^3 rows against one of 10^6, and the memory of both.

The two sides take turns in one run; the medians and their ratio are printed as JSON.

    python benchmarks/per_datapoint.py
"""

import json
import statistics
import time
from collections.abc import Callable

import torch
from pyro.infer import Trace_ELBO
from torch.optim import SparseAdam

from ppl_vae import freeze
from ppl_vae.guides import Diagonal, PerDatapoint
from ppl_vae.models import VAE
from ppl_vae.pairs.restore import local_parameters

LATENT, PIXELS, BATCH, STEPS = 16, 784, 128, 300


def stepper(count: int) -> Callable[[], float]:
    """A function that takes one step at a random batch of rows and returns its seconds."""
    torch.manual_seed(0)
    model = freeze(VAE(PIXELS, LATENT))
    guide = PerDatapoint(Diagonal(LATENT), count)
    guide.table.sparse = True  # as while fit runs
    optimizer = SparseAdam(list(guide.parameters()), lr=1e-2)
    elbo = Trace_ELBO(max_plate_nesting=1)
    x = torch.rand(BATCH, PIXELS).bernoulli()

    def step() -> float:
        index = torch.randint(count, (BATCH,))
        start = time.perf_counter()
        optimizer.zero_grad()
        with local_parameters(model, guide):
            elbo.loss_and_grads(model, guide, x, index)
        optimizer.step()
        return time.perf_counter() - start

    return step


def main() -> None:
    """Times both tables in turn."""
    sides = {count: stepper(count) for count in (10**3, 10**6)}
    seconds: dict[int, list[float]] = {count: [] for count in sides}
    for turn in range(STEPS + 20):
        for count, step in sides.items():
            taken = step()
            if turn >= 20:
                seconds[count].append(taken)
    medians = {count: statistics.median(values) for count, values in seconds.items()}
    ratios = [large / small for small, large in zip(seconds[10**3], seconds[10**6], strict=True)]
    per_row = Diagonal(LATENT).num_params * 4
    print(
        json.dumps(
            {
                "milliseconds": {str(count): round(1e3 * value, 3) for count, value in medians.items()},
                "ratio": round(statistics.median(ratios), 3),
                "table_mib": {str(count): round(count * per_row / 2**20, 2) for count in sides},
                "with_adam_state_mib": {str(count): round(3 * count * per_row / 2**20, 2) for count in sides},
                "threads": torch.get_num_threads(),
            },
            indent=2,
        )
    )


if __name__ == "__main__":
    main()
