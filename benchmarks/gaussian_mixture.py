"""A Gaussian mixture by gradients beside scikit-learn's EM, from the same start, in one run.

``small``: seconds until the log likelihood of a real table is within 0.05 nats of the optimum (found by EM to 1e-10),
and their ratio, medians of several runs. ``large``: 10^6 points x 10 components x 10 dimensions drawn from a known
mixture: seconds, the mean log likelihood and the memory that each needs beyond the data, each in a process of its own.

    python benchmarks/gaussian_mixture.py small
    python benchmarks/gaussian_mixture.py large
"""

import argparse
import multiprocessing
import resource
import time
import warnings
from functools import partial

import numpy as np
import torch
from sklearn.datasets import load_iris
from sklearn.mixture import GaussianMixture as EM
from torch import Tensor

from ppl_vae import LogEvidence, cooldown, fit, no_guide
from ppl_vae.models import GaussianMixture

CLOSE = 0.05


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


def small(repeats: int) -> None:
    """Iris, full and tied covariances."""
    x = torch.from_numpy(load_iris().data)
    print(f"seconds to within {CLOSE} nats of the optimum, iris, 3 components, median of {repeats}")
    print(f"{'':<8}{'EM':>9}{'steps':>7}{'SVI':>9}{'steps':>7}{'ratio':>8}")
    for covariance in ("full", "tied"):
        ratios, times, steps = [], [], (0, 0)
        for repeat in range(repeats):
            start = GaussianMixture(4, 3, covariance).double().initialize(x, seed=repeat)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                best = em_from(start, x, tol=1e-10, max_iter=5000).fit(x.numpy()).score(x.numpy()) * len(x)
                em = em_from(start, x, tol=0.0, max_iter=1, warm_start=True)
                began, count = time.perf_counter(), 0
                while count == 0 or em.score(x.numpy()) * len(x) < best - CLOSE:
                    em.fit(x.numpy())
                    count += 1
                stepwise = count
                began = time.perf_counter()
                em_from(start, x, tol=0.0, max_iter=stepwise).fit(x.numpy())
                em_seconds = time.perf_counter() - began
            optimizer = torch.optim.Adam(start.parameters(), lr=0.03)
            began, count = time.perf_counter(), 0
            while count < 5000:
                optimizer.zero_grad()
                loss = LogEvidence().differentiable_loss(start, no_guide, x)
                if -loss.item() > best - CLOSE:
                    break
                loss.backward()
                optimizer.step()
                count += 1
            seconds = time.perf_counter() - began
            ratios.append(seconds / em_seconds)
            times.append((em_seconds, seconds))
            steps = (stepwise, count)
        em_seconds, seconds = np.median(times, 0)
        line = f"{em_seconds:>9.4f}{steps[0]:>7}{seconds:>9.3f}{steps[1]:>7}{np.median(ratios):>8.1f}"
        print(f"{covariance:<8}{line}", flush=True)


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
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--epochs", type=int, default=3)
    arguments = parser.parse_args()
    if arguments.what == "small":
        small(arguments.repeats)
    else:
        large(arguments.rows, arguments.epochs)
