"""Small pairs, and a training of one that may be cut off and go on from its checkpoint."""

from contextlib import contextmanager
from unittest import mock

import torch

from ppl_vae import fit
from ppl_vae.guides import Amortized, Bernoulli, Diagonal
from ppl_vae.models import VAE, BernoulliVAE
from ppl_vae.training.tensor_files import read_content
from ppl_vae.training.updates import Updates

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


@contextmanager
def written_each_epoch():
    """Has checkpoints written after each epoch, however long that takes."""
    with mock.patch("ppl_vae.training.checkpoints.TIMES", 0.0):
        yield


@contextmanager
def cut(step):
    """Cuts a training off in the middle of a step, the first one being 1; never where it is 0.

    Yields the steps that were taken, as a list.
    """
    finish, taken = Updates.finish, []

    def finish_or_die(updates):
        if len(taken) + 1 == step:
            raise Cut
        finish(updates)
        taken.append(updates)

    with mock.patch.object(Updates, "finish", finish_or_die), written_each_epoch():
        yield taken


def epochs_in(place):
    """The curve that a checkpoint holds."""
    return read_content(place, "a checkpoint")["parts"]["history"]["elbo"]


def train(make, elbo, place=None, cut_at=0, epochs=6, rows=20, order=1, dtype=torch.float32, **changed):
    """Parameters and curve; cut off in the middle of a step where that is wanted."""
    model, guide = make()
    torch.manual_seed(5)
    grey = torch.rand(20, OBSERVED, dtype=dtype)[:rows]
    grey = grey.flip(0) if order < 0 else grey
    options = {"batch_size": 8, "seed": 3, "schedule": halved, "transform": torch.bernoulli, "capture": False}
    with cut(cut_at):
        history = fit(
            model, guide, grey, elbo=elbo(), epochs=epochs, progress=False, checkpoint=place, **(options | changed)
        )
    return torch.cat([leaf.detach().flatten() for leaf in (*model.parameters(), *guide.parameters())]), history
