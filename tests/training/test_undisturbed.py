"""What a pair holds is looked at again wherever other code than this package's has run since."""

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset
from twice import pair

from ppl_vae import cosine, fit
from ppl_vae.training.captured_batch import CapturedBatch

STEPS = 200


@pytest.fixture
def looks(monkeypatch):
    """Counts the looks at what the pair holds."""
    counted = []
    look = CapturedBatch.has_drifted
    monkeypatch.setattr(CapturedBatch, "has_drifted", lambda shape: counted.append(1) or look(shape))
    return counted


def _fit(x=None, **options):
    model, guide, own = pair()
    data = own if x is None else x
    return fit(model, guide, data, epochs=STEPS, seed=0, progress=False, capture=True, **options)


def test_where_nothing_else_runs_it_is_looked_at_beside_the_program_alone(looks):
    history = _fit(batch_size=7)
    assert len(looks) <= 20
    assert history.elbo == _fit(batch_size=7, after_epoch=lambda done: False).elbo


@pytest.mark.parametrize(
    "options",
    [
        {"after_epoch": lambda done: False},
        {"transform": lambda x: x.round()},
        {"schedule": cosine},
    ],
    ids=lambda options: next(iter(options)),
)
def test_other_code_has_it_looked_at_in_each_step(looks, options):
    _fit(batch_size=7, **options)
    assert len(looks) >= STEPS - 20


def test_a_loader_has_it_looked_at_in_each_step(looks):
    _fit(DataLoader(TensorDataset(torch.ones(7, 12)), batch_size=7))
    assert len(looks) >= STEPS - 20


def test_a_run_of_the_program_on_a_short_batch_has_it_looked_at(looks):
    """Batches of 3 of 7 rows, whose last one is the program's where auto chooses."""
    model, guide, x = pair()
    fit(model, guide, x, epochs=STEPS, batch_size=3, seed=0, progress=False)
    assert STEPS - 20 <= len(looks) <= STEPS + 40
