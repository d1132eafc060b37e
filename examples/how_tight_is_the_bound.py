"""How tight is the ELBO? On a linear-Gaussian model every gap is known in closed form: measured beside exact.

log p(x) = ELBO + KL(q || p(z | x)): the gap is the second term. With posterior precision L the best diagonal Gaussian
leaves (sum log L_ii - log det L) / 2 nats, the best one of unit variance (tr L - dim - log det L) / 2, a full Gaussian
none; flows and mixtures must lie between. Each family's parameters come from an encoder (amortized), from the encoder
and then an optimization for each data point (refined), and from a table with a row for each (per data point).

    python examples/how_tight_is_the_bound.py
"""

import argparse
from functools import partial

import torch
from pyro.infer import Trace_ELBO

from ppl_vae import bounds, cosine, fit, freeze, refine
from ppl_vae.guides import FAMILIES, Amortized, ExactPosterior, Family, LowRank, PerDatapoint
from ppl_vae.measure.bounds import average
from ppl_vae.models import LinearGaussian
from ppl_vae.programs import Guide

LATENT, OBSERVED, SIZE = 8, 20, 50


def main(epochs: int = 2000, particles: int = 2000) -> None:
    """Fits each guide to one model with 8 latents and 20 observed dimensions, and prints measured beside exact."""
    torch.manual_seed(0)
    model = freeze(LinearGaussian(OBSERVED, LATENT, scale=0.3).double())
    x = model.generate(SIZE)[1].sample()
    index = torch.arange(SIZE)
    precision = model.posterior_precision()
    log_det = precision.logdet()
    diagonal = float(precision.diagonal().log().sum() - log_det) / 2
    unit = float(precision.trace() - LATENT - log_det) / 2
    closed = {"unit": f"{unit:.4f}", "diagonal": f"{diagonal:.4f}", "full": "0", f"low-rank {LATENT}": "0"}

    def gap(guide: Guide, *batch: torch.Tensor) -> str:
        torch.manual_seed(1)
        found = bounds(model, guide, batch, particles=particles, curve=(1,))
        value, error = average(model.log_evidence(x).numpy() - found.elbo, found.elbo_se)
        return f"{value:.4f} ± {error:.4f}"

    def train(guide: Guide, *batch: torch.Tensor, lr: float) -> None:
        elbo = Trace_ELBO(num_particles=8, vectorize_particles=True, max_plate_nesting=1)
        fit(
            model,
            guide,
            batch,
            elbo=elbo,
            optimizer=partial(torch.optim.Adam, lr=lr),
            epochs=epochs,
            batch_size=SIZE,
            schedule=cosine,
            seed=0,
        )

    families: dict[str, Family] = {
        name: family(LATENT) for name, family in FAMILIES.items() if not family.discrete and name != "delta"
    }
    families[f"low-rank {LATENT}"] = LowRank(LATENT, rank=LATENT)
    print(f"{'family':<12}{'closed form':>14}{'amortized':>20}{'refined':>20}{'per data point':>20}   (nats)")
    for name, family in families.items():
        amortized = Amortized(family, OBSERVED, hidden=()).double()
        train(amortized, x, lr=2e-2)
        steps, draws = max(1, epochs // 4), max(2, particles // 16)
        refined = refine(model, amortized, x, particles=draws, steps=steps, rounds=8, tolerance=1e-4)
        figures = [gap(amortized, x), gap(refined, x, index)]
        table = PerDatapoint(FAMILIES[name](LATENT) if name in FAMILIES else LowRank(LATENT, LATENT), SIZE).double()
        train(table, x, index, lr=5e-2)
        figures.append(gap(table, x, index))
        print(f"{name:<12}{closed.get(name, '-'):>14}" + "".join(f"{figure:>20}" for figure in figures), flush=True)
    print(f"{'exact':<12}{'0':>14}{gap(ExactPosterior(model), x):>20}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=2000)
    parser.add_argument("--particles", type=int, default=2000, help="draws of z to measure each gap with")
    main(**vars(parser.parse_args()))
