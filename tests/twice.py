"""Small pairs, and one of them trained twice: uncaptured and captured."""

import warnings

import torch

from ppl_vae import fit
from ppl_vae.guides import Amortized, Bernoulli, Diagonal
from ppl_vae.models import VAE, BernoulliVAE
from ppl_vae.pairs.modules import modules_of
from ppl_vae.training.capture import CaptureWarning

OBSERVED = 12


def state(*modules):
    return torch.cat([leaf.detach().flatten().double() for module in modules for leaf in module.parameters()])


def both(make, elbo, transform=None, epochs=4, batch_size=3, dtype=torch.float64):
    """The parameters and the history after a training, uncaptured and captured, and what was warned of."""
    found = []
    for capture in (False, True):
        model, guide, batch = make()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            history = fit(
                model,
                guide,
                batch,
                elbo=elbo(),
                epochs=epochs,
                batch_size=batch_size,
                transform=transform,
                seed=1,
                progress=False,
                capture=capture,
            )
        told = [warning for warning in caught if warning.category is CaptureWarning]
        found.append((state(*modules_of(model, guide)), history.elbo, told))
    return found


def bits():
    torch.manual_seed(0)
    x = torch.ones(7, OBSERVED).mul(0.5).bernoulli()
    return BernoulliVAE(OBSERVED, 4, hidden=(8,)), Amortized(Bernoulli(4), OBSERVED, hidden=(8,)), x


def pair():
    torch.manual_seed(0)
    x = torch.ones(7, OBSERVED).mul(0.5).bernoulli()
    return VAE(OBSERVED, 2, hidden=(8,)), Amortized(Diagonal(2), OBSERVED, hidden=(8,)), x
