"""Laws of the log-weights of Pyro's autoguides, on hierarchies and regressions: one weight of all the data."""

import math
from functools import partial

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.distributions.transforms import affine_autoregressive
from pyro.infer import autoguide as autoguides
from pyro.infer.autoguide import AutoDelta, AutoGuideList, AutoLaplaceApproximation, AutoMultivariateNormal, AutoNormal

from ppl_vae import annealed, bounds, fit, log_weights, tightness
from ppl_vae.models import EightSchools, LinearRegression
from ppl_vae.pairs.pair import Pair
from ppl_vae.pairs.traces import latent_sites

bounds = partial(bounds, progress=False)
PARTICLES = 5


def schools(x, sigma):
    """Eight schools as a plain function."""
    mu = pyro.sample("mu", dist.Normal(0.0, 5.0))
    tau = pyro.sample("tau", dist.HalfCauchy(5.0))
    with pyro.plate("J", len(x)):
        theta = pyro.sample("theta", dist.Normal(mu, tau))
        pyro.sample("x", dist.Normal(theta, sigma), obs=x)


def regression():
    x, inputs = LinearRegression.example_data()
    return LinearRegression(2), (x[:25], inputs[:25, 2:4].contiguous())


PAIRS = {
    "schools": lambda: (schools, EightSchools.example_data()),
    "EightSchools": lambda: (EightSchools(), EightSchools.example_data()),
    "LinearRegression": regression,
}


def listed(first, rest):
    """A guide of one latent, and another of the rest."""

    def make(model):
        whole = AutoGuideList(model)
        name = "weights" if isinstance(model, LinearRegression) else "mu"
        whole.append(first(poutine.block(model, expose=[name])))
        if name == "mu":
            whole.append(rest(poutine.block(model, hide=[name])))
        return whole

    return make


# by name: what makes the guide of a model, and whether its ELBO is a bound
GUIDES = {
    "AutoDelta": (AutoDelta, False),
    "AutoNormal": (AutoNormal, True),
    "AutoDiagonalNormal": (autoguides.AutoDiagonalNormal, True),
    "AutoLowRankMultivariateNormal": (autoguides.AutoLowRankMultivariateNormal, True),
    "AutoMultivariateNormal": (AutoMultivariateNormal, True),
    "AutoIAFNormal": (autoguides.AutoIAFNormal, True),
    "AutoNormalizingFlow": (
        lambda model: autoguides.AutoNormalizingFlow(model, lambda width: affine_autoregressive(width, [16])),
        True,
    ),
    "AutoStructured": (autoguides.AutoStructured, True),
    "AutoLaplaceApproximation": (AutoLaplaceApproximation, False),
    "list with a point mass": (listed(AutoDelta, AutoNormal), False),
    "list of two families": (listed(AutoNormal, AutoMultivariateNormal), True),
}
by_guide = pytest.mark.parametrize("guide", GUIDES)
by_pair = pytest.mark.parametrize("pair", PAIRS)


@pytest.fixture(autouse=True)
def _empty_store():
    pyro.clear_param_store()


def made(pair, guide, laplace=False):
    """A pair whose guide has never run, but for the Gaussian around a mode, which needs its mode."""
    torch.manual_seed(0)
    model, data = PAIRS[pair]()
    made = GUIDES[guide][0](model)
    if laplace:
        fit(model, made, data, epochs=300, lr=0.05, batch_size=len(data[0]), seed=0, progress=False)
        made = made.laplace_approximation(*data)
    return model, made, data


def by_pyro(model, guide, data):
    """log p(x, z) - log q(z) of one run, by Pyro's handlers alone."""
    with torch.no_grad():
        drawn = poutine.trace(guide).get_trace(*data)
        replayed = poutine.trace(poutine.replay(model, trace=drawn)).get_trace(*data)
        return float(replayed.log_prob_sum() - drawn.log_prob_sum())


@by_pair
@by_guide
def test_each_weight_is_that_of_a_run_by_pyro(pair, guide):
    model, own, data = made(pair, guide)
    ours = log_weights(model, own, data, particles=PARTICLES, seed=3).detach()
    assert ours.shape == (PARTICLES, 1)
    assert torch.equal(ours, log_weights(model, own, data, particles=PARTICLES, seed=3).detach())
    alone = torch.cat([log_weights(model, own, data, seed=seed).detach() for seed in range(3)])
    for seed in range(3):
        pyro.set_rng_seed(seed)
        theirs = by_pyro(model, own, data)
        torch.testing.assert_close(float(alone[seed]), theirs, rtol=1e-5, atol=1e-4)


@by_pair
@by_guide
def test_many_at_once_weigh_what_each_weighs_alone(pair, guide):
    """At the very draws of a vectorized run, handed to Pyro one by one."""
    model, own, data = made(pair, guide)
    whole = Pair(model, own, data)
    with whole.measuring(1):
        runs = whole.run(whole.rows(0, whole.size), PARTICLES)
        for run, particle in [(run, particle) for run in runs for particle in range(PARTICLES // len(runs))]:
            sites = latent_sites(run.guide)
            values = {site["name"]: whole._stacked(site, len(run.log_weights))[particle] for site in sites}
            held = poutine.Trace()
            for name, value in values.items():
                held.add_node(name, name=name, type="sample", value=value, is_observed=False, infer={})
            drawn = poutine.trace(poutine.replay(own, trace=held)).get_trace(*data)
            replayed = poutine.trace(poutine.replay(model, trace=drawn)).get_trace(*data)
            theirs = replayed.log_prob_sum() - drawn.log_prob_sum()
            torch.testing.assert_close(run.log_weights[particle, 0], theirs.double(), rtol=1e-4, atol=1e-3)


@by_pair
@by_guide
def test_a_point_mass_is_told_from_a_bound(pair, guide):
    model, own, data = made(pair, guide)
    measured = bounds(model, own, data, particles=20, seed=0)
    assert measured.attrs["is_bound"] == GUIDES[guide][1]
    assert bool(measured.khat.isnull().all()) != GUIDES[guide][1]
    assert float(measured.iwelbo[-1, 0]) >= float(measured.elbo[0]) - 1e-4


@pytest.mark.parametrize("pair", ["EightSchools", "LinearRegression"])  # the centered schools have no mode
def test_a_gaussian_around_a_mode_is_a_bound_once_it_is_made(pair):
    model, own, data = made(pair, "AutoLaplaceApproximation", laplace=True)
    assert bounds(model, own, data, particles=20, seed=0).attrs["is_bound"] == 1
    pyro.set_rng_seed(5)
    theirs = by_pyro(model, own, data)
    assert float(log_weights(model, own, data, seed=5)) == pytest.approx(theirs, abs=1e-3)


@by_guide
def test_measuring_leaves_guide_store_and_random_numbers_as_they_were(guide):
    model, own, data = made("EightSchools", guide)
    fit(model, own, data, epochs=2, batch_size=8, seed=0, progress=False)
    before = {name: value.clone() for name, value in own.state_dict().items()}
    store = {name: value.clone() for name, value in pyro.get_param_store().items()}
    state = torch.get_rng_state()
    tightness(model, own, data, particles=20, seed=4, progress=False)
    assert torch.equal(torch.get_rng_state(), state)
    assert {name: value.shape for name, value in own.state_dict().items()} == {
        name: value.shape for name, value in before.items()
    }
    assert all(torch.equal(value, before[name]) for name, value in own.state_dict().items())
    assert list(store) == list(pyro.get_param_store())
    assert all(torch.equal(value, pyro.param(name)) for name, value in store.items())


@pytest.mark.parametrize("guide", [name for name, (_, is_bound) in GUIDES.items() if is_bound])
def test_elbo_and_iwelbo_lie_below_the_exact_evidence_of_a_regression(guide):
    model, own, data = made("LinearRegression", guide)
    fit(model, own, data, epochs=150, lr=0.03, batch_size=25, seed=0, progress=False)
    exact = float(model.log_evidence(*data))
    measured = bounds(model, own, data, particles=500, curve=[1, 10, 500], seed=0)
    value, error = measured.iwelbo[:, 0].values, measured.iwelbo_se[:, 0].fillna(0.1).values
    assert (value < exact + 4 * error + 1e-3).all()
    assert value[0] < value[1] + 4 * error[0]
    assert abs(value[2] - exact) < 4 * error[2] + 0.01
    told = tightness(model, own, data, particles=50, seed=0, progress=False)
    assert float(told.log_evidence[0]) == pytest.approx(exact)
    estimate = annealed(model, own, data, steps=20, chains=16, seed=1, progress=False)
    spread = float(estimate.log_evidence_se[0])
    # of chains whose weights vary too much no error is told
    assert abs(float(estimate.log_evidence[0]) - exact) < (5 * spread + 1e-3 if math.isfinite(spread) else 0.5)


def test_a_gaussian_around_the_mode_is_the_posterior_of_a_regression():
    """The posterior is a Gaussian: once at the mode, every weight is the evidence."""
    model, own, data = made("LinearRegression", "AutoLaplaceApproximation")
    fit(model, own, data, epochs=400, lr=0.03, batch_size=25, seed=0, progress=False)
    gaussian = own.laplace_approximation(*data)
    ours = log_weights(model, gaussian, data, particles=50, seed=0).detach()
    assert (ours - model.log_evidence(*data)).abs().max() < 0.02
