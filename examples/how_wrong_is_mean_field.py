"""How wrong is a mean-field guide? Known to the digit where the posterior is a Gaussian.

Linear regression has a Gaussian posterior N(m, S); its precision L = S^-1 has correlations, here those of the ten
measurements of diabetes patients. The best guide with independent weights has the right means and the standard
deviations 1/sqrt(L_ii), each weight's own with the others held where they are, in place of sqrt(S_ii). It is too
narrow, never too wide, and its gap is KL(q || p) = (sum of log L_ii - log det L) / 2 nats (Bishop 2006, section 10.1).

    python examples/how_wrong_is_mean_field.py
"""

import argparse
from typing import Any

import torch
from pyro.infer import Trace_ELBO
from torch import Tensor

from ppl_vae import annealed, bounds, fit, posterior
from ppl_vae.cli import results
from ppl_vae.guides import AUTOGUIDES
from ppl_vae.models import LinearRegression
from ppl_vae.pairs.autoguides import finished

GUIDES = ("auto-normal", "auto-mvn", "auto-laplace")
COLUMNS = ("age", "sex", "bmi", "bp", "s1", "s2", "s3", "s4", "s5", "s6", "intercept")
DATA = LinearRegression.example_data()
MODEL = LinearRegression.for_data(*DATA)


def dying(done: float) -> float:
    """A learning rate that falls early: the weights must go far, and then lie within hundredths of a deviation."""
    return (1 - done) ** 3


def predicted() -> tuple[Tensor, Tensor, float]:
    """The exact standard deviations, those of the best mean-field guide, and its gap in nats."""
    covariance = MODEL.posterior(*DATA).covariance_matrix.double()
    precision = torch.linalg.inv(covariance)
    diagonal = precision.diagonal()
    gap = (diagonal.log().sum() - torch.logdet(precision)) / 2
    return covariance.diagonal().sqrt(), diagonal.rsqrt(), float(gap)


def fitted(name: str, epochs: int) -> Any:
    """A fitted guide; that of Laplace is the Gaussian around the mode."""
    guide = AUTOGUIDES[name](MODEL)
    elbo = Trace_ELBO(num_particles=16, vectorize_particles=True)
    options: dict[str, Any] = {"lr": 0.1, "schedule": dying, "batch_size": len(DATA[0]), "elbo": elbo}
    fit(MODEL, guide, DATA, epochs=epochs, seed=0, description=name, **options)
    return finished(MODEL, guide, DATA)


def main(epochs: int = 4000, particles: int = 100_000, steps: int = 500, chains: int = 32) -> None:
    """Fits three guides, prints their gaps beside the prediction, the standard deviations, and log p(x) annealed."""
    if epochs < 10:  # a smoke run
        particles, steps, chains = 100, 3, 2
    evidence = float(MODEL.log_evidence(*DATA))
    exact, narrow, gap = predicted()
    print(f"log p(x), exact: {evidence:.3f} nats for all the data\n")
    print(f"{'guide':<14}{'ELBO':>20}{'gap, nats':>12}{'predicted':>12}")
    scales, guides = {}, {}
    for name in GUIDES:
        guide = guides[name] = fitted(name, epochs)
        bound = bounds(MODEL, guide, DATA, particles=particles, curve=[1], seed=1)
        elbo, error = float(bound.elbo[0]), float(bound.elbo_se[0])
        foreseen = gap if name == "auto-normal" else 0.0
        print(f"{name:<14}{results.with_error(elbo, error):>20}{evidence - elbo:>12.3f}{foreseen:>12.3f}")
        draws = posterior(MODEL, guide, DATA, draws=particles, seed=2)
        scales[name] = draws.weights.values[0].std(0)

    print("\nposterior standard deviations of the weights (in standard deviations of the data)")
    print(f"{'':<11}{'exact':>9}{'predicted':>12}{'ratio':>8}", end="")
    print("".join(f"{name:>15}{'ratio':>8}" for name in GUIDES))
    for index, column in enumerate(COLUMNS):
        true = float(exact[index])
        row = f"{column:<11}{true:>9.4f}{float(narrow[index]):>12.4f}{float(narrow[index]) / true:>8.3f}"
        measured = (float(scales[name][index]) for name in GUIDES)
        print(row + "".join(f"{scale:>15.4f}{scale / true:>8.3f}" for scale in measured))

    run = annealed(MODEL, guides["auto-mvn"], DATA, steps=steps, chains=chains, leapfrog=3, seed=3)
    value, error = float(run.log_evidence[0]), float(run.log_evidence_se[0])
    print(f"\nlog p(x), annealed from auto-mvn ({steps} steps, {chains} chains): {results.with_error(value, error)}")
    print(f"less the exact one: {value - evidence:.3f} nats")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=4000, help="steps for each guide")
    parser.add_argument("--particles", type=int, default=100_000)
    parser.add_argument("--steps", type=int, default=500, help="of the annealing")
    parser.add_argument("--chains", type=int, default=32)
    main(**vars(parser.parse_args()))
