"""From two functions to a table: how tight is the ELBO of a model and a guide that you wrote yourself?

Five groups have effects of their own around a common mean. The model is a function, and so is the first guide; the
second is made of the model by Pyro.
"""

import argparse

import pyro
import torch
from pyro.distributions import LogNormal, Normal
from pyro.distributions.constraints import positive
from pyro.infer.autoguide import AutoNormal
from torch import Tensor

from ppl_vae import bounds, check, fit, tightness

GROUPS = 5


def model(x: Tensor, group: Tensor) -> None:
    """Says how the data come about: x, one number for each data point, which lies in a group from 0 to 4."""
    mean = pyro.sample("mean", Normal(torch.tensor(0.0), 5.0))
    spread = pyro.sample("spread", LogNormal(torch.tensor(0.0), 1.0))
    with pyro.plate("groups", GROUPS):
        effect = pyro.sample("effect", Normal(mean, spread))
    with pyro.plate("data", len(x)):  # the data points are in a plate, one row each
        # [..., group]: many draws are run at once, in dimensions left of those that are written here
        pyro.sample("x", Normal(effect[..., group], 1.0), obs=x)


def guide(x: Tensor, group: Tensor) -> None:
    """Approximates the posterior: samples the same latents as the model, from densities with parameters to fit."""
    pyro.sample("mean", Normal(*parameters("mean", ())))
    pyro.sample("spread", LogNormal(*parameters("spread", ())))
    with pyro.plate("groups", GROUPS):
        pyro.sample("effect", Normal(*parameters("effect", (GROUPS,))))


def parameters(name: str, shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """What is fitted: a location, and a scale that stays above 0."""
    return pyro.param(f"{name}_loc", torch.zeros(shape)), pyro.param(f"{name}_scale", torch.ones(shape), positive)


def main(epochs: int = 2000) -> None:
    """Checks and fits both guides, and prints how tight their ELBOs are."""
    torch.manual_seed(0)
    group = torch.arange(30) % GROUPS
    data = (2 + torch.randn(GROUPS)[group] + torch.randn(30), group)  # simulated here; put your own tensors in
    for name, program in {"by hand": guide, "AutoNormal": AutoNormal(model)}.items():
        print(f"{name}: mistakes found: {check(model, program, data)}")  # in words, before any training
        fit(model, program, data, epochs=epochs, lr=0.01, seed=0)  # any Pyro ELBO and torch optimizer
        curve = bounds(model, program, data, particles=1000, seed=1)  # the ELBO, and IWELBO_K for several K
        print(f"  ELBO {float(curve.elbo[0]):.3f} nats, IWELBO at K = 1000 {float(curve.iwelbo[-1, 0]):.3f}")
        found = tightness(model, program, data, particles=10_000, seed=1)  # what is lost; k-hat: below 0.7, believe it
        print(f"  log p(x) {float(found.log_evidence[0]):.3f}, k-hat {float(found.khat[0]):.2f}", end="; ")
        print(f"the ELBO lies {float(found.gap[0]):.3f} ± {float(found.gap_se[0]):.3f} below it")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=2000)
    main(parser.parse_args().epochs)
