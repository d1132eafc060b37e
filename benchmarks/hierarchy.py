"""The bounds of a hierarchy of 1000 groups with 100,000 observations, against the arithmetic alone.

Both sides draw the same number of particles of all latents and weigh them: one by ``bounds``, the other by hand-written
PyTorch without Pyro, in chunks of the same size. They are run alternately in one process; the ratio of the medians is
printed, with the largest memory that the process took before and after.

    python benchmarks/hierarchy.py
"""

import argparse
import math
import resource
import statistics
import time

import torch
from pyro.infer.autoguide import AutoNormal
from torch import Tensor
from torch.distributions import HalfNormal, Normal, biject_to, constraints

from ppl_vae import bounds, fit
from ppl_vae.models import HierarchicalPoisson


def by_hand(
    guide: AutoNormal, model: HierarchicalPoisson, data: tuple[Tensor, ...], particles: int, chunk: int
) -> Tensor:
    """Draws from the guide and weighs the draws, in plain PyTorch; returns the log-weights, shape (particles,)."""
    counts, group, exposure = data
    names = ("mu", "tau", "sigma", "group_raw", "data_raw")
    moments = {name: guide._get_loc_and_scale(name) for name in names}
    positive = biject_to(constraints.positive)
    constant = torch.lgamma(counts + 1).sum()
    weights = []
    for start in range(0, particles, chunk):
        count = min(chunk, particles - start)
        free, total = {}, torch.zeros(count)
        for name, (loc, scale) in moments.items():
            noise = torch.randn(count, *loc.shape)
            free[name] = loc + scale * noise
            log_q = -(noise.square() / 2 + scale.log() + math.log(2 * math.pi) / 2)
            total -= log_q.reshape(count, -1).sum(1)
        tau, sigma = positive(free["tau"]), positive(free["sigma"])
        total += free["tau"] + free["sigma"]
        total += Normal(0.0, 1.0).log_prob(free["group_raw"]).sum(1) + Normal(0.0, 1.0).log_prob(free["data_raw"]).sum(
            1
        )
        total += Normal(0.0, 2.0).log_prob(free["mu"]) + HalfNormal(1.0).log_prob(tau) + HalfNormal(1.0).log_prob(sigma)
        log_rate = (
            free["mu"][:, None] + (tau[:, None] * free["group_raw"])[:, group] + sigma[:, None] * free["data_raw"]
        )
        log_rate = log_rate + exposure.log()
        weights.append(total + (counts * log_rate - log_rate.exp()).sum(1) - constant)
    return torch.cat(weights)


def main(groups: int = 1000, per_group: int = 100, particles: int = 200, rounds: int = 5, epochs: int = 300) -> None:
    """Fits the guide, then measures both sides alternately."""
    data = HierarchicalPoisson.simulate(groups, per_group)
    model = HierarchicalPoisson(groups)
    guide = AutoNormal(model)
    fit(model, guide, data, epochs=epochs, batch_size=len(data[0]), lr=0.02, seed=0, progress=False)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    seconds: dict[str, list[float]] = {"bounds": [], "by hand": []}
    with torch.no_grad():
        for _ in range(rounds):
            start = time.perf_counter()
            measured = bounds(model, guide, data, particles=particles, seed=0, progress=False)
            seconds["bounds"].append(time.perf_counter() - start)
            start = time.perf_counter()
            weights = by_hand(guide, model, data, particles, chunk=10)
            seconds["by hand"].append(time.perf_counter() - start)
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    ratio = medians["bounds"] / medians["by hand"]
    print(f"{groups} groups, {len(data[0])} observations, {particles} particles; medians of {rounds} rounds")
    print(f"bounds {medians['bounds']:.2f} s, by hand {medians['by hand']:.2f} s, ratio {ratio:.2f}")
    print(f"largest memory {before:.2f} GiB before, {after:.2f} GiB after")
    error = float(weights.std()) / particles**0.5
    print(
        f"ELBO {float(measured.elbo[0]):.1f} ± {float(measured.elbo_se[0]):.1f}, "
        f"by hand {float(weights.mean()):.1f} ± {error:.1f}"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--groups", type=int, default=1000)
    parser.add_argument("--per-group", type=int, default=100)
    parser.add_argument("--particles", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=300, help="steps of the guide's training")
    main(**vars(parser.parse_args()))
