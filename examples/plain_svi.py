"""A model and a guide of this project in a plain Pyro script: ``SVI.step`` as ever, then bounds with standard errors.

python examples/plain_svi.py
"""

import argparse

import pyro
from pyro.infer import SVI, Trace_ELBO
from pyro.optim import Adam

from ppl_vae import bounds, load
from ppl_vae.guides import Amortized, Full
from ppl_vae.models import VAE


def main(epochs: int = 100) -> None:
    """Trains a VAE with a full-covariance guide on the handwritten digits."""
    pyro.set_rng_seed(0)
    digits = load("digits")
    model = VAE(observed_dim=64, latent_dim=8)
    guide = Amortized(Full(8), observed_dim=64)
    svi = SVI(model, guide, Adam({"lr": 1e-3}), Trace_ELBO())
    for _ in range(epochs):
        for x in digits.train.bernoulli().split(128):
            svi.step(x)
    found = bounds(model, guide, digits.test.bernoulli(), particles=1000, curve=(1, 10, 100, 1000))
    print(found.iwelbo.mean("data").to_series())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=100)
    main(**vars(parser.parse_args()))
