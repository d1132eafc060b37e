"""``check``: silent on every pair of the zoo, and one sentence with the mending for each usual mistake."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import TraceEnum_ELBO, TraceGraph_ELBO
from torch import nn
from zoo import ZOO, Case

from ppl_vae import bounds, check, fit, no_guide
from ppl_vae.guides import Amortized, Bernoulli
from ppl_vae.models import BernoulliVAE, GaussianMixture
from ppl_vae.programs import Guide, LatentVariableModel

SIZE, WIDTH = 6, 3
X = torch.randn(SIZE, WIDTH, generator=torch.Generator().manual_seed(0))


class Model(LatentVariableModel):
    def __init__(self):
        super().__init__(WIDTH)
        self.decoder = nn.Linear(WIDTH, WIDTH)

    def likelihood(self, z, *given):
        return dist.Normal(self.decoder(z), 1.0).to_event(1)


class Encoder(Guide):
    def __init__(self):
        super().__init__()
        self.encoder = nn.Linear(WIDTH, WIDTH)

    def posterior(self, x, *given):
        return dist.Normal(self.encoder(x), 1.0).to_event(1)


def program(*, name="z", event=1, inside=True, size=None, observe=True, scale=1.0, likelihood=None):
    """A model as a function, with one thing wrong."""

    def body(x):
        z = pyro.sample(name, dist.Normal(torch.zeros(WIDTH), scale).to_event(event)) if inside else None
        if z is None:
            z = torch.zeros(len(x), WIDTH)
        density = likelihood(z) if likelihood else dist.Normal(z, 1.0).to_event(1)
        pyro.sample("x", density, obs=x if observe else None)

    def model(x):
        if not inside:
            pyro.sample(name, dist.Normal(torch.zeros(WIDTH), scale).to_event(event))
        with pyro.plate("data", size or len(x)):
            body(x)

    return model


def guide_of(name="z", event=1, inside=True):
    def guide(x):
        if not inside:
            pyro.sample(name, dist.Normal(torch.zeros(WIDTH), 1.0).to_event(event))
            return
        with pyro.plate("data", len(x)):
            pyro.sample(name, dist.Normal(x, 1.0).to_event(event))

    return guide


class Flattens(Model):
    def likelihood(self, z, *given):
        return dist.Normal(self.decoder(z).reshape(-1, WIDTH), 1.0).to_event(1)


class FromTheLeft(Model):
    """Uses the first data point's z for all: right only while the first dimension is the batch."""

    def likelihood(self, z, *given):
        return dist.Normal(self.decoder(z - z.mean(0)), 1.0).to_event(1)


class Detaches(Encoder):
    def posterior(self, x, *given):
        return dist.Normal(self.encoder(x).detach(), 1.0).to_event(1)


class Unused(Model):
    def __init__(self):
        super().__init__()
        self.spare = nn.Linear(2, 2)


class BadGradient(Encoder):
    def posterior(self, x, *given):
        return dist.Normal(self.encoder(x * 0).sub(self.encoder.bias).abs().sqrt(), 1.0).to_event(1)


BITS = program(likelihood=lambda z: dist.Bernoulli(logits=z).to_event(1))
NANS = X.clone()
NANS[2, 1] = torch.nan
MISTAKES = {
    "latent missing in the guide": (program(name="u"), guide_of(), X, "latent 'u' is missing in the guide: sample it"),
    "latent missing in the model": (program(), guide_of(name="u"), X, "latent 'u' is missing in the model: sample it"),
    "no event in the guide": (program(), guide_of(event=0), X, "move it into the event by .to_event(1)"),
    "no event in the model": (
        program(event=0),
        guide_of(),
        X,
        "move it into the event by .to_event(1)",
    ),
    "plate of a fixed size": (program(size=SIZE), guide_of(), X, "make the plate as long as the batch, len(x)"),
    "nothing observed": (program(observe=False), guide_of(), X, "'x' is missing in the guide: sample it there, or obs"),
    "flattened": (Flattens(), Encoder(), X, "with a dimension of particles left of the batch"),
    "from the left": (FromTheLeft(), Encoder(), X, "site 'x' weighs otherwise with a dimension of particles left of"),
    "detached": (Model(), Detaches(), X, "guide.encoder.weight gets no gradient: it is not used, or detached"),
    "unused": (Unused(), Encoder(), X, "model.spare.weight gets no gradient"),
    "bad gradient": (Model(), BadGradient(), X, "the gradient of guide.encoder.weight has NaN or infinity"),
    "support": (BITS, guide_of(), X, "the support of the likelihood at 'x', "),
    "nan in the data": (program(), guide_of(), NANS, "NaN or infinity in 1 of 6 rows, first in row 2: drop or fill"),
    "nan in the density": (
        program(scale=torch.nan),
        guide_of(),
        X,
        "the model's log-density at 'z' is NaN or infinite",
    ),
    "an error of its own": (program(), lambda x: 1 / 0, X, "the pair fails with ZeroDivisionError: division by zero"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_each_mistake_has_its_sentence(mistake):
    model, guide, x, message = MISTAKES[mistake]
    state = torch.get_rng_state()
    found = check(model, guide, x)
    assert any(message in line for line in found), found
    assert all("\n" not in line for line in found)
    assert torch.equal(torch.get_rng_state(), state)


def test_a_latent_dimension_as_long_as_the_batch_is_told_apart():
    """With 3 data points and 3 latents the shapes fit by chance."""
    assert any(".to_event(1)" in line for line in check(program(), guide_of(event=0), X))


@pytest.mark.parametrize("case", [case for case in ZOO if case.source != "semi-amortized"], ids=str)
def test_sound_pairs_pass(case: Case):
    model, guide, batch = case.make()
    assert check(model, guide, batch) == []


class Based(Amortized):
    """A score function with a neural baseline, which the ELBO alone gives no gradient."""

    def __init__(self, particles=1):
        super().__init__(Bernoulli(3), 6, hidden=(8,))
        self.baseline, self.particles = nn.Linear(6, 1), particles

    def forward(self, x):
        shape = (self.particles, len(x)) if self.particles > 1 else (len(x),)
        options = {"baseline_value": self.baseline(x).squeeze(-1).expand(shape)}
        with pyro.plate("data", len(x)):
            pyro.sample("z", self.posterior(x), infer={"baseline": options})


def below(data, words):
    """A topic model's plates: words of a document in a plate of their own, left or right of the documents."""

    def model(x):
        with pyro.plate("data", len(x), dim=data):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            with pyro.plate("words", WIDTH, dim=words):
                pyro.sample("x", dist.Normal(z, 1.0), obs=x if data == -2 else x.T)

    def guide(x):
        loc = pyro.param("loc", torch.zeros(()))
        with pyro.plate("data", len(x), dim=data):
            pyro.sample("z", dist.Normal(loc + 0 * (x[:, :1] if data == -2 else x[:, 0]), 0.5))

    return model, guide


def sequential(x):
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        for word in pyro.plate("words", WIDTH):
            pyro.sample(f"x{word}", dist.Normal(z, 1.0), obs=x[:, word])


def topics(x):
    words = (x > 0).long()
    with pyro.plate("data", len(x), dim=-2):
        share = pyro.sample("share", dist.Dirichlet(torch.ones(2)))
        with pyro.plate("words", WIDTH, dim=-1):
            pyro.sample("x", dist.Categorical(share), obs=words)


def topics_guide(x):
    counts = pyro.param("counts", torch.ones(2), constraint=dist.constraints.positive)
    with pyro.plate("data", len(x), dim=-2):
        pyro.sample("share", dist.Dirichlet(counts.expand(len(x), 1, 2)))


PLATES = {
    "words right": below(-2, -1),
    "words left": below(-1, -2),
    "words in sequence": (sequential, below(-1, -2)[1]),
    "topics": (topics, topics_guide),
}


@pytest.mark.parametrize("kind", PLATES)
def test_plates_below_the_data_are_no_mistake(kind):
    pyro.clear_param_store()
    model, guide = PLATES[kind]
    assert check(model, guide, X) == []
    assert bounds(model, guide, X, particles=10).elbo.shape == (SIZE,)


def test_dimensions_in_no_plate_are_still_a_mistake():
    model, _ = below(-2, -1)

    def loose(x):
        with pyro.plate("data", len(x), dim=-2):
            pyro.sample("z", dist.Normal(torch.zeros(len(x), 2), 0.5))

    assert any("to_event(1)" in line for line in check(model, loose, X))


def classes(expands):
    """A latent class in the guide, which TraceEnum_ELBO enumerates: its values then have shape (3, 1, 3)."""
    torch.manual_seed(0)
    classify, encode = nn.Linear(WIDTH, 3), nn.Linear(WIDTH + 3, WIDTH)

    def model(x):
        with pyro.plate("data", len(x)):
            which = pyro.sample("which", dist.OneHotCategorical(torch.ones(3)))
            z = pyro.sample("z", dist.Normal(torch.zeros(WIDTH), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(z + which.sum(-1, keepdim=True), 1.0).to_event(1), obs=x)

    def guide(x):
        pyro.module("classify", classify), pyro.module("encode", encode)
        with pyro.plate("data", len(x)):
            options = {"enumerate": "parallel"}
            which = pyro.sample("which", dist.OneHotCategorical(logits=classify(x)), infer=options)
            shape = torch.broadcast_shapes(x.shape[:-1], which.shape[:-1]) if expands else which.shape[:-1]
            both = torch.cat([x.expand(*shape, WIDTH), which.expand(*shape, 3)], -1)
            pyro.sample("z", dist.Normal(encode(both), 1.0).to_event(1))

    return model, guide


def test_what_fails_once_it_is_enumerated_is_told():
    """Particles broadcast here, the values of an enumerated latent do not: the guide spreads x to their shape."""
    model, guide = classes(expands=False)
    (line,) = check(model, guide, X)
    assert "the pair fails once its latents are enumerated" in line
    assert "let everything broadcast" in line
    pyro.clear_param_store()
    with pytest.raises(ValueError, match="fails once its latents are enumerated"):
        fit(model, guide, X, elbo=TraceEnum_ELBO(max_plate_nesting=1), epochs=1, progress=False)
    pyro.clear_param_store()
    model, guide = classes(expands=True)
    assert check(model, guide, X) == []
    fit(model, guide, X, elbo=TraceEnum_ELBO(max_plate_nesting=1), epochs=1, progress=False)


def test_latents_that_the_model_sums_out_need_no_guide():
    assert check(GaussianMixture(WIDTH, 2), no_guide, X) == []


def test_values_are_looked_at_in_all_rows():
    x = X.gt(0).float()
    x[5, 1] = 0.5  # the shapes are tried with the first rows
    (line,) = check(BITS, guide_of(), x)
    assert "the support of the likelihood at 'x'" in line


def test_a_baseline_is_in_use():
    x = torch.full((5, 6), 0.5).bernoulli()
    model, guide = BernoulliVAE(6, 3, hidden=(8,)), Based()
    assert check(model, guide, x) == []
    fit(model, guide, x, elbo=TraceGraph_ELBO(), epochs=2, progress=False)


def test_an_error_that_check_has_no_sentence_for_stays_itself():
    x = torch.full((5, 6), 0.5).bernoulli()
    with pytest.raises(ValueError, match=r"Expected baseline at site z to be \(5,\) instead got .*3, 5"):
        fit(BernoulliVAE(6, 3, hidden=(8,)), Based(3), x, elbo=TraceGraph_ELBO(), epochs=2, progress=False)
