"""A Bayesian mixture: NUTS with z summed out, against guides for the weights, means and scales.

The petals of iris come in two kinds. The parameters of two Gaussians get priors; z is summed out, so NUTS, which needs
gradients, can run, and it is the reference that the autoguides are held against.

Label switching: the model does not change when its two components swap names, so the posterior has two equal modes, and
which of them a chain or a guide sits in is chance. The average over both says nothing of either component, and r-hat
compares chains that mean different things by "component 1". Here every draw is relabelled afterwards, the smaller mean
first: the posterior of the ordered parameters, of which the two modes are copies. A guide with one mode then loses
log 2 nats of evidence for the copy that it never visits, and nothing else. Its k-hat is blind to the other copy, too.

    python examples/bayesian_mixture.py
"""

import argparse
import warnings
from typing import Any

import arviz as az
import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import pyro
import torch
from pyro import poutine
from pyro.infer import MCMC, NUTS, SVI, Trace_ELBO
from pyro.infer.autoguide import AutoDelta, AutoGuide, AutoIAFNormal, AutoMultivariateNormal, AutoNormal
from pyro.optim import ClippedAdam
from sklearn.datasets import load_iris
from torch import Tensor

from ppl_vae.models import BayesianMixture
from ppl_vae.runs.folder import begun

COMPONENTS = 2
NAMES = ("weights", "means", "scales")
GUIDES: dict[str, type[AutoGuide]] = {
    "delta": AutoDelta,
    "normal": AutoNormal,
    "multivariate normal": AutoMultivariateNormal,
    "IAF": AutoIAFNormal,
}
model = BayesianMixture(COMPONENTS)
NEW_ARVIZ = not hasattr(az, "psislw")  # 1.x, which Python 3.11 does not get


def ordered(draws: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Every draw's components by the size of their means."""
    order = draws["means"].argsort(-1)
    return {name: np.take_along_axis(value, order, -1) for name, value in draws.items()}


def inference_data(draws: dict[str, np.ndarray]) -> Any:
    """What ArviZ takes: arrays of shape (chains, draws, components); InferenceData in 0.23, DataTree in 1.x."""
    return az.from_dict({"posterior": draws}) if NEW_ARVIZ else az.from_dict(posterior=draws)


def psis(log_weights: np.ndarray) -> tuple[np.ndarray, float]:
    """Pareto-smoothed normalized weights and k-hat (Vehtari et al. 2024)."""
    if NEW_ARVIZ:
        from arviz_stats.base import array_stats

        smoothed, shape = array_stats.psislw(-log_weights)  # it takes them as a log-likelihood
    else:
        smoothed, shape = az.psislw(log_weights)
    weights = np.exp(smoothed - np.max(smoothed))
    return weights / weights.sum(), float(np.asarray(shape))


def run_nuts(x: Tensor, warmup: int, draws: int, chains: int) -> tuple[dict[str, np.ndarray], int]:
    """Draws of shape (chains, draws, components), and the number of divergent ones."""
    found, divergent = [], 0
    for chain in range(chains):
        pyro.set_rng_seed(chain)
        start = {"weights": torch.full((COMPONENTS,), 0.5), "scales": torch.full((COMPONENTS,), 0.5)}
        start["means"] = torch.tensor([-1.0, 1.0]) * (1 if chain % 2 else -1)  # one chain for either labelling
        kernel = NUTS(model, init_strategy=pyro.infer.autoguide.init_to_value(values=start))
        sampler = MCMC(kernel, draws, warmup, disable_progbar=True)
        sampler.run(x)
        divergent += len(sampler.diagnostics()["divergences"]["chain 0"])
        found.append({name: sampler.get_samples()[name].numpy() for name in NAMES})
    return {name: np.stack([chain[name] for chain in found]) for name in NAMES}, divergent


def run_guide(kind: type[AutoGuide], x: Tensor, steps: int, draws: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Draws of the fitted guide, shape (draws, components), and their log-weights (draws,)."""
    pyro.clear_param_store()
    pyro.set_rng_seed(0)
    options = {"init_loc_fn": pyro.infer.autoguide.init_to_value(values={"means": torch.tensor([-1.0, 1.0])})}
    guide = kind(model, **({} if kind is AutoIAFNormal else options))
    svi = SVI(model, guide, ClippedAdam({"lr": 0.02, "lrd": 0.05 ** (1 / steps)}), Trace_ELBO(num_particles=4))
    for _ in range(steps):
        svi.step(x)
    values: list[dict[str, np.ndarray]] = []
    log_weights = []
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(draws):
            trace = poutine.trace(guide).get_trace(x)
            replayed = poutine.trace(poutine.replay(model, trace=trace)).get_trace(x)
            log_weights.append(float(replayed.log_prob_sum() - trace.log_prob_sum()))
            values.append({name: trace.nodes[name]["value"].numpy() for name in NAMES})
    return {name: np.stack([value[name] for value in values]) for name in NAMES}, np.array(log_weights)


def weighted_mean(value: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The self-normalized estimate and its standard error."""
    mean = weights @ value
    return mean, np.sqrt((weights**2) @ (value - mean) ** 2)


def main(epochs: int = 2000, warmup: int = 300, draws: int = 500, chains: int = 2) -> None:
    """Runs NUTS and four guides on the petals, prints the tables and writes ArviZ's figures."""
    if epochs < 10:  # a smoke run
        warmup, draws = 2, 20
    petals = torch.from_numpy(load_iris().data[:, 2]).float()
    x = (petals - petals.mean()) / petals.std()
    raw, divergent = run_nuts(x, warmup, draws, chains)
    sorted_draws = ordered(raw)
    before, after = (az.summary(inference_data(part), round_to="none") for part in (raw, sorted_draws))
    print(f"NUTS, {chains} chains of {draws}, {divergent} divergent; petal length in standard deviations")
    print(f"{'':<12}{'mean':>9}{'mcse':>9}{'sd':>9}{'ESS':>8}{'r-hat':>8}   r-hat before relabelling")
    for name in after.index:
        row = after.loc[name]
        cells = [float(row[key]) for key in ("mean", "mcse_mean", "sd", "ess_bulk", "r_hat")]
        formats = (9, 4), (9, 4), (9, 4), (8, 0), (8, 3)
        line = "".join(f"{cell:>{width}.{places}f}" for cell, (width, places) in zip(cells, formats, strict=True))
        print(f"{name:<12}{line}{float(before.loc[name]['r_hat']):>8.2f}")

    reference = np.concatenate([sorted_draws[name].reshape(-1, COMPONENTS) for name in NAMES], 1).mean(0)
    errors = after["mcse_mean"].to_numpy(dtype=float)
    spread = after["sd"].to_numpy(dtype=float)
    print(
        f"\n{'guide':<21}{'k-hat':>7}{'ELBO':>10}{'log p(x)':>10}   largest distance of a posterior mean from NUTS, in"
    )
    print(f"{'':<48}   deviations, as drawn   standard errors, weighted")
    guides = {}
    for name, kind in GUIDES.items():
        values, log_weights = run_guide(kind, x, epochs, max(200, 4 * draws) if epochs >= 10 else 50)
        guides[name] = values = ordered(values)
        flat = np.concatenate([values[part] for part in NAMES], 1)
        drawn = np.abs((flat.mean(0) - reference) / spread).max()
        if kind is AutoDelta:
            print(f"{name:<21}{'-':>7}{'-':>10}{'-':>10}   {drawn:>20.2f}   (a point: no density, not a bound)")
            continue
        weights, shape = psis(log_weights)
        mean, error = weighted_mean(flat, weights)
        distance = np.abs((mean - reference) / np.hypot(error, errors)).max()
        evidence = np.logaddexp.reduce(log_weights) - np.log(len(log_weights)) + np.log(2)
        print(
            f"{name:<21}{shape:>7.2f}{log_weights.mean():>10.3f}{evidence:>10.3f}   {drawn:>20.2f}   {distance:>10.2f}"
        )
    print(f"log p(x): importance-weighted, log {COMPONENTS} nats added for the labelling that a guide does not visit")

    with begun(None, "bayesian-mixture", "examples/bayesian_mixture.py", {}) as running:
        place = running.path
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for name, part in (("before", raw), ("after", sorted_draws)):
                save(az.plot_trace(inference_data(part)), place / f"trace-{name}-relabelling.png")
            save(az.plot_pair(inference_data(sorted_draws)), place / "pair.png")
            one_chain = {name: value.reshape(-1, COMPONENTS) for name, value in sorted_draws.items()}
            compared = {"NUTS": one_chain} | {name: part for name, part in guides.items() if name != "delta"}
            length = min(len(part["means"]) for part in compared.values())  # ArviZ 1.x wants as many draws of each
            sets = {
                name: inference_data({key: value[None, :length] for key, value in part.items()})
                for name, part in compared.items()
            }
            if NEW_ARVIZ:
                forest = az.plot_forest(sets, combined=True)
                forest.add_legend("model")
            else:
                forest = az.plot_forest(list(sets.values()), model_names=list(sets), combined=True, figsize=(8, 8))
            save(forest, place / "forest.png")
        running.finish()
    print(running.path)


def save(drawn: Any, path: Any) -> None:
    """ArviZ 1.x returns a collection that saves itself, 0.23 axes."""
    if hasattr(drawn, "savefig"):
        drawn.savefig(path)
    else:
        figure = np.ravel(np.asarray(drawn))[0].figure
        figure.tight_layout()
        figure.savefig(path, dpi=110)
    plt.close("all")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=2000, help="steps for each guide")
    parser.add_argument("--warmup", type=int, default=300)
    parser.add_argument("--draws", type=int, default=500, help="of each chain")
    parser.add_argument("--chains", type=int, default=2)
    main(**vars(parser.parse_args()))
