"""How tight is the ELBO? On a linear-Gaussian model every gap is known in closed form: measured beside exact.

log p(x) = ELBO + KL(q || p(z | x)): the gap is the second term. With posterior precision L the best diagonal Gaussian
leaves (sum log L_ii - log det L) / 2 nats, a full Gaussian none. A flow lies between: it is not linear, but close.

    python examples/how_tight_is_the_bound.py
"""

import argparse
from functools import partial

import torch
from pyro.infer import Trace_ELBO

from ppl_vae import compare, cosine, freeze
from ppl_vae.guides import FAMILIES, Amortized, Exact
from ppl_vae.models import LinearGaussian


def main(epochs: int = 800) -> None:
    """Fits each guide to one model with 8 latents and 20 observed dimensions, and prints measured beside exact."""
    torch.manual_seed(0)
    model = freeze(LinearGaussian(20, 8, scale=0.3).double())
    x = model.generate(500)[1].sample()
    guides = {name: Amortized(family(8), 20, hidden=()).double() for name, family in FAMILIES.items()}
    found = compare(
        model, {**guides, "exact": Exact(model)}, x, x, epochs=epochs, batch_size=250, schedule=cosine,
        elbo=Trace_ELBO(num_particles=4, vectorize_particles=True, max_plate_nesting=1),
        optimizer=partial(torch.optim.Adam, lr=2e-2),
    )  # fmt: skip
    precision = model.posterior_precision()
    diagonal = float(precision.diagonal().log().sum() - precision.logdet()) / 2
    closed = {"exact": "0", "full": "0", "diagonal": f"{diagonal:.4f}", "flow": f"0 to {diagonal:.4f}"}
    print(f"{'guide':<10}{'gap, measured':>20}{'gap, closed form':>20}   (nats per data point)")
    for row in found.rows:
        gap = f"{row.gap:.4f} ± {row.gap_se:.4f}" if row.gap is not None else "not a bound"
        print(f"{row.guide:<10}{gap:>20}{closed.get(row.guide, '-'):>20}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=800)
    main(**vars(parser.parse_args()))
