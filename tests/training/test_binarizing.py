"""Bits drawn in less time: torch's own, with the same random numbers left behind."""

import pytest
import torch

from ppl_vae import fit
from ppl_vae.guides import Amortized, Diagonal
from ppl_vae.models import VAE
from ppl_vae.training.binarizing import bernoulli


@pytest.mark.parametrize("shape", [(), (1,), (7,), (3, 5), (128, 784), (0, 4)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_bits_are_those_of_torch(shape, dtype):
    probabilities = torch.rand(shape, dtype=dtype)
    probabilities.flatten()[:2] = torch.tensor([0.0, 1.0])[: probabilities.numel()]
    torch.manual_seed(3)
    expected, after = torch.bernoulli(probabilities), torch.get_rng_state()
    torch.manual_seed(3)
    assert torch.equal(bernoulli(probabilities), expected)
    assert torch.equal(torch.get_rng_state(), after)


def test_probabilities_that_lie_in_memory_by_columns():
    probabilities = torch.rand(30, 20).t()
    torch.manual_seed(3)
    expected = torch.bernoulli(probabilities)
    torch.manual_seed(3)
    assert torch.equal(bernoulli(probabilities), expected)


@pytest.mark.parametrize("wrong", [1.5, -0.1, float("nan")])
def test_what_is_no_probability_is_refused_as_by_torch(wrong):
    with pytest.raises(RuntimeError, match="p_in"):
        bernoulli(torch.tensor([0.5, wrong]))


def test_fit_draws_what_torch_draws():
    """A transform of one's own that calls torch.bernoulli gives the same training."""
    levels, found = torch.rand(20, 6), []
    for transform in (torch.bernoulli, lambda x: torch.bernoulli(x)):
        torch.manual_seed(0)
        pair = VAE(6, 2, hidden=(4,)), Amortized(Diagonal(2), 6, hidden=(4,))
        found.append(fit(*pair, levels, transform=transform, epochs=3, batch_size=8, seed=1, progress=False).elbo)
    assert found[0] == found[1]
