"""What people get wrong with shared latents, and the sentence that ``check`` and ``bounds`` have for it."""

import re
import warnings

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer.autoguide import AutoNormal
from sharing import DATA, SCHOOLS, SIZE, WIDTH, fixed_guide, guide_of, regression

from ppl_vae import InputError, bounds, check


@pytest.fixture(autouse=True)
def fresh():
    pyro.clear_param_store()
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        yield


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
    weights = pyro.sample("weights", dist.Normal(torch.zeros(WIDTH), 1.0).to_event(1))
    with pyro.plate("data", len(x)):
        pyro.sample("y", dist.Normal(x @ weights, 1.0))


def wrong_schools(y, sigma):
    """Has an error of its own on all rows, and another one, of its plate, on a few."""
    with pyro.plate("schools", 8):
        theta = pyro.sample("theta", dist.Normal(y, 5.0))
    with pyro.plate("others", 8):
        pyro.sample("obs", dist.Normal(theta, sigma[:3]), obs=y)


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
        r"AutoNormal draws continuous latents only, .* 'which' is discrete: .*\(poutine.block\(model, hide=\['w",
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
        r"\(8\) must match .* \(3\)|\[8\] .*\[3\]",
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
