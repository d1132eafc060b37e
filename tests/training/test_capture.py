"""Captured training: the same numbers as uncaptured, fresh noise."""

import warnings
from functools import partial

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import (
    RenyiELBO,
    ReweightedWakeSleep,
    Trace_ELBO,
    TraceEnum_ELBO,
    TraceGraph_ELBO,
    TraceMeanField_ELBO,
    TraceTMC_ELBO,
)
from pyro.infer.autoguide import AutoNormal
from pyro.nn import PyroModule, PyroSample
from torch import nn
from twice import OBSERVED, bits, both, pair, state
from zoo import EACH_ONCE, Case

from ppl_vae import fit, freeze
from ppl_vae.estimators import IWAE, RELAX, DReG, NeuralBaseline, RunningMean, ScoreFunction, StickingTheLanding
from ppl_vae.graphs.simplifying import simplify
from ppl_vae.guides import Amortized, Diagonal
from ppl_vae.models import VAE
from ppl_vae.pairs.restore import local_parameters
from ppl_vae.training.capture import CaptureWarning, Step
from ppl_vae.training.gradients import Gradients


@pytest.mark.parametrize(
    "case", [case for case in EACH_ONCE if any(True for part in case.make()[:2] for _ in part.parameters())], ids=str
)
def test_captured_is_uncaptured(case: Case):
    plain, captured = both(case.make, Trace_ELBO, batch_size=5)
    torch.testing.assert_close(captured[0], plain[0], rtol=1e-9, atol=1e-11)
    assert captured[1] == pytest.approx(plain[1], rel=1e-9)
    assert len(captured[2]) == (case.source == "per-datapoint")


@pytest.mark.parametrize("case", [Case("vae", "diagonal"), Case("conditional-vae", "low-rank")], ids=str)
def test_a_short_last_batch_has_a_graph_of_its_own(case: Case):
    """Batches of 3 of 5 rows."""
    plain, captured = both(case.make, Trace_ELBO)
    torch.testing.assert_close(captured[0], plain[0], rtol=1e-9, atol=1e-11)
    assert captured[1] == pytest.approx(plain[1], rel=1e-9)
    assert not captured[2]


@pytest.mark.parametrize(
    ("elbo", "family"),
    [
        (TraceMeanField_ELBO, "diagonal"),
        (TraceMeanField_ELBO, "low-rank"),
        (StickingTheLanding, "full"),
        (StickingTheLanding, "unit"),
        (lambda: IWAE(4), "mixture"),
        (lambda: DReG(3), "fixed-scale"),
        (lambda: DReG(3), "diagonal"),
    ],
)
def test_other_estimators_are_captured_too(elbo, family):
    plain, captured = both(Case("vae", family).make, elbo, batch_size=5)
    torch.testing.assert_close(captured[0], plain[0], rtol=1e-9, atol=1e-11)
    assert not captured[2]


@pytest.mark.parametrize("elbo", [lambda: RunningMean(2), lambda: NeuralBaseline(2), RELAX])
def test_estimators_that_learn_are_captured_too(elbo):
    plain, captured = both(bits, elbo, epochs=10)
    torch.testing.assert_close(captured[0], plain[0], rtol=1e-4, atol=1e-5)
    assert not captured[2]


class Regression(PyroModule):
    """Weights that all the data share, with priors that were made while validation was on."""

    def __init__(self):
        super().__init__()
        self.linear = PyroModule[nn.Linear](3, 1)
        self.linear.weight = PyroSample(dist.Normal(0.0, 1.0).expand([1, 3]).to_event(2))

    def forward(self, x, y):
        scale = pyro.sample("scale", dist.LogNormal(0.0, 1.0))
        mean = self.linear(x).squeeze(-1)
        with pyro.plate("data", 21, subsample=x):
            pyro.sample("y", dist.Normal(mean, scale), obs=y)


def regression():
    torch.manual_seed(0)
    x = torch.randn(7, 3)
    model = Regression()
    return model, AutoNormal(model), (x, x.sum(-1))


class Beta(VAE):
    """A tempered divergence, a particle's own scale, and a mask."""

    def forward(self, x):
        with poutine.scale(scale=0.5), pyro.plate("data", len(x)):
            z = pyro.sample("z", self.prior())
            with poutine.mask(mask=torch.arange(len(x)) > 0), poutine.scale(scale=2.0):
                pyro.sample("x", self.likelihood(z), obs=x)


def tempered():
    model, guide, x = pair()
    beta = Beta(OBSERVED, 2, decoder=model.decoder)
    return beta, poutine.scale(guide, scale=0.5), x


@pytest.mark.parametrize(
    ("make", "particles", "elbo"),
    [(regression, 1, Trace_ELBO), (tempered, 1, TraceMeanField_ELBO), (tempered, 3, Trace_ELBO)],
)
def test_shared_latents_scales_and_subsampled_plates_are_captured(make, particles, elbo):
    plain, captured = both(make, lambda: elbo(particles, vectorize_particles=True), epochs=20, batch_size=7)
    torch.testing.assert_close(captured[0], plain[0], rtol=1e-4, atol=1e-6)
    assert captured[1] == pytest.approx(plain[1], rel=1e-4)
    assert not captured[2]


def chained():
    """Two latents without a gradient, one given the other: each has costs of its own downstream."""
    torch.manual_seed(0)
    x = torch.ones(7, OBSERVED).mul(0.5).bernoulli()
    decoder, second = nn.Linear(3, OBSERVED), nn.Linear(3, 3)
    encoder, baseline = nn.Linear(OBSERVED, 6), nn.Linear(OBSERVED, 1)

    class Model(PyroModule):
        def __init__(self):
            super().__init__()
            self.decoder, self.second = decoder, second

        def forward(self, x):
            with pyro.plate("data", len(x)):
                a = pyro.sample("a", dist.Bernoulli(torch.full((3,), 0.4)).to_event(1))
                b = pyro.sample("b", dist.Bernoulli(logits=self.second(a)).to_event(1))
                pyro.sample("x", dist.Bernoulli(logits=self.decoder(b)).to_event(1), obs=x)

    class Backwards(PyroModule):
        def __init__(self):
            super().__init__()
            self.encoder, self.baseline = encoder, baseline

        def forward(self, x):
            for_a, for_b = self.encoder(x).chunk(2, -1)
            with pyro.plate("data", len(x)):
                options = {"baseline": {"baseline_value": self.baseline(x).squeeze(-1)}}
                b = pyro.sample("b", dist.Bernoulli(logits=for_b).to_event(1), infer=options)
                pyro.sample("a", dist.Bernoulli(logits=for_a + b).to_event(1))

    return Model(), Backwards(), x


def enumerated(sharp=1.0):
    """A category that the guide sums over, some of its probabilities zero where it is sharp, and a draw given it."""
    torch.manual_seed(0)
    x = torch.randn(7, 2)
    network = nn.Linear(2, 3)
    network.weight.data *= sharp

    class Model(PyroModule):
        def __init__(self):
            super().__init__()
            self.locs = nn.Parameter(torch.randn(3, 2))

        def forward(self, x):
            with pyro.plate("data", len(x)):
                kind = pyro.sample("kind", dist.Categorical(torch.ones(3) / 3))
                z = pyro.sample("z", dist.Normal(0.0, 1.0))
                pyro.sample("x", dist.Normal(self.locs[kind] + z[..., None], 0.5).to_event(1), obs=x)

    class Summing(PyroModule):
        def __init__(self):
            super().__init__()
            self.network, self.loc = network, nn.Parameter(torch.zeros(3))

        def forward(self, x):
            with pyro.plate("data", len(x)):
                q = dist.Categorical(logits=self.network(x))
                kind = pyro.sample("kind", q, infer={"enumerate": "parallel"})
                pyro.sample("z", dist.Normal(self.loc[kind], 0.5))

    return Model(), Summing(), x


@pytest.mark.parametrize(
    ("make", "elbo"),
    [
        (bits, TraceGraph_ELBO),
        (chained, Trace_ELBO),
        (chained, TraceGraph_ELBO),
        (tempered, lambda: TraceGraph_ELBO(3, vectorize_particles=True, max_plate_nesting=1)),
        (tempered, TraceGraph_ELBO),
        (enumerated, lambda: TraceEnum_ELBO(max_plate_nesting=1)),
        (partial(enumerated, 1000.0), lambda: TraceEnum_ELBO(max_plate_nesting=1)),
        (bits, lambda: ScoreFunction(2, vectorize_particles=True, max_plate_nesting=1)),
        (pair, lambda: RenyiELBO(alpha=0.5, num_particles=2)),
        (pair, lambda: RenyiELBO(alpha=0, num_particles=3, vectorize_particles=True, max_plate_nesting=1)),
        (bits, lambda: ReweightedWakeSleep(num_particles=2, max_plate_nesting=1)),
        (pair, lambda: TraceTMC_ELBO(max_plate_nesting=1)),
    ],
)
def test_score_functions_enumeration_and_other_bounds_are_captured(make, elbo):
    plain, captured = both(make, elbo, epochs=20, batch_size=7)
    torch.testing.assert_close(captured[0], plain[0], rtol=1e-4, atol=1e-6)
    assert captured[1] == pytest.approx(plain[1], rel=1e-4)
    assert not captured[2]


def test_many_particles_and_binarized_data():
    elbo = lambda: Trace_ELBO(num_particles=3, vectorize_particles=True, max_plate_nesting=1)  # noqa: E731
    plain, captured = both(pair, elbo, torch.bernoulli, epochs=10)
    torch.testing.assert_close(captured[0], plain[0], rtol=1e-4, atol=1e-6)
    assert not captured[2]


def test_particles_one_by_one_have_the_same_distribution():
    """The graph draws them at once, so the noise comes in another order."""

    def gradients(capture):
        torch.manual_seed(0)
        model, guide, x = pair()
        elbo = Trace_ELBO(num_particles=2)
        leaves = [*model.parameters(), *guide.parameters()]
        found = []

        def anchored(*args):
            pyro.param("anchor", torch.zeros(()))  # Pyro takes gradients where a trace has a parameter
            return guide(*args)

        step = Step(Gradients(elbo, model, anchored, leaves, [model, guide]), capture, 1000)
        with local_parameters(model, guide):
            for number in range(400):
                step((x,), rare=False)
                if number > 2:
                    found.append(torch.cat([leaf.grad.flatten() for leaf in leaves]))
        assert not step.reason or not capture
        return torch.stack(found).double()

    one, two = gradients(False), gradients(True)
    error = (one.var(0) / len(one) + two.var(0) / len(two)).sqrt() + 1e-9
    assert ((one.mean(0) - two.mean(0)).abs() / error).max() < 4.5
    assert float(two.var(0).sum()) == pytest.approx(float(one.var(0).sum()), rel=0.2)


def test_the_noise_is_fresh_at_every_replay():
    model, guide, x = pair()
    leaves = list(guide.parameters())
    step = Step(Gradients(StickingTheLanding(), model, guide, leaves, [model, guide]), True, 10)
    with local_parameters(model, guide):
        losses = [float(step((x,), rare=False)) for _ in range(6)]
    assert not step.reason
    assert len(set(losses)) == 6


def test_a_frozen_model_stays_frozen():
    model, guide, x = pair()
    freeze(model)
    before = state(model)
    fit(model, guide, x, epochs=5, batch_size=3, progress=False, capture=True)
    assert torch.equal(state(model), before)
    assert all(leaf.grad is None for leaf in model.parameters())


class Normed(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(OBSERVED, 8), nn.BatchNorm1d(8), nn.Dropout(0.3), nn.ReLU(), nn.Linear(8, 4)
        )

    def forward(self, x):
        return self.layers(x)


def test_dropout_and_batch_norm_train_as_uncaptured():
    def make():
        model, _, x = pair()
        torch.manual_seed(1)
        return model, Amortized(Diagonal(2), encoder=Normed()), x

    plain, captured = both(make, Trace_ELBO, batch_size=7, epochs=10)
    torch.testing.assert_close(captured[0], plain[0], rtol=1e-4, atol=1e-6)
    assert not captured[2]
    model, guide, x = make()
    fit(model, guide, x, epochs=6, batch_size=7, progress=False, capture=True)
    assert int(guide.encoder.layers[1].num_batches_tracked) == 6 + 1  # and once to set up


def test_functions_with_parameters_in_the_store_are_captured():
    def model(x):
        scale = pyro.param("scale", torch.tensor(1.5), constraint=dist.constraints.positive)
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(0, 1))
            pyro.sample("x", dist.Normal(z, scale), obs=x)

    def guide(x):
        slope, width = pyro.param("slope", torch.tensor(0.1)), pyro.param("width", torch.tensor(0.0))
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(slope * x, width.exp()))

    found = []
    for capture in (False, True):
        pyro.clear_param_store()
        torch.manual_seed(0)
        with warnings.catch_warnings():
            warnings.simplefilter("error", CaptureWarning)
            fit(model, guide, 2 * torch.randn(20), epochs=30, batch_size=8, seed=0, progress=False, capture=capture)
        found.append([float(pyro.param(name)) for name in ("scale", "slope", "width")])
    assert found[0] == pytest.approx(found[1], rel=1e-5)
    assert found[0][0] != 1.5


def test_a_short_run_is_not_worth_a_graph(monkeypatch):
    def no(*_):
        raise AssertionError("traced")

    monkeypatch.setattr(Step, "_trace", no)
    model, guide, x = pair()
    fit(model, guide, x, epochs=3, progress=False)
    with pytest.raises(AssertionError, match="traced"):
        fit(model, guide, x, epochs=600, progress=False)


def test_a_graph_that_cannot_be_compiled_is_replayed(monkeypatch):
    def no(*_, **__):
        raise RuntimeError("No working C++ compiler found")

    monkeypatch.setattr("ppl_vae.graphs.engines.compiled_by_inductor", no)
    model, guide, x = pair()
    with pytest.warns(CaptureWarning, match="is replayed, not compiled: No working C"):
        history = fit(model, guide, x, epochs=20, progress=False, capture="compile")
    assert history.elbo[-1] > history.elbo[0]


def test_the_graph_loses_nodes_and_no_number():
    from torch.fx.experimental.proxy_tensor import make_fx

    weight = torch.randn(3, 3)

    def program(x):
        noise = torch.empty(3).normal_() + torch.empty(3).normal_()
        unused = torch.rand(2)  # its place in the order of random numbers counts
        y = (x @ weight.t().t()).expand(2, 3).reshape(2, 3) * torch.ones(2, 3) + torch.zeros(3)
        return (y / 1 + noise.neg().neg()) * (x @ weight), torch.rand(2), (x**2 + x**2).sum(), unused.shape[0]

    x = torch.randn(2, 3)
    graph = make_fx(lambda x: program(x)[:3])(x)
    before = len(graph.graph.nodes)
    for node in graph.graph.nodes:
        if node.op == "get_attr":
            node.meta |= {"constant": True, "val": getattr(graph, node.target)}
    torch.manual_seed(3)
    expected = graph(x)
    simplify(graph)
    torch.manual_seed(3)
    for one, two in zip(graph(x), expected, strict=True):
        assert torch.equal(one, two)
    assert len(graph.graph.nodes) < before - 7


def test_what_is_written_to_is_left_alone():
    from torch.fx.experimental.proxy_tensor import make_fx

    def program(x):
        counter = torch.zeros(3)
        view = counter[:2]
        view += x[:2]
        kept = torch.zeros(3)
        return counter * 1, kept + x, counter + torch.zeros(3)

    graph = make_fx(program)(torch.arange(3.0))
    simplify(graph)
    for x in (torch.arange(3.0), torch.ones(3)):
        for one, two in zip(graph(x), program(x), strict=True):
            assert torch.equal(one, two)
