"""Pairs and data that gave wrong numbers without a word: each gives the right ones now, or is refused in a sentence."""

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import Trace_ELBO
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from ppl_vae import (
    InputError,
    LogEvidence,
    annealed,
    bounds,
    compare,
    fit,
    freeze,
    gradient_statistics,
    log_weights,
    no_guide,
    reference_gradient,
    sandwich,
)
from ppl_vae.evidence import exact_evidence
from ppl_vae.guides import Amortized, Diagonal
from ppl_vae.models import VAE, LinearGaussian, MixtureDensityNetwork
from ppl_vae.pairs.densities import log_density
from ppl_vae.pairs.modules import modules_of
from ppl_vae.pairs.pair import Pair

QUIET = {"progress": False}
X = torch.bernoulli(torch.full((20, 8), 0.3), generator=torch.Generator().manual_seed(0))


def small_pair():
    torch.manual_seed(0)
    return VAE(8, 2, hidden=(16,)), Amortized(Diagonal(2), 8, hidden=(16,))


def test_annealing_moves_in_the_support_of_each_data_point():
    """The first rows have another support than the others."""
    high = torch.tensor([1.0] * 4 + [3.0] * 4)
    x = torch.zeros(8)

    def model(x, high):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Uniform(torch.zeros(len(x)), high))
            pyro.sample("x", dist.Normal(z - 0.5, 0.3), obs=x)

    normal = dist.Normal(0.5, 0.3)
    truth = ((normal.cdf(high) - normal.cdf(torch.zeros(8))) / high).log()
    measured = annealed(model, None, (x, high), steps=100, chains=64, seed=0, **QUIET)
    errors = measured.log_evidence_se.values + measured.log_evidence_bias.values
    assert (np.abs(measured.log_evidence.values - truth.numpy()) < 5 * errors).all()


def test_states_are_those_of_each_data_point():
    total = torch.tensor([2.0] * 4 + [6.0] * 4)

    def model(x, total):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Binomial(total, torch.tensor(0.5)))
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    known = exact_evidence(model, (torch.full((8,), 5.0), total), **QUIET)
    assert known is None  # totals that differ can't be counted together


def test_gradients_are_drawn_whatever_the_caller_turned_off():
    model, guide = small_pair()
    expected = gradient_statistics(model, guide, X, elbo=Trace_ELBO(), draws=20, seed=1, **QUIET)
    for mode in (torch.no_grad(), torch.inference_mode()):
        with mode:
            statistics = gradient_statistics(model, guide, X, elbo=Trace_ELBO(), draws=20, seed=1, **QUIET)
            np.testing.assert_allclose(statistics["mean"], expected["mean"], rtol=1e-5, atol=1e-6)
            assert reference_gradient(model, guide, X, **QUIET).mean.norm() > 1


def test_guides_that_share_an_encoder_are_fitted_each_by_itself():
    model, guide = small_pair()
    other = Amortized(Diagonal(2), encoder=guide.encoder)
    options = {"test": X, "epochs": 3, "particles": 20, "seed": 0, "device": "cpu", **QUIET}
    alone = compare(model, {"first": guide}, X, **options)
    beside = compare(model, {"first": guide, "second": other}, X, **options)
    assert {row.guide: row.elbo for row in beside.rows}["first"] == alone.rows[0].elbo
    assert beside.pairs["first"][0] is beside.pairs["second"][0]  # of one frozen model


def test_bits_of_few_digits_do_not_underflow():
    logits, bits = torch.full((3, 64), 6.0, dtype=torch.float16), torch.zeros(3, 64, dtype=torch.float16)
    with torch.no_grad():
        assert log_density(dist.Bernoulli(logits=logits).to_event(1), bits).isfinite().all()


def test_a_likelihood_derived_from_bits_keeps_its_own_density():
    class Halved(dist.Bernoulli):
        def log_prob(self, value):
            return super().log_prob(value) / 2

    halved = Halved(logits=torch.randn(3, 5)).to_event(1)
    bits = torch.ones(3, 5)
    with torch.no_grad():
        torch.testing.assert_close(log_density(halved, bits), halved.log_prob(bits))


def test_a_sandwich_needs_a_model_that_generates():
    def teacher_forced(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(len(x)), 1.0))
            loc = torch.cat([z[..., None], x[:, :-1].expand(*z.shape, -1)], -1)
            pyro.sample("x", dist.Normal(loc, 1.0).to_event(1), obs=x)

    with pytest.raises(InputError, match="depends on the data that it is the density of"):
        sandwich(teacher_forced, torch.randn(5, 3), steps=2, chains=2, **QUIET)

    def conditional(x, given):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(len(x)), 1.0))
            pyro.sample("x", dist.Normal(z + given, 1.0), obs=x)

    x = torch.randn(5)
    with pytest.raises(InputError, match="given as two arguments"):
        sandwich(conditional, (x, x), steps=2, chains=2, **QUIET)


def test_a_plate_of_another_length_is_refused():
    def model(x):
        with pyro.plate("data", 1):
            z = pyro.sample("z", dist.Normal(torch.zeros(1), 1.0))
            pyro.sample("x", dist.Normal(z, 1.0).expand([1]), obs=x.mean()[None])

    def guide(x):
        with pyro.plate("data", 1):
            pyro.sample("z", dist.Normal(torch.zeros(1), 1.0))

    with pytest.raises(InputError, match="make it as long as the batch"):
        log_weights(model, guide, torch.randn(10))


def test_a_loader_that_shuffles_is_refused_and_none_draws():
    model, guide = small_pair()
    data = TensorDataset(X)
    with pytest.raises(InputError, match="make it with shuffle=False"):
        bounds(model, guide, DataLoader(data, batch_size=5, shuffle=True), **QUIET)
    state = torch.get_rng_state()
    bounds(model, guide, DataLoader(data, batch_size=5), particles=10, seed=0, **QUIET)
    assert torch.equal(state, torch.get_rng_state())
    uneven = DataLoader([torch.zeros(8), torch.zeros(7)], batch_size=1)
    with pytest.raises(InputError, match="differ in more than their number of rows"):
        bounds(model, guide, uneven, **QUIET)


def test_measuring_leaves_the_parameter_store_as_it_was():
    def model(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(len(x)), 1.0))
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    def guide(x):
        loc = pyro.param("loc", torch.zeros(len(x)))
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(loc, 1.0))

    x = torch.randn(10)
    bounds(model, guide, x, particles=10, **QUIET)  # whose probe makes parameters for a few rows
    assert not pyro.get_param_store().keys()
    fit(model, guide, x, epochs=1, batch_size=10, **QUIET)
    assert len(pyro.param("loc")) == 10


def test_networks_of_objects_that_can_be_called_are_found():
    class Callable:
        def __init__(self):
            self.network = nn.Linear(2, 2)

        def __call__(self, x):
            return self.network(x)

    program = Callable()
    assert modules_of(program) == [program.network]


def test_what_numpy_reads_is_no_constant_of_a_replay():
    """A graph is verified on other data than it was recorded from, where numbers that Python read show."""
    torch.manual_seed(0)
    model, x = freeze(LinearGaussian(3, 1, scale=0.5)), torch.randn(400, 3) * torch.linspace(0.2, 3, 400)[:, None]
    network = nn.Linear(3, 1)

    def guide(x):
        loc = network(torch.from_numpy(np.tanh(x.numpy())))
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(loc, 0.5).to_event(1))

    expected = bounds(model, guide, x[-1:], particles=3000, curve=(1,), **QUIET)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ppl_vae.pairs.pair.CHUNK_BYTES", 3000 * Pair(model, guide, x).largest_bytes)
        measured = bounds(model, guide, x, particles=3000, curve=(1,), **QUIET)  # a chunk for each data point
    difference = float(measured.elbo[-1] - expected.elbo[0])
    assert abs(difference) < 5 * float(np.hypot(measured.elbo_se[-1], expected.elbo_se[0]))


def test_an_empty_buffer_does_not_keep_a_pair_from_being_captured(recwarn):
    x, given = torch.randn(60, 1), torch.rand(60, 1)
    model = MixtureDensityNetwork(1, 2, 1, hidden=(8,)).standardize(x, given)
    fit(model, no_guide, (x, given), elbo=LogEvidence(), epochs=3, batch_size=20, capture=True, **QUIET)
    assert not [str(warning.message) for warning in recwarn if "uncaptured" in str(warning.message)]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m, g: bounds(m, g, X, particles=2.5), "particles is 2.5; a whole number from 2 on is needed"),
        (lambda m, g: bounds(m, g, X, particles=1), "particles is 1; a whole number from 2 on is needed"),
        (lambda m, g: bounds(m, g, X, curve=[1.5]), r"curve is \[1.5\]; each K is a number of particles"),
        (lambda m, g: annealed(m, None, X, chains=1), "chains is 1; a whole number from 2 on is needed"),
    ],
)
def test_counts_are_whole_numbers(call, message):
    with pytest.raises(InputError, match=message):
        call(*small_pair())
