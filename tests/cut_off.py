"""Small pairs, and a training of one that may be cut off and go on from its checkpoint."""

import torch

from ppl_vae import fit
from ppl_vae.guides import Amortized, Bernoulli, Diagonal
from ppl_vae.models import VAE, BernoulliVAE

OBSERVED = 12


class Cut(Exception):
    """The power is off."""


def normal():
    torch.manual_seed(0)
    return VAE(OBSERVED, 2, hidden=(8,)), Amortized(Diagonal(2), OBSERVED, hidden=(8,))


def wide():
    torch.manual_seed(0)
    return VAE(OBSERVED, 2, hidden=(9,)), Amortized(Diagonal(2), OBSERVED, hidden=(8,))


def bits():
    torch.manual_seed(0)
    return BernoulliVAE(OBSERVED, 3, hidden=(8,)), Amortized(Bernoulli(3), OBSERVED, hidden=(8,))


def halved(done):
    return 1 - done / 2


def train(
    make,
    elbo,
    place=None,
    cut_at=0,
    capture=False,
    epochs=6,
    rows=20,
    order=1,
    inner=torch.bernoulli,
    dtype=torch.float32,
    **changed,
):
    """Parameters and curve; cut off in the middle of a step where that is wanted."""
    model, guide = make()
    calls, cuts = iter(range(10**6)), {cut_at} - {0}  # a number of its own would make it another transform

    def cutting(x):
        if next(calls) in cuts:
            raise Cut
        return inner(x)

    torch.manual_seed(5)
    grey = torch.rand(20, OBSERVED, dtype=dtype)[:rows]
    grey = grey.flip(0) if order < 0 else grey
    options = {"batch_size": 8, "seed": 3, "schedule": halved, "transform": cutting, **changed}
    history = fit(
        model,
        guide,
        grey,
        elbo=elbo(),
        epochs=epochs,
        progress=False,
        capture=capture,
        checkpoint=place,
        **options,
    )
    return torch.cat([leaf.detach().flatten() for leaf in (*model.parameters(), *guide.parameters())]), history
