"""Do the errors hold? How often 1.96 standard errors on either side cover the truth, in 300 repeats.

Each repeat is a row of the data, the same observation again and again, with draws of its own:

    python benchmarks/coverage.py --repeats 300 --out benchmarks/results/coverage-two-cores.json
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyro
import pyro.distributions as dist
import torch
import xarray as xr
from torch import Tensor

from ppl_vae import bounds, tightness
from ppl_vae.evidence import annealed, quadrature, sandwich
from ppl_vae.measure.bounds import average
from ppl_vae.models import LinearGaussian

Pair = tuple[Callable[..., Any], Callable[..., Any], Tensor, float]
NOISE = 0.5
AVERAGED = 10  # data points in an average


def linear(latents: int, widened: float, repeats: int) -> Pair:
    """A linear Gaussian model with the posterior's mean and, widened or narrowed, its standard deviations."""
    torch.manual_seed(0)
    model = LinearGaussian(2 * latents, latents, scale=NOISE)
    x = model.generate(1)[1].sample().detach()
    posterior = model.posterior(x)
    factor = torch.linalg.cholesky(posterior.covariance_matrix).detach()[0] * widened
    loc = posterior.mean.detach()

    def guide(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.MultivariateNormal(loc, scale_tril=factor))

    return model, guide, x.expand(repeats, -1), model.log_evidence(x).item()


def mean_field(latents: int, repeats: int) -> Pair:
    """Probabilistic PCA with the best diagonal Gaussian."""
    torch.manual_seed(0)
    model = LinearGaussian(2 * latents, latents, scale=1.0)
    with torch.no_grad():
        model.weight.mul_(0.3 / model.weight.std())
    x = model.generate(1)[1].sample().detach()
    loc, scale = model.posterior(x).mean.detach(), model.posterior_precision().diagonal().rsqrt().detach()

    def guide(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(loc, scale).to_event(1))

    return model, guide, x.expand(repeats, -1), model.log_evidence(x).item()


def heavy(kind: str, narrowed: float, repeats: int) -> Pair:
    """One latent seen through noise of heavy tails, with a Gaussian guide of the posterior's moments."""

    def likelihood(z: Tensor) -> Any:
        return dist.StudentT(3.0, z, 0.5) if kind == "student" else dist.Laplace(z, 0.3)

    def model(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(1), 1.0).to_event(1))
            pyro.sample("x", likelihood(z).to_event(1), obs=x)

    x = torch.tensor([[3.0 if kind == "student" else 1.5]])
    grid = torch.linspace(-8, 8, 20001, dtype=torch.float64)
    weight = (dist.Normal(0.0, 1.0).log_prob(grid) + likelihood(grid).log_prob(x[0, 0])).softmax(0)
    mean = float((weight * grid).sum())
    deviation = float((weight * (grid - mean) ** 2).sum()) ** 0.5 * narrowed

    def guide(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(torch.full((1,), mean), deviation).to_event(1))

    return model, guide, x.expand(repeats, -1), quadrature(model, x).log_evidence.item()


PAIRS: dict[str, Callable[[int], Pair]] = {
    "matched Gaussian (0.95)": lambda repeats: linear(5, 0.95, repeats),
    "too narrow (0.8)": lambda repeats: linear(5, 0.8, repeats),
    "too narrow (0.7)": lambda repeats: linear(5, 0.7, repeats),
    "too narrow (0.5), one latent": lambda repeats: linear(1, 0.5, repeats),
    "too wide (1.5)": lambda repeats: linear(5, 1.5, repeats),
    "Student-t likelihood": lambda repeats: heavy("student", 1.0, repeats),
    "Student-t likelihood, narrow (0.7)": lambda repeats: heavy("student", 0.7, repeats),
    "Laplace likelihood": lambda repeats: heavy("laplace", 1.0, repeats),
    "PPCA with 20 latents, mean field": lambda repeats: mean_field(20, repeats),
}


def covered(value: xr.DataArray, error: xr.DataArray, bias: xr.DataArray | None, truth: float) -> dict[str, float]:
    """The share of repeats that give an error, and of these, of intervals that hold the truth: alone and averaged."""
    told = error.notnull().values
    total = np.hypot(error, 0.0 if bias is None else bias)[told]
    alone = np.abs(value[told] - truth) <= 1.96 * total
    rows = np.flatnonzero(told)[: told.sum() // AVERAGED * AVERAGED].reshape(-1, AVERAGED)
    means = [average(value[row], error[row], None if bias is None else bias[row]) for row in rows]
    averaged = [abs(mean - truth) <= 1.96 * one for mean, one in means]
    nothing = float("nan")
    return {
        "given": float(told.mean()),
        "covered": float(alone.mean()) if told.any() else nothing,
        "covered, averages of 10": float(np.mean(averaged)) if averaged else nothing,
    }


def measure(repeats: int, only: str) -> dict[str, dict[str, dict[str, float]]]:
    """Every figure of every pair."""
    table: dict[str, dict[str, dict[str, float]]] = {}
    for name, make in PAIRS.items():
        if only not in name:
            continue
        model, guide, x, truth = make(repeats)
        pyro.set_rng_seed(1)
        found = tightness(model, guide, x, particles=1000, evidence="importance")
        elbo = bounds(model, guide, x[:1], particles=1_000_000, curve=(1,)).elbo.item()
        row = {
            "ELBO": covered(found.elbo, found.elbo_se, None, elbo),
            "log p(x), K = 1000": covered(found.log_evidence, found.log_evidence_se, found.log_evidence_bias, truth),
            "gap": covered(found.gap, found.gap_se, found.gap_bias, truth - elbo),
        }
        for chains in (4, 16):
            run = annealed(model, guide, x, steps=100, chains=chains)
            row[f"annealed, {chains} chains"] = covered(
                run.log_evidence, run.log_evidence_se, run.log_evidence_bias, truth
            )
        table[name] = row
        print(name, json.dumps(row, indent=1), flush=True)
    if only:
        return table
    torch.manual_seed(0)
    model = LinearGaussian(10, 5, scale=NOISE)
    (x,), run = sandwich(model, torch.zeros(repeats, 10), steps=200)
    off = model.log_evidence(x).detach().double().numpy()
    table["sandwich on simulated data"] = {
        side: covered(run[side] - off, run[f"{side}_se"], run[f"{side}_bias"], 0.0)
        for side in ("lower", "upper", "log_evidence")
    }
    print(json.dumps(table["sandwich on simulated data"], indent=1))
    return table


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=300)
    parser.add_argument("--only", default="", help="pairs whose name holds this")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    table = measure(options.repeats, options.only)
    if options.out is not None:
        options.out.write_text(json.dumps(table, indent=1) + "\n")
