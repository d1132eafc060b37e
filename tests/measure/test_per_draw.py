"""Gradients draw by draw: those of the program itself, whatever way it reaches its parameters."""

import numpy as np
import odd_pairs
import pyro
import pytest
import torch
from pyro import poutine
from pyro.infer import (
    SVI,
    JitTrace_ELBO,
    RenyiELBO,
    ReweightedWakeSleep,
    Trace_ELBO,
    TraceEnum_ELBO,
    TraceGraph_ELBO,
    TraceTailAdaptive_ELBO,
    TraceTMC_ELBO,
)
from pyro.optim import SGD
from torch import nn
from torch.utils._pytree import tree_map

from ppl_vae import InputError, gradient_statistics, reference_gradient
from ppl_vae.estimators import RELAX, NeuralBaseline, Pathwise, Reinforce, RunningMean, StickingTheLanding
from ppl_vae.graphs.noise import Replayed
from ppl_vae.guides import Amortized, Bernoulli
from ppl_vae.measure.gradients import _learn
from ppl_vae.measure.intervals import mean_interval
from ppl_vae.measure.per_draw_gradients import drawing
from ppl_vae.models import BernoulliVAE
from ppl_vae.pairs.restore import local_parameters

LOOPS = 100


def loops(model, guide, x, leaves, draws=LOOPS):
    """Plain runs of Pyro's ELBO, one after the other, shape (draws, components)."""
    found = []
    with local_parameters(model, guide), pyro.validation_enabled(False):
        for _ in range(draws):
            loss = Trace_ELBO().differentiable_loss(model, guide, x)
            parts = torch.autograd.grad(loss, leaves, allow_unused=True, materialize_grads=True)
            found.append(torch.cat([part.flatten() for part in parts]))
    return torch.stack(found).double()


def leaves_of(model, guide, x):
    with drawing(model, guide, Pathwise(), (x,)) as draw:
        return draw.leaves


def furthest(mean, error, draws):
    """The largest distance of a mean from that of plain runs, in standard errors of both."""
    noise = (draws.var(0) / len(draws) + error.square()).sqrt() + 1e-6 * draws.mean(0).norm()
    return float(((mean - draws.mean(0)).abs() / noise).max())


@pytest.mark.parametrize("name", odd_pairs.MAKERS)
def test_gradients_and_reference_are_those_of_plain_runs(name):
    model, guide, x = odd_pairs.make(name)
    leaves = leaves_of(model, guide, x)
    plain = loops(model, guide, x, leaves)
    draws = LOOPS if name in odd_pairs.ONE_BY_ONE else 1000
    found = gradient_statistics(model, guide, x, elbo=Pathwise(), draws=draws)
    assert found.attrs["vectorized"] == (name not in odd_pairs.ONE_BY_ONE)
    assert furthest(*(torch.tensor(found[key].values) for key in ("mean", "mean_se")), plain) < 4.5
    squares = (plain - plain.mean(0)).square().sum(1).numpy() * LOOPS / (LOOPS - 1)
    low, high = mean_interval(squares, 0.999)
    total = found.sel(group="total")
    assert low < float(total.variance_high)
    assert float(total.variance_low) < high
    reference = reference_gradient(model, guide, x, draws=draws)
    assert furthest(reference.mean, reference.error, plain) < 4.5


@pytest.mark.parametrize("elbo", [Pathwise(), Reinforce()])
def test_no_two_draws_share_their_random_numbers(elbo):
    model, guide, x = odd_pairs.make("dropped")
    with drawing(model, guide, elbo, (x,)) as draw:
        found = draw(200)
        assert draw.together, draw.reason
        assert len(torch.unique(found, dim=0)) == 200


@pytest.mark.parametrize("name", odd_pairs.ONE_BY_ONE)
def test_what_no_graph_holds_is_drawn_one_by_one_and_says_why(name):
    model, guide, x = odd_pairs.make(name)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with drawing(model, guide, Pathwise(), (x,)) as draw:
        draw(200)
        assert not draw.together
        assert odd_pairs.ONE_BY_ONE[name] in draw.reason
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


class Warming(odd_pairs.Model):
    """Its likelihood changes by itself, a little at each run."""

    runs = [0]  # noqa: RUF012

    def logits(self, z):
        self.runs[0] += 1
        return super().logits(z) * min(1.0, 0.5 + self.runs[0] / 1000)


class OwnGenerator(odd_pairs.Model):
    """Random numbers from a generator that nobody else knows, once in ten runs."""

    def __init__(self):
        super().__init__()
        self.generator = [np.random.default_rng(0)]

    def logits(self, z):
        return super().logits(z if self.generator[0].random() < 0.9 else 0 * z)


@pytest.mark.parametrize("make", [Warming, OwnGenerator])
def test_a_program_that_changes_by_itself_is_drawn_one_by_one(make):
    torch.manual_seed(0)
    x = torch.ones(odd_pairs.ROWS, odd_pairs.PIXELS)
    with drawing(make(), odd_pairs.Guide(), Pathwise(), (x,)) as draw:
        draw(200)
        assert not draw.together
        assert "anew at each run" in draw.reason


def test_particles_drawn_one_after_the_other_are_averaged():
    """Pyro's loop over particles gives the mean of as many gradients: a fifth of the variance."""
    model, guide, x = odd_pairs.make("tied")
    one, five = (
        gradient_statistics(model, guide, x, elbo=Trace_ELBO(num_particles=count), draws=2000).sel(group="total")
        for count in (1, 5)
    )
    assert five.variance_low < one.variance / 5 < five.variance_high


class OwnRenyi(RenyiELBO):
    """A class of somebody else, which may hold what no graph knows."""


def test_an_elbo_that_is_not_known_is_drawn_one_by_one():
    model, guide, x = odd_pairs.make("tied")
    found = gradient_statistics(model, guide, x, elbo=OwnRenyi(alpha=0, num_particles=2), draws=100)
    assert not found.attrs["vectorized"]


@pytest.mark.parametrize(
    "elbo",
    [
        RenyiELBO(alpha=0, num_particles=2),
        RenyiELBO(alpha=0.5, num_particles=3, vectorize_particles=True),
        ReweightedWakeSleep(num_particles=2),
        TraceTailAdaptive_ELBO(num_particles=3, vectorize_particles=True),
        TraceTMC_ELBO(max_plate_nesting=1),
        TraceEnum_ELBO(max_plate_nesting=1),
        TraceGraph_ELBO(num_particles=2),
    ],
    ids=lambda elbo: type(elbo).__name__,
)
def test_pyros_elbos_are_drawn_at_once_and_each_draw_is_the_programs_own(elbo):
    """The graph's gradients beside those of ``loss_and_grads`` on the very random numbers of each draw."""
    model, guide, x = odd_pairs.make("tied")
    with drawing(model, guide, elbo, (x,)) as draw:
        draw(100)
        assert draw.together, draw.reason
        gradients, noise = draw._mapped(20)
        seen = []
        for number in range(20):
            with Replayed(tree_map(lambda part, at=number: part[at], noise)):
                for leaf in draw.leaves:
                    leaf.grad = None
                draw._single.loss_and_grads(model, draw.guide, x)
            own = [torch.zeros_like(leaf) if leaf.grad is None else leaf.grad for leaf in draw.leaves]
            seen.append(torch.cat([part.flatten() for part in own]))
        found = torch.cat([part.flatten(1) for part in gradients], 1)
    torch.testing.assert_close(found, torch.stack(seen), rtol=1e-4, atol=1e-5)
    assert len(torch.unique(found, dim=0)) == 20


def test_an_elbo_that_compiles_its_first_run_is_refused():
    model, guide, x = odd_pairs.make("tied")
    with pytest.raises(InputError, match="JitTrace_ELBO replays a trace of its own: take Trace_ELBO"):
        gradient_statistics(model, guide, x, elbo=JitTrace_ELBO())


@pytest.mark.parametrize("make", [NeuralBaseline, RunningMean, RELAX])
def test_an_estimator_learns_what_plain_steps_teach_it(make):
    """The pair is held meanwhile: no gradient goes through it, and none of the lesson is lost by that."""
    torch.manual_seed(0)
    x = torch.ones(3, odd_pairs.PIXELS)
    learned = []
    for plain in (True, False):
        torch.manual_seed(0)
        model, guide = BernoulliVAE(odd_pairs.PIXELS, 2, hidden=(4,)), Amortized(Bernoulli(2), odd_pairs.PIXELS)
        with drawing(model, guide, make(), (x,)) as draw:
            network = draw.elbo.learned(model, guide, x)
            if plain:
                optimizer = torch.optim.Adam(network.parameters(), lr=0.01) if network is not None else None
                for _ in range(5):
                    if optimizer is not None:
                        optimizer.zero_grad()
                    draw.elbo.loss_and_grads(model, draw.guide, x)
                    if optimizer is not None:
                        optimizer.step()
            else:
                assert _learn(draw, 5, 0.01) == 5
            learned.append([*draw.elbo.state, *(network.parameters() if network is not None else ())])
    assert learned[0]
    for one, other in zip(*learned, strict=True):
        assert torch.equal(one, other)


def test_the_same_seed_gives_the_same_draws():
    model, guide, x = odd_pairs.make("tied")
    found = []
    for seed in (1, 1, 2):
        pyro.set_rng_seed(seed)
        found.append(gradient_statistics(model, guide, x, elbo=StickingTheLanding(), draws=200)["mean"].values)
    assert np.array_equal(found[0], found[1])
    assert not np.array_equal(found[0], found[2])


def test_only_what_is_exact_is_called_so():
    sources = {}
    for name in odd_pairs.MAKERS:
        model, guide, x = odd_pairs.make(name)
        sources[name] = reference_gradient(model, guide, x, draws=20).source
    exact = {name for name, source in sources.items() if source == "quadrature"}
    assert exact == {"tied", "recurrent", "sharing"}


class Bits(odd_pairs.Model):
    """Bits whose likelihood looks at the other rows' as well, so that no sum over one row's states is exact."""

    interacting = True

    def forward(self, x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", pyro.distributions.Bernoulli(torch.full((2,), 0.4)).to_event(1))
            shown = z + z.sum(-2, keepdim=True) if self.interacting else z
            pyro.sample("x", pyro.distributions.Bernoulli(logits=self.logits(shown)).to_event(1), obs=x)


class BitsGuide(odd_pairs.Guide):
    def __init__(self):
        super().__init__()
        self.encoder = nn.Linear(odd_pairs.PIXELS, 2)

    def forward(self, x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", pyro.distributions.Bernoulli(logits=self.encoder(x)).to_event(1))


def test_discrete_latents_are_enumerated_unless_rows_interact():
    torch.manual_seed(0)
    model, guide, x = Bits(), BitsGuide(), torch.ones(2, odd_pairs.PIXELS)
    with pytest.raises(InputError, match="the density of one data point depends on the latents of another"):
        reference_gradient(model, guide, x, draws=1000)
    model.interacting = False
    assert reference_gradient(model, guide, x).source == "enumeration"
    with poutine.scale(scale=3.0):
        scaled = reference_gradient(model, guide, x, draws=20000)
    assert scaled.source == "20000 score-function draws"
    noise = scaled.error + 1e-5
    assert ((scaled.mean - 3 * reference_gradient(model, guide, x).mean).abs() / noise).max() < 4.5


class Averaging(BitsGuide):
    """With Pyro's own decaying average for a baseline, which lives in the parameter store."""

    def forward(self, x):
        with pyro.plate("data", len(x)):
            infer = {"baseline": {"use_decaying_avg_baseline": True}}
            pyro.sample("z", pyro.distributions.Bernoulli(logits=self.encoder(x)).to_event(1), infer=infer)


def test_pyros_own_baseline_has_learned_before_it_is_measured_and_the_store_is_left():
    torch.manual_seed(0)
    model, x = Bits(), torch.ones(3, odd_pairs.PIXELS)
    model.interacting = False
    pyro.clear_param_store()
    plain, averaging = (
        gradient_statistics(model, guide, x, elbo=TraceGraph_ELBO(), draws=300) for guide in (BitsGuide(), Averaging())
    )
    assert (plain.attrs["learning_steps"], averaging.attrs["learning_steps"]) == (0, 100)
    guides = [found.sel(group="guide") for found in (plain, averaging)]
    assert float(guides[1].variance_high) < float(guides[0].variance_low)
    assert not list(pyro.get_param_store().keys())


def test_gradients_of_the_parameters_are_left_as_they_were():
    model, guide, x = odd_pairs.make("tied")
    svi = SVI(model, guide, SGD({"lr": 1e-3}), Trace_ELBO())
    svi.step(x)
    leaf = guide.encoder.weight
    leaf.grad = torch.ones_like(leaf)
    gradient_statistics(model, guide, x, elbo=Reinforce(), draws=100)
    assert torch.equal(leaf.grad, torch.ones_like(leaf))
    pyro.clear_param_store()
