"""A pair is probed once, and its programs run no more often than the measurement needs."""

from collections import Counter

import pytest
import torch
from pyro.poutine.trace_messenger import TraceHandler
from torch.utils.data import DataLoader, TensorDataset
from zoo import Case

from ppl_vae import InputError, bounds, compare, log_weights, tightness
from ppl_vae.guides import Amortized, Diagonal, Full
from ppl_vae.models import VAE
from ppl_vae.pairs.pair import Pair

X = torch.bernoulli(torch.full((20, 64), 0.3), generator=torch.Generator().manual_seed(0))


@pytest.fixture
def counted(monkeypatch):
    """How often pairs are probed, and programs traced."""
    counts = Counter()
    probe, get_trace = Pair._probe, TraceHandler.get_trace

    def counting_probe(pair, *args):
        counts["probed"] += 1
        return probe(pair, *args)

    def counting_trace(handler, *args, **kwargs):
        counts["traced"] += 1
        return get_trace(handler, *args, **kwargs)

    monkeypatch.setattr(Pair, "_probe", counting_probe)
    monkeypatch.setattr(TraceHandler, "get_trace", counting_trace)
    return counts


def test_a_split_tightness_probes_its_pair_once(counted):
    """Two runs of both programs for the probe and one of the model, to see whether particles are free of each other.

    One to look at the data, one for all bounds; the rest is refinement.
    """
    model, guide = VAE(64, 2), Amortized(Diagonal(2), 64)
    refinement = {"steps": 5, "rounds": 1}
    tightness(model, guide, X, particles=100, split=True, refinement=refinement, progress=False)
    assert counted["probed"] == 1
    both = 2
    probe, look, draws, refined_draws = 2 * both + 1, both, both, both
    climbing, choice, aggregate_posterior = 5 * both, 2 * both, 1
    assert counted["traced"] == probe + look + draws + climbing + choice + refined_draws + aggregate_posterior


def test_a_comparison_probes_each_pair_once(counted):
    guides = {"diagonal": Amortized(Diagonal(2), 64), "full": Amortized(Full(2), 64)}
    compare(VAE(64, 2), guides, X, test=X, epochs=1, particles=100, device="cpu", progress=False)
    assert counted["probed"] == len(guides)


def test_one_pass_gives_bounds_rate_and_distortion_of_the_same_draws():
    model, guide = VAE(64, 2), Amortized(Diagonal(2), 64)
    measured = tightness(model, guide, X, particles=50, progress=False)
    torch.testing.assert_close(
        torch.as_tensor((measured.rate + measured.distortion).values),
        torch.as_tensor(-measured.elbo.values),
        rtol=1e-5,
        atol=1e-5,
    )


@pytest.mark.parametrize("batch_size", [3, 5])
def test_a_loader_is_read_as_the_tensors_in_it(batch_size):
    model, guide, batch = Case("conditional-vae", "diagonal").make()
    loader = DataLoader(TensorDataset(*batch), batch_size=batch_size)
    torch.testing.assert_close(log_weights(model, guide, loader, seed=1), log_weights(model, guide, batch, seed=1))
    assert bounds(model, guide, loader, particles=10, progress=False).sizes["data"] == len(batch[0])


def test_a_seed_gives_the_same_numbers_and_leaves_those_of_others_alone():
    model, guide = VAE(64, 2), Amortized(Diagonal(2), 64)
    before = torch.get_rng_state()
    first, again = (log_weights(model, guide, X, seed=5) for _ in range(2))
    assert torch.equal(first, again)
    assert torch.equal(before, torch.get_rng_state())


def test_compare_leaves_what_it_is_given_as_it_was():
    model, guides = VAE(64, 2), {"diagonal": Amortized(Diagonal(2), 64)}
    before = [leaf.clone() for part in (model, *guides.values()) for leaf in part.parameters()]
    state = torch.get_rng_state()
    compare(model, guides, X, test=X, epochs=2, particles=10, seed=0, device="cpu", progress=False)
    after = [leaf for part in (model, *guides.values()) for leaf in part.parameters()]
    assert all(leaf.requires_grad for leaf in after)
    assert all(map(torch.equal, before, after))
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ((), "the data are empty; expected a tensor with a row for each data point"),
        (X.numpy(), "the data hold a ndarray; expected a tensor or a tuple of some: torch.as_tensor makes one"),
        (torch.tensor(1.0), r"the data have shape \(\); expected a row for each data point"),
        (X[:0], r"the data have shape \(0, 64\); expected a row for each data point"),
        (lambda x: x, "a program is given where the data are expected: give the model, the guide, then the data"),
        (DataLoader([{"x": 1}]), "the loader gives no tensors"),
    ],
)
def test_other_data_are_refused_in_one_line(data, message):
    with pytest.raises(InputError, match=message) as caught:
        bounds(VAE(64, 2), Amortized(Diagonal(2), 64), data)
    assert "\n" not in str(caught.value)
