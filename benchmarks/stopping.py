"""Is as little left as ``Converged`` predicts, where the best ELBO is known, and what does it take?

Three pairs, three learning rates each, fifty seeds: what is predicted to be left at the end and what is left indeed,
in nats per unit, beside a training of a fixed number of epochs under the command line's schedule, and beside the epoch
at which the parameters of a constant rate were within the tolerance for the first time, which nobody knows beforehand.
Each run is kept as it ends, so the same call goes on after a break:

    OMP_NUM_THREADS=1 python benchmarks/stopping.py --out benchmarks/results/stopping-one-thread.json

The best ELBO is log p(x) at the maximum-likelihood parameters for the linear-Gaussian model, closed form for linear
regression with a diagonal guide, and for eight schools that of a training of 64 draws a step to 0.002 nats.
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyro
import pyro.distributions as dist
import torch
from pyro.infer import Trace_ELBO
from pyro.infer.autoguide import AutoNormal
from torch import Tensor

from ppl_vae import Converged, StoppingRule, cooldown, fit
from ppl_vae.guides import Amortized, Full
from ppl_vae.models import EightSchools, LinearGaussian, LinearRegression
from ppl_vae.pairs.pair import Pair
from ppl_vae.pairs.restore import random_state_kept

NATS = 0.02
RATES = {
    "linear-gaussian": (0.003, 0.01, 0.03),
    "linear-regression": (0.003, 0.01, 0.03),
    "eight-schools": (0.01, 0.03, 0.1),
}
LIMIT = {"linear-gaussian": 4000, "linear-regression": 40_000, "eight-schools": 40_000}
LOOKED_AT = {"linear-gaussian": 1500, "linear-regression": 15_000, "eight-schools": 15_000}
OTHERS = 10  # seeds of the two other ways
FIXED = {"linear-gaussian": 200, "linear-regression": 3000, "eight-schools": 3000}  # the command line's defaults


def points() -> Tensor:
    """500 rows of 10 columns with three latents in them."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(10, 3, generator=generator)
    latents, noise = torch.randn(500, 3, generator=generator), torch.randn(500, 10, generator=generator)
    return latents @ weight.T + 0.5 * noise + 1


def made(name: str, seed: int) -> tuple[Any, Any, tuple[Tensor, ...], dict[str, Any]]:
    """The pair, its data and its options."""
    pyro.set_rng_seed(seed)
    if name == "linear-gaussian":
        x = points()
        return LinearGaussian(10, 3).initialize(x), Amortized(Full(3), 10, hidden=()), (x,), {"batch_size": 100}
    kind = LinearRegression if name == "linear-regression" else EightSchools
    data = kind.example_data()
    model = kind.for_data(*data)
    return model, AutoNormal(model), data, {"batch_size": len(data[0])}


class Truth:
    """What is left of the ELBO at the parameters of now, in nats per unit."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._best: Any = None
        if name == "linear-gaussian":
            self._best = float(LinearGaussian.maximum_likelihood(points(), 3).log_evidence(points()).detach().mean())
        elif name == "linear-regression":
            model, _, data, _ = made(name, 0)
            precision = torch.cholesky_inverse(model.posterior(*data).scale_tril.double())
            gap = (precision.diagonal().log().sum() - torch.logdet(precision)) / 2
            self._best = float(model.log_evidence(*data) - gap)
        else:
            model, guide, data, options = made(name, 0)
            many = Trace_ELBO(64, vectorize_particles=True, max_plate_nesting=2)
            options |= {"lr": 0.02, "epochs": 8000, "elbo": many, "seed": 0, "progress": False}
            fit(model, guide, data, until=Converged(0.002), **options)
            self._best = self._draws(model, guide, data)

    @torch.no_grad()
    def __call__(self, model: Any, guide: Any, data: tuple[Tensor, ...]) -> float:
        """The best ELBO less that of the pair."""
        with random_state_kept():
            if self._name == "linear-gaussian":
                (of_guide,) = guide.posterior(*data).transforms
                root = of_guide.scale[..., None] * of_guide.unit
                gaussian = dist.MultivariateNormal(of_guide.loc, scale_tril=root)
                kl = torch.distributions.kl_divergence(gaussian, model.posterior(*data))
                return self._best - float((model.log_evidence(*data) - kl).mean())
            if self._name == "linear-regression":
                scale = guide.scales.weights.double()
                of_guide = dist.MultivariateNormal(guide.locs.weights.double(), scale_tril=torch.diag(scale))
                exact = model.posterior(*data)
                exact = dist.MultivariateNormal(exact.loc.double(), scale_tril=exact.scale_tril.double())
                kl = torch.distributions.kl_divergence(of_guide, exact)
                return self._best - float(model.log_evidence(*data) - kl)
            return float((self._best - self._draws(model, guide, data)).mean())

    def _draws(self, model: Any, guide: Any, data: tuple[Tensor, ...]) -> Tensor:
        """Log-weights of 20,000 draws with the same noise each time: of their differences the error is small."""
        pair = Pair(model, guide, data)
        with torch.no_grad(), pair.measuring(7):
            return torch.cat([pair.weigh(pair.rows(0, pair.size), 2000).double()[:, 0] for _ in range(10)])


class Hindsight(StoppingRule):
    """Stops at the first epoch at which what is left is within the tolerance: looks each twentieth of the way."""

    each_epoch = False

    def __init__(self, left: Callable[[], float]) -> None:
        self._left, self._next = left, 1

    def after_epoch(self, training: Any) -> str:
        """Looks at the truth."""
        done = len(training.history.elbo)
        if done < self._next:
            return ""
        self._next = max(done + 1, round(1.05 * done))
        return "within the tolerance" if self._left() < NATS else ""


def measured(name: str, lr: float, seed: int, truth: Truth) -> dict[str, Any]:
    """One training in each of the three ways."""
    row: dict[str, Any] = {"name": name, "lr": lr, "seed": seed}
    model, guide, data, options = made(name, seed)
    options |= {"lr": lr, "seed": seed, "progress": False}
    began = time.perf_counter()
    history = fit(model, guide, data, until=Converged(NATS), epochs=LIMIT[name], **options)
    row |= {"seconds": time.perf_counter() - began, "epochs": len(history.elbo), "ended": history.ended}
    row |= {"predicted": history.remaining, "left": truth(model, guide, data)}
    if seed < OTHERS:
        model, guide, *_ = made(name, seed)
        fit(model, guide, data, schedule=cooldown, epochs=FIXED[name], **options)
        row["left_fixed"] = truth(model, guide, data)
        model, guide, *_ = made(name, seed)
        rule = Hindsight(lambda: truth(model, guide, data))
        history = fit(model, guide, data, until=rule, epochs=LOOKED_AT[name], **options)
        row["hindsight"] = len(history.elbo) if history.ended.startswith("within") else None
    return row


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """What is said of the runs of a pair and a rate."""
    predicted, left = (np.array([row[name] for row in rows]) for name in ("predicted", "left"))
    looked = [row["hindsight"] for row in rows if "hindsight" in row]
    found = [epochs for epochs in looked if epochs is not None]
    fixed = np.array([row["left_fixed"] for row in rows if "left_fixed" in row])
    return {
        "runs": len(rows),
        "within_the_tolerance": float((left < NATS).mean()),
        "below_the_prediction": float((left < predicted).mean()),
        "predicted_median": float(np.median(predicted)),
        "left_median": float(np.median(left)),
        "left_95%": float(np.quantile(left, 0.95)),
        "left_most": float(left.max()),
        "epochs_median": float(np.median([row["epochs"] for row in rows])),
        "seconds_median": float(np.median([row["seconds"] for row in rows])),
        "fixed_epochs": FIXED[rows[0]["name"]],
        "fixed_within_the_tolerance": float((fixed < NATS).mean()),
        "fixed_left_median": float(np.median(fixed)),
        "hindsight_median": float(np.median(found)) if found else None,
        "hindsight_never": len(looked) - len(found),
    }


def main() -> None:
    """Measures what is not there yet."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=50)
    parser.add_argument("--only", default="", help="the pair's name")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = json.loads(options.out.read_text())["runs"] if options.out.exists() else []
    done = {(row["name"], row["lr"], row["seed"]) for row in rows}
    for name, rates in RATES.items():
        if options.only not in ("", name):
            continue
        truth = Truth(name)
        for lr in rates:
            for seed in range(options.seeds):
                if (name, lr, seed) not in done:
                    rows.append(measured(name, lr, seed, truth))
                    groups = {(row["name"], row["lr"]) for row in rows}
                    table = {
                        f"{one} at lr={rate:g}": summary(
                            [row for row in rows if (row["name"], row["lr"]) == (one, rate)]
                        )
                        for one, rate in sorted(groups)
                    }
                    options.out.write_text(json.dumps({"nats": NATS, "summary": table, "runs": rows}, indent=1))
            print(name, lr, json.dumps(table[f"{name} at lr={lr:g}"]), flush=True)


if __name__ == "__main__":
    main()
