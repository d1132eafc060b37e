"""A Gaussian mixture by gradients beside scikit-learn's EM, from the same start, in one run.

``small``: seconds until the log likelihood of a real table is within 0.05 nats of the optimum (found by EM to 1e-10):
by EM, by Adam, and by the model's own start by EM, which includes k-means and goes on to its own end. Sides are
interleaved; medians, and medians of the ratios to EM, are printed as JSON. ``large``: 10^6 points x 10 components x 10
dimensions drawn from a known mixture: seconds, the mean log likelihood and the memory that each needs beyond the data,
each in a process of its own.

    python benchmarks/gaussian_mixture.py small
    python benchmarks/gaussian_mixture.py large
"""

import argparse
import json
import multiprocessing
import platform
import resource
import sys
import time
import warnings
from collections.abc import Callable
from functools import partial

import torch
from interleaved import interleaved, medians, ratios
from sklearn.datasets import load_iris
from sklearn.mixture import GaussianMixture as EM
from torch import Tensor

from ppl_vae import InputError, LogEvidence, cooldown, fit, no_guide
from ppl_vae.data.tables import load_table
from ppl_vae.models import GaussianMixture
from ppl_vae.training.several_starts import total_log_evidence

CLOSE = 0.05
SEEDS = 3


def em_from(model: GaussianMixture, x: Tensor, **options: float) -> EM:
    """Scikit-learn's EM with the model's weights, means and precisions as its start."""
    covariances = model.covariances.detach().double()
    full = model.covariance == "full"
    precisions = torch.linalg.inv(covariances if full else covariances[0])
    weights = model.logits.detach().double().softmax(0)  # float32 weights don't sum to 1 as EM wants it
    return EM(
        model.components,
        covariance_type=model.covariance,
        weights_init=weights.numpy(),
        means_init=model.means.detach().double().numpy(),
        precisions_init=precisions.numpy(),
        **options,
    )


def best_found(start: GaussianMixture, x: Tensor) -> float:
    """The log likelihood of the optimum that EM climbs to from a start, in nats."""
    return float(em_from(start, x, tol=1e-10, max_iter=5000).fit(x.numpy()).score(x.numpy()) * len(x))


def steps_of_em(start: GaussianMixture, x: Tensor, goal: float) -> int:
    """How many steps EM takes from a start to a log likelihood."""
    em, count = em_from(start, x, tol=0.0, max_iter=1, warm_start=True), 0
    while count == 0 or em.score(x.numpy()) * len(x) < goal:
        em.fit(x.numpy())
        count += 1
    return count


def by_gradients(start: GaussianMixture, x: Tensor, goal: float) -> int:
    """Climbs by Adam from a start to a log likelihood, and says in how many steps."""
    optimizer = torch.optim.Adam(start.parameters(), lr=0.03)
    for count in range(5000):
        optimizer.zero_grad()
        loss = LogEvidence().differentiable_loss(start, no_guide, x)
        if -loss.item() > goal:
            return count
        loss.backward()
        optimizer.step()
    raise RuntimeError("Adam does not get there")


class Race:
    """One table and kind of covariance: each side's mean seconds over the seeds of the start."""

    def __init__(self, x: Tensor, components: int, covariance: str) -> None:
        self.x, self.kind = x, (x.shape[1], components, covariance)
        self.goals = [best_found(self.start(seed), x) - CLOSE for seed in range(SEEDS)]
        self.counts = [steps_of_em(self.start(seed), x, goal) for seed, goal in enumerate(self.goals)]
        self.adam = [by_gradients(self.start(seed), x, goal) for seed, goal in enumerate(self.goals)]

    def start(self, seed: int, em_steps: int = 0) -> GaussianMixture:
        """The k-means start, and EM from it."""
        return GaussianMixture(*self.kind).double().initialize(self.x, seed=seed, em_steps=em_steps)

    def em(self) -> float:
        """Scikit-learn's EM, the k-means start given."""
        made = [em_from(self.start(seed), self.x, tol=0.0, max_iter=self.counts[seed]) for seed in range(SEEDS)]
        return self.timed(lambda seed: made[seed].fit(self.x.numpy()))

    def gradients(self) -> float:
        """Adam's steps, the k-means start given."""
        made = [self.start(seed) for seed in range(SEEDS)]
        return self.timed(lambda seed: by_gradients(made[seed], self.x, self.goals[seed]))

    def em_start(self) -> float:
        """The start by EM, k-means included; it goes on until a step gains less than 1e-6 nats a row."""
        made: list[GaussianMixture] = []
        seconds = self.timed(lambda seed: made.append(self.start(seed, em_steps=1000)))
        for model, goal in zip(made, self.goals, strict=True):
            if total_log_evidence(model, (self.x,)) < goal:
                raise RuntimeError("the start by EM is not at the optimum")
        return seconds

    def timed(self, run: Callable[[int], object]) -> float:
        """The mean of a run's seconds over the seeds."""
        began = time.perf_counter()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for seed in range(SEEDS):
                run(seed)
        return (time.perf_counter() - began) / SEEDS


def small(rounds: int, data_root: str) -> None:
    """Iris, and Old Faithful where its file is."""
    iris = torch.from_numpy(load_iris().data)
    tables = {"iris, 3 components": (iris, 3)}
    try:
        tables["Old Faithful, 2 components"] = load_table("old-faithful", data_root or None).values.double(), 2
    except InputError as error:
        print(error, file=sys.stderr)
    result: dict[str, object] = {
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}",
        "goal": f"within {CLOSE} nats of the optimum, the log likelihood summed over the rows; {rounds} rounds",
    }
    for name, (x, components) in tables.items():
        for covariance in ("full", "tied"):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                race = Race(x, components, covariance)
            sides = {"EM": race.em, "gradients": race.gradients, "initialize(x, em_steps=1000)": race.em_start}
            times = interleaved(sides, rounds)
            result[f"{name}, {covariance}"] = {
                "seconds": medians(times, 4),
                "ratio to EM": ratios(times, "EM", 2),
                "steps": {"EM": race.counts, "gradients": race.adam},
            }
    print(json.dumps(result, indent=2))


def million(kind: str, rows: int, epochs: int) -> tuple[float, float, float]:
    """Seconds, mean log likelihood and GiB beyond the data, for "svi" or "em"."""
    generator = torch.Generator().manual_seed(0)
    centers = 2 * torch.randn(10, 10, generator=generator)
    factors = 0.6 * torch.randn(10, 10, 10, generator=generator)
    labels = torch.randint(0, 10, (rows,), generator=generator)
    x = torch.empty(rows, 10)
    for part in torch.arange(rows).split(50_000):
        noise = torch.randn(len(part), 10, generator=generator)
        x[part] = centers[labels[part]] + torch.einsum("nij,nj->ni", factors[labels[part]], noise)
    start = GaussianMixture(10, 10, floor=1e-7).initialize(x)  # as low as reg_covar of EM
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.perf_counter()
    if kind == "svi":
        fit(
            start,
            no_guide,
            x,
            elbo=LogEvidence(),
            optimizer=partial(torch.optim.Adam, lr=0.03),
            epochs=epochs,
            batch_size=5000,
            schedule=cooldown,
            seed=0,
            progress=False,
            device="cpu",
        )
        seconds = time.perf_counter() - began
        with torch.no_grad():
            score = float(start.log_evidence(x).double().mean())
    else:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            em = em_from(start, x, tol=1e-3, max_iter=100).fit(x.numpy())
        seconds = time.perf_counter() - began
        score = float(em.score(x.numpy()))
    return seconds, score, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 2**20


def large(rows: int, epochs: int) -> None:
    """Each fit in a fresh process, one after the other, from the same k-means++ start."""
    context = multiprocessing.get_context("spawn")
    print(f"{rows} x 10 columns x 10 components, full covariances; SVI: {epochs} epochs; EM: scikit-learn's tol 1e-3")
    for kind in ("svi", "em"):
        with context.Pool(1) as pool:
            seconds, score, memory = pool.apply(million, (kind, rows, epochs))
        print(f"{kind:<5}{seconds:>8.1f} s{score:>12.4f} nats a point{memory:>8.2f} GiB beyond data", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["small", "large"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--data-root", default="", help="the folder of faithful.csv")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--epochs", type=int, default=3)
    arguments = parser.parse_args()
    if arguments.what == "small":
        small(arguments.rounds, arguments.data_root)
    else:
        large(arguments.rows, arguments.epochs)
