"""A training with a checkpoint is the one without, for every family: writing a file draws no random number."""

import pytest
import torch

from ppl_vae import fit
from ppl_vae.guides import FAMILIES, Amortized
from ppl_vae.models import VAE

CONTINUOUS = [name for name, family in FAMILIES.items() if not family.discrete]


@pytest.mark.parametrize("family", CONTINUOUS)
def test_a_checkpoint_changes_no_number(tmp_path, monkeypatch, family):
    monkeypatch.setattr("ppl_vae.training.checkpoints.TIMES", 0)  # a file after each epoch
    x = torch.bernoulli(torch.full((20, 12), 0.3), generator=torch.Generator().manual_seed(0))
    curves, states = [], []
    for place in (None, tmp_path / "kept.pt"):
        torch.manual_seed(0)
        model, guide = VAE(12, 2, hidden=(8,)), Amortized(FAMILIES[family](2), 12, hidden=(8,))
        history = fit(model, guide, x, epochs=3, batch_size=8, seed=0, checkpoint=place, progress=False)
        curves.append(history.elbo)
        states.append(torch.cat([leaf.detach().flatten() for leaf in (*model.parameters(), *guide.parameters())]))
    assert curves[0] == curves[1]
    assert torch.equal(*states)
