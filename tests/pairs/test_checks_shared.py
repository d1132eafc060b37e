"""``check`` on pairs with shared latents, plates of any name and length, and autoguides."""

import re
import warnings

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer.autoguide import AutoDelta, AutoLaplaceApproximation, AutoMultivariateNormal, AutoNormal
from pyro.nn import PyroModule, PyroSample
from torch import nn
from torch.distributions import constraints

from ppl_vae import InputError, bounds, check

SIZE, WIDTH = 12, 3
torch.manual_seed(0)
INPUTS = torch.randn(SIZE, WIDTH)
Y = INPUTS @ torch.tensor([1.0, -2.0, 0.5]) + torch.randn(SIZE)
LOG_EVIDENCE = float(dist.MultivariateNormal(torch.zeros(SIZE), torch.eye(SIZE) + INPUTS @ INPUTS.T).log_prob(Y))
EFFECTS = torch.tensor([28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0])
ERRORS = torch.tensor([15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0])


@pytest.fixture(autouse=True)
def fresh():
    pyro.clear_param_store()
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        yield


def regression(event=1, name="data", likelihood=None, dim=-1, size=None):
    """Bayesian linear regression, with one thing changed."""

    def model(x, y):
        prior = dist.Normal(torch.zeros(WIDTH), 1.0)
        weights = pyro.sample("weights", prior.to_event(event))
        if name is None:
            pyro.sample("y", dist.Normal(x @ weights, 1.0), obs=y)
            return
        with pyro.plate(name, size or len(x), dim=dim):
            mean = (x @ weights).reshape(len(x), *[1] * (-1 - dim))
            pyro.sample("y", (likelihood or dist.Normal)(mean, 1.0), obs=y.reshape(mean.shape))

    return model


def guide_of(event=1, scale=0.3, constraint=constraints.real):
    def guide(x, y):
        loc = pyro.param("loc", torch.zeros(WIDTH))
        width = pyro.param("scale", torch.full((WIDTH,), scale), constraint=constraint)
        pyro.sample("weights", dist.Normal(loc, width).to_event(event))

    return guide


def schools(y, sigma):
    mu = pyro.sample("mu", dist.Normal(0.0, 5.0))
    tau = pyro.sample("tau", dist.HalfCauchy(5.0))
    with pyro.plate("schools", 8):
        theta = pyro.sample("theta", dist.Normal(mu, tau))
        pyro.sample("obs", dist.Normal(theta, sigma), obs=y)


def schools_guide(y, sigma):
    loc = pyro.param("loc", torch.zeros(10))
    scale = pyro.param("scale", torch.ones(10), constraint=constraints.positive)
    pyro.sample("mu", dist.Normal(loc[0], scale[0]))
    pyro.sample("tau", dist.LogNormal(loc[1], scale[1]))
    with pyro.plate("schools", 8):
        pyro.sample("theta", dist.Normal(loc[2:], scale[2:]))


def fixed(y, sigma):
    with pyro.plate("schools", 8):
        theta = pyro.sample("theta", dist.Normal(0.0, 5.0))
        pyro.sample("obs", dist.Normal(theta, sigma), obs=y)


def fixed_guide(y, sigma):
    loc = pyro.param("loc", torch.zeros(8))
    with pyro.plate("schools", 8):
        pyro.sample("theta", dist.Normal(loc, 1.0))


def set_up(auto, model, *data):
    guide = auto(model)
    guide(*data)
    return guide


def local(name, dim=-1):
    """A latent of each data point and one of all, in a plate of any name and dimension."""

    def model(x, y):
        scale = pyro.sample("scale", dist.LogNormal(0.0, 1.0))
        with pyro.plate(name, len(y), dim=dim):
            z = pyro.sample("z", dist.Normal(0.0, scale))
            pyro.sample("y", dist.Normal(z, 1.0), obs=y if dim == -1 else y[:, None])

    def guide(x, y):
        pyro.sample("scale", dist.LogNormal(pyro.param("loc", torch.zeros(())), 1.0))
        loc = pyro.param("locs", torch.zeros(len(y)))
        with pyro.plate(name, len(y), dim=dim):
            pyro.sample("z", dist.Normal(loc if dim == -1 else loc[:, None], 1.0))

    return model, guide


def groups(x, y):
    with pyro.plate("features", WIDTH):
        weights = pyro.sample("weights", dist.Normal(0.0, 1.0))
    with pyro.plate("rows", len(x)):
        pyro.sample("y", dist.Normal(x @ weights, 1.0), obs=y)


def groups_guide(x, y):
    loc = pyro.param("loc", torch.zeros(WIDTH))
    with pyro.plate("features", WIDTH):
        pyro.sample("weights", dist.Normal(loc, 1.0))


def series(plate):
    def model(x, y):
        drift = pyro.sample("drift", dist.Normal(0.0, 1.0))
        z = torch.zeros(())
        for t in pyro.plate("time", 4) if plate else pyro.markov(range(4)):
            z = pyro.sample(f"z{t}", dist.Normal(z + drift, 1.0))
            pyro.sample(f"y{t}", dist.Normal(z, 1.0), obs=y[t])

    def guide(x, y):
        pyro.sample("drift", dist.Normal(pyro.param("drift_loc", torch.zeros(())), 1.0))
        loc = pyro.param("loc", torch.zeros(4))
        for t in pyro.plate("time", 4) if plate else pyro.markov(range(4)):
            pyro.sample(f"z{t}", dist.Normal(loc[t], 1.0))

    return model, guide


class Linear(PyroModule):
    """As in Pyro's tutorials: its layer takes no particles."""

    def __init__(self):
        super().__init__()
        self.linear = PyroModule[nn.Linear](WIDTH, 1)
        self.linear.weight = PyroSample(dist.Normal(0.0, 1.0).expand([1, WIDTH]).to_event(2))
        self.linear.bias = PyroSample(dist.Normal(0.0, 1.0).expand([1]).to_event(1))

    def forward(self, x, y=None):
        scale = pyro.sample("scale", dist.Uniform(0.0, 10.0))
        mean = self.linear(x).squeeze(-1)
        with pyro.plate("data", len(x)):
            pyro.sample("y", dist.Normal(mean, scale), obs=y)
        return mean


DATA, SCHOOLS = (INPUTS, Y), (EFFECTS, ERRORS)
SOUND = {
    "regression": lambda: (regression(), guide_of(), DATA),
    "undeclared": lambda: (regression(event=0), guide_of(event=0), DATA),
    "another name": lambda: (regression(name="batch"), guide_of(), DATA),
    "dim=-2": lambda: (regression(dim=-2), guide_of(), DATA),
    "a fixed length": lambda: (regression(size=SIZE), guide_of(), DATA),
    "schools": lambda: (schools, schools_guide, SCHOOLS),
    "fixed": lambda: (fixed, fixed_guide, SCHOOLS),
    "local": lambda: (*local("data"), DATA),
    "local, another name": lambda: (*local("batch"), DATA),
    "local, dim=-2": lambda: (*local("batch", -2), DATA),
    "groups": lambda: (groups, groups_guide, DATA),
    "plate in sequence": lambda: (*series(True), DATA),
    "markov": lambda: (*series(False), DATA),
}
AUTO = {
    "schools": (schools, SCHOOLS),
    "fixed": (fixed, SCHOOLS),
    "linear": (Linear(), DATA),
    "local": (local("batch")[0], DATA),
    "groups": (groups, DATA),
}


@pytest.mark.parametrize("kind", SOUND)
def test_sound_pairs_have_no_mistake(kind):
    model, guide, data = SOUND[kind]()
    assert check(model, guide, data) == []
    assert len(pyro.get_param_store()) == 0
    found = bounds(model, guide, data, particles=4)
    assert found.elbo.notnull().all()


@pytest.mark.parametrize("auto", [AutoNormal, AutoMultivariateNormal, AutoDelta, AutoLaplaceApproximation])
@pytest.mark.parametrize("kind", AUTO)
def test_autoguides_have_no_mistake_set_up_or_not(kind, auto):
    model, data = AUTO[kind]
    assert check(model, auto(model), data) == []
    assert check(model, set_up(auto, model, *data), data) == []


@pytest.mark.parametrize("event", [0, 1])
def test_a_vector_outside_of_all_plates_counts_as_a_whole(event):
    """The bound is the evidence of the regression, its latents declared as an event or not."""
    pyro.set_rng_seed(0)
    pyro.param("loc", torch.linalg.solve(torch.eye(WIDTH) + INPUTS.T @ INPUTS, INPUTS.T @ Y))
    found = bounds(regression(event=event), guide_of(event=event), DATA, particles=4000)
    assert float(found.iwelbo.sel(K=1000)[0]) == pytest.approx(LOG_EVIDENCE, abs=0.3)


def mixture(x, y):
    weights = pyro.sample("weights", dist.Dirichlet(torch.ones(2)))
    with pyro.plate("data", len(x)):
        which = pyro.sample("which", dist.Categorical(weights), infer={"enumerate": "parallel"})
        pyro.sample("y", dist.Normal(which.float(), 1.0), obs=y)


def forgotten(x, y):
    scale = pyro.sample("scale", dist.LogNormal(0.0, 1.0))
    z = pyro.sample("z", dist.Normal(torch.zeros(len(x)), scale))
    with pyro.plate("data", len(x)):
        pyro.sample("y", dist.Normal(z, 1.0), obs=y)


def unobserved(x, y):
    regression()(x, None)


def wrong_schools(y, sigma):
    """Sums over the schools, but for a width that does not fit: with a few rows its plate would fail before."""
    with pyro.plate("schools", 8):
        pyro.sample("theta", dist.Normal(0.0, 5.0))
    pyro.sample("obs", dist.Normal(y @ torch.zeros(8, 2), sigma[:3]).to_event(1), obs=y[:2])


def two_plates(x, y):
    with pyro.plate("first", len(x), dim=-2), pyro.plate("second", len(x)):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        pyro.sample("y", dist.Normal(z, 1.0), obs=y.expand(len(x), -1))


def two_plates_guide(x, y):
    loc = pyro.param("loc", torch.zeros(()))
    with pyro.plate("first", len(x), dim=-2), pyro.plate("second", len(x)):
        pyro.sample("z", dist.Normal(loc.expand(len(x), len(x)), 1.0))


def flat(x, y):
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(torch.zeros(WIDTH), 1.0).to_event(1))
        pyro.sample("y", dist.Normal(z.reshape(-1, WIDTH).sum(-1), 1.0), obs=y)


def flat_guide(x, y):
    loc = pyro.param("loc", torch.zeros(WIDTH))
    with pyro.plate("data", len(x)):
        pyro.sample("z", dist.Normal(loc.expand(len(x), WIDTH), 1.0).to_event(1))


MISTAKES = {
    "no plate": (
        regression(name=None),
        guide_of(),
        DATA,
        r"model's site 'y' lies outside the plate 'data', .*len\(x\)",
    ),
    "a latent in no plate": (forgotten, AutoNormal(forgotten), DATA, "model's site 'z' lies outside the plate 'data'"),
    "another length": (regression(size=5), guide_of(), DATA, "plate 'data' .5 against 12.: .* make the plate as long"),
    "no event in the data": (
        regression(likelihood=lambda mean, scale: dist.Normal(mean[:, None].expand(-1, 2), scale)),
        guide_of(),
        DATA,
        r"into the event by .to_event\(1\)",
    ),
    "a negative scale": (
        regression(),
        guide_of(scale=-1.0),
        DATA,
        "guide's log-density at 'weights' is NaN .* below 0 .pyro.param takes constraint=constraints.positive",
    ),
    "discrete latents": (
        mixture,
        AutoNormal(mixture),
        DATA,
        r"AutoNormal draws continuous latents only, .* 'which' is discrete: .*AutoNormal\(poutine.block\(model, hide=\['w",
    ),
    "obs missing": (unobserved, guide_of(), DATA, "the model observes nothing: give the data to a site by obs="),
    "obs missing, autoguide": (unobserved, AutoNormal(unobserved), DATA, "the model observes nothing: give the data"),
    "other arguments": (
        regression(),
        lambda x: guide_of()(x, None),
        DATA,
        "the guide can't be called with the data, 2 arguments .*: both programs are given the same ones",
    ),
    "latent missing": (regression(), lambda x, y: None, DATA, "the model's latent 'weights' is missing in the guide"),
    "an error of a fixed model": (
        wrong_schools,
        fixed_guide,
        SCHOOLS,
        "the pair fails with RuntimeError: The size of tensor|with RuntimeError: .*size|with ValueError",
    ),
    "two plates": (two_plates, two_plates_guide, DATA, "'first' and 'second' both have 12 .*, by plate='first'"),
    "no particles": (flat, flat_guide, DATA, "it runs one particle after the other, slowly; to run many at once keep"),
}


@pytest.mark.parametrize("kind", MISTAKES)
def test_each_mistake_has_its_sentence(kind):
    model, guide, data, message = MISTAKES[kind]
    lines = check(model, guide, data)
    assert re.search(message, lines[0]), lines
    assert all("\n" not in line for line in lines)
    assert len(lines) == len(set(lines))


@pytest.mark.parametrize("kind", [kind for kind in MISTAKES if kind not in ("no plate", "a latent in no plate")])
def test_bounds_tell_a_mistake_in_the_same_words(kind):
    model, guide, data, message = MISTAKES[kind]
    if kind == "no particles":
        assert bounds(model, guide, data, particles=4).elbo.shape == (SIZE,)
        return
    with pytest.raises(InputError, match=message):
        bounds(model, guide, data, particles=4)


def test_the_plate_can_be_named_where_it_cannot_be_told():
    assert check(two_plates, two_plates_guide, DATA, plate="first") == []
    (line,) = check(regression(), guide_of(), DATA, plate="rows")
    assert "there is no plate 'rows' in model and guide; their plates are ['data']" in line


def test_no_other_error_is_told_as_that_of_particles():
    """A model that takes no particles, and fails in some draws only."""
    calls = []

    def failing(x, y):
        flat(x, y)
        calls.append(len(x))
        if len(calls) == 6:
            raise ArithmeticError("now and then")

    with pytest.raises(ArithmeticError, match="now and then"):
        bounds(failing, flat_guide, DATA, particles=20)
