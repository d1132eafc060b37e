"""What is measured where all the data share a latent: laws over the Bayesian models, and exact figures."""

import arviz as az
import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import Trace_ELBO
from pyro.infer.autoguide import AutoNormal

from ppl_vae import (
    InputError,
    annealed,
    bounds,
    compare,
    cooldown,
    fit,
    generalization,
    information,
    log_weights,
    posterior_predictive,
    refine,
    sandwich,
    tightness,
    to_arviz,
)
from ppl_vae.evidence import exact_evidence, quadrature
from ppl_vae.guides import AUTOGUIDES, ExactPosterior
from ppl_vae.models import BAYESIAN_MODELS, EightSchools, LinearRegression
from ppl_vae.pairs.pair import Pair

QUIET = {"progress": False, "seed": 0}
every_model = pytest.mark.parametrize("name", BAYESIAN_MODELS)
DATA = LinearRegression.example_data()
MODEL = LinearRegression.for_data(*DATA)
PRECISION = torch.linalg.inv(MODEL.posterior(*DATA).covariance_matrix.double())
MEAN_FIELD_GAP = float((PRECISION.diagonal().log().sum() - torch.logdet(PRECISION)) / 2)


def fitted(model, name, data, epochs=30, lr=0.02):
    guide = AUTOGUIDES[name](model)
    fit(model, guide, data, epochs=epochs, batch_size=len(data[0]), lr=lr, schedule=cooldown, **QUIET)
    return guide


@every_model
def test_the_bound_of_all_the_data_is_pyros_elbo_and_the_sum_of_its_parts(name):
    data = BAYESIAN_MODELS[name].example_data()
    model = BAYESIAN_MODELS[name].for_data(*data)
    guide = fitted(model, "auto-normal", data)
    weights = log_weights(model, guide, data, particles=7, seed=1)
    assert weights.shape == (7, 1)
    pyro.set_rng_seed(1)
    theirs = Trace_ELBO(num_particles=7, vectorize_particles=True, max_plate_nesting=1).differentiable_loss
    with pyro.settings.context(module_local_params=True), torch.no_grad():
        assert float(weights.mean()) == pytest.approx(-float(theirs(model, guide, *data)), rel=1e-4)
    measured = bounds(model, guide, data, particles=50, **QUIET)
    assert measured.attrs["unit"] == "data set"
    assert measured.sizes["point"] == len(data[0])
    parts = measured.elbo_shared.values + measured.elbo_by_point.values.sum()
    np.testing.assert_allclose(parts, measured.elbo.values, rtol=1e-4)
    assert np.isfinite(measured.iwelbo.values).all()


def test_gaps_of_a_regression_are_those_of_the_closed_form():
    exact = exact_evidence(MODEL, DATA, progress=False).log_evidence
    assert exact.sizes == {"data": 1}
    at_posterior = tightness(MODEL, ExactPosterior(MODEL), DATA, particles=100, **QUIET)
    assert float(abs(at_posterior.gap).max()) < 2e-3  # float32 sums over 442 rows
    assert at_posterior.attrs["evidence"] == "exact"
    guide = fitted(MODEL, "auto-normal", DATA, epochs=1500)
    best = refine(MODEL, guide, DATA, lr=0.02, steps=100, rounds=2, **QUIET)
    measured = tightness(MODEL, best, DATA, particles=10_000, curve=[1, 10_000], **QUIET)
    assert float(measured.gap[0]) == pytest.approx(MEAN_FIELD_GAP, abs=4 * float(measured.gap_se[0]))
    assert float(measured.gap_se[0]) < 0.05


def test_annealing_from_an_autoguide_finds_the_evidence_and_a_sandwich_holds_it():
    guide = fitted(MODEL, "auto-mvn", DATA, epochs=1000)
    run = annealed(MODEL, guide, DATA, steps=40, chains=16, leapfrog=4, **QUIET)
    error = float(np.hypot(run.log_evidence_se, run.log_evidence_bias)[0])
    assert float(run.log_evidence[0]) == pytest.approx(float(MODEL.log_evidence(*DATA)), abs=4 * error)
    assert error < 0.5
    model = LinearRegression(features=1)
    inputs = torch.linspace(-1, 1, 9)[:, None]
    simulated, sides = sandwich(model, (torch.zeros(9), inputs), steps=100, **QUIET)
    exact = float(model.log_evidence(*simulated))
    assert sides.sizes == {"data": 1}
    assert float(sides.lower[0]) - 4 * float(sides.lower_se[0]) < exact
    assert exact < float(sides.upper[0]) + 4 * float(sides.upper_se[0])
    on_a_grid = quadrature(model, simulated).log_evidence
    assert float(on_a_grid[0]) == pytest.approx(exact, abs=1e-3)


def coin_of_two_kinds(x):
    """One coin for all throws, fair or biased."""
    biased = pyro.sample("biased", dist.Bernoulli(0.3))
    with pyro.plate("data", len(x)):
        pyro.sample("x", dist.Bernoulli(0.5 + 0.4 * biased), obs=x)


def test_shared_discrete_latents_are_counted():
    x = torch.tensor([1.0, 1.0, 0.0, 1.0, 1.0, 1.0])
    ones, zeros = 5, 1
    exact = np.log(0.7 * 0.5**6 + 0.3 * 0.9**ones * 0.1**zeros)
    assert float(exact_evidence(coin_of_two_kinds, x, progress=False).log_evidence[0]) == pytest.approx(exact, abs=1e-5)


def test_what_belongs_to_data_points_is_left_out_or_refused():
    guide = fitted(MODEL, "auto-mvn", DATA)
    told = information(MODEL, guide, DATA, **QUIET)
    assert np.isnan(told.attrs["mutual_information"])
    assert float(told.rate[0]) > 0
    with pytest.raises(InputError, match="all the data share a latent, so that there is one log p"):
        generalization(MODEL, guide, DATA, held_out=DATA, particles=100, **QUIET)


def subsampled(x):
    mean = pyro.sample("mean", dist.Normal(0.0, 1.0))
    with pyro.plate("data", 1000, subsample=x):
        pyro.sample("x", dist.Normal(mean, 1.0), obs=x)


def by_itself(x):
    mean = pyro.sample("mean", dist.Normal(0.0, 1.0))
    with pyro.plate("data", len(x), subsample_size=50) as index:
        pyro.sample("x", dist.Normal(mean, 1.0), obs=x[index])


def guide_of_the_mean(x):
    pyro.sample("mean", dist.Normal(0.4, 0.1))


@pytest.mark.parametrize("model", [subsampled, by_itself])
def test_a_subsample_gives_the_elbo_within_its_error_and_no_more(model):
    numbers = torch.Generator().manual_seed(0)
    x = 0.5 + torch.randn(1000, generator=numbers)
    whole = float(bounds(subsampled, guide_of_the_mean, x, particles=2000, **QUIET).elbo[0])
    scores = []
    for seed in range(12):
        some = x[torch.randperm(1000, generator=numbers)[:50]] if model is subsampled else x
        measured = bounds(model, guide_of_the_mean, some, particles=100, progress=False, seed=seed)
        assert measured.K.values.tolist() == [1]
        assert np.isnan(measured.khat.values).all()
        scores.append(float((measured.elbo[0] - whole) / measured.elbo_se[0]))
    assert abs(np.mean(scores)) < 4 / np.sqrt(len(scores))
    assert 0.5 < np.std(scores) < 1.6
    told = r"the plate 'data' shows 0\.05 of its elements, of which .* can't be had.*: give all"
    with pytest.raises(InputError, match=told):
        bounds(model, guide_of_the_mean, some, particles=10, curve=[10], progress=False)
    for measure in (tightness, information, log_weights):
        with pytest.raises(InputError, match="give all the data"):
            measure(model, guide_of_the_mean, some, particles=10)
    with pytest.raises(InputError, match="give all the data"):
        annealed(model, guide_of_the_mean, some, steps=2, progress=False)


def square(x):
    with pyro.plate("rows", 5, dim=-2), pyro.plate("columns", 5, dim=-1):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        pyro.sample("x", dist.Normal(z, 1.0), obs=x)


def guide_of_the_square(x):
    with pyro.plate("rows", 5, dim=-2), pyro.plate("columns", 5, dim=-1):
        pyro.sample("z", dist.Normal(x / 2, 0.5**0.5))


def test_where_two_plates_may_hold_the_data_it_is_asked_which():
    x = torch.randn(5, 5, generator=torch.Generator().manual_seed(1))
    with pytest.raises(InputError, match=r"the plates 'columns' and 'rows' both have 5 elements.*by plate='columns'"):
        log_weights(square, guide_of_the_square, x)
    exact = dist.Normal(0.0, 2**0.5).log_prob(x)
    for plate, dim in (("rows", 1), ("columns", 0)):
        weights = log_weights(square, guide_of_the_square, x, particles=3, plate=plate)
        torch.testing.assert_close(weights, exact.sum(dim).expand(3, 5), rtol=0, atol=1e-5)
    told = r"there is no plate 'row' in model and guide; their plates are \['columns', 'rows'\]"
    with pytest.raises(InputError, match=told):
        log_weights(square, guide_of_the_square, x, plate="row")


def schools(x, sigma):
    mu = pyro.sample("mu", dist.Normal(0.0, 5.0))
    with pyro.plate("schools", 8):
        theta = pyro.sample("theta", dist.Normal(mu, 3.0))
        pyro.sample("x", dist.Normal(theta, sigma), obs=x)


def test_functions_are_compared_and_the_guides_stay_as_they_were():
    data = EightSchools.example_data()
    guides = {name: AUTOGUIDES[name](schools) for name in ("auto-normal", "auto-mvn", "auto-laplace", "auto-delta")}
    pyro.clear_param_store()
    result = compare(schools, guides, data, test=data, epochs=600, lr=0.1, schedule=cooldown, particles=500, **QUIET)
    assert not list(pyro.get_param_store())
    assert all(guide.prototype_trace is None for guide in guides.values())
    rows = {row.guide: row for row in result.rows}
    cov = torch.diag(data[1] ** 2 + 9.0) + 25.0
    exact = float(dist.MultivariateNormal(torch.zeros(8), cov).log_prob(data[0]))  # all is Gaussian
    assert rows["auto-laplace"].elbo == pytest.approx(exact, abs=0.01)
    for name in ("auto-normal", "auto-mvn"):
        assert rows[name].gap > -4 * rows[name].elbo_se
        assert exact - 3 < rows[name].elbo < exact + 4 * rows[name].elbo_se
    assert not rows["auto-delta"].is_bound
    assert result.bounds.attrs["unit"] == "data set"
    guide = AutoNormal(schools)  # what was copied still runs
    compare(schools, {"normal": guide}, data, test=data, epochs=1, particles=10, **QUIET)
    guide(*data)


def test_draws_go_to_arviz_with_all_their_groups():
    data = EightSchools.example_data()
    model = EightSchools()
    guide = fitted(model, "auto-mvn", data, epochs=500)
    drawn = posterior_predictive(model, guide, data, chains=2, draws=100, **QUIET)
    assert drawn.posterior.theta.dims == ("chain", "draw", "data")
    assert drawn.posterior.mu.dims == ("chain", "draw")
    again = drawn.posterior.mu + drawn.posterior.tau * drawn.posterior.theta_raw
    np.testing.assert_allclose(drawn.posterior.theta, again, rtol=1e-4, atol=1e-4)
    expected = dist.Normal(torch.as_tensor(drawn.posterior.theta.values), data[1]).log_prob(data[0])
    np.testing.assert_allclose(drawn.log_likelihood.x, expected, rtol=1e-4, atol=1e-4)
    noise = (drawn.posterior_predictive.x - drawn.posterior.theta).values / data[1].numpy()
    assert abs(noise.mean()) < 4 / noise.size**0.5
    assert noise.std() == pytest.approx(1, abs=4 / (2 * noise.size) ** 0.5)
    assert drawn.prior.mu.std() == pytest.approx(5, abs=4 * 5 / 400**0.5)
    np.testing.assert_allclose(drawn.observed_data.x, data[0])
    assert set(drawn.prior_predictive.data_vars) == {"x"}
    left_out = az.loo(drawn)
    assert -40 < float(left_out.elpd_loo if hasattr(left_out, "elpd_loo") else left_out.elpd) < -25
    assert "tau" in az.summary(to_arviz(model, guide, data, chains=2, draws=50, **QUIET)).index


def test_a_model_without_room_for_particles_is_run_one_by_one():
    def flat(x):
        weight = pyro.sample("weight", dist.Normal(torch.zeros(2), 1.0).to_event(1))
        loc = torch.nn.functional.linear(x[:, 1:], weight.reshape(1, 2))[:, 0]  # two numbers, whatever comes
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(loc, 1.0), obs=x[:, 0])

    x = torch.randn(6, 3, generator=torch.Generator().manual_seed(2))
    guide = fitted(flat, "auto-mvn", (x,), epochs=100)
    pair = Pair(flat, guide, x)
    assert not pair.vectorized
    cov = x[:, 1:] @ x[:, 1:].T + torch.eye(6)
    exact = float(dist.MultivariateNormal(torch.zeros(6), cov).log_prob(x[:, 0]))
    measured = bounds(flat, guide, x, particles=400, **QUIET)
    assert float(measured.iwelbo[-1, 0]) == pytest.approx(exact, abs=4 * float(measured.iwelbo_se[-1, 0]) + 0.01)
    run = annealed(flat, guide, x, steps=10, chains=8, leapfrog=3, **QUIET)
    assert float(run.log_evidence[0]) == pytest.approx(exact, abs=4 * float(run.log_evidence_se[0]) + 0.01)
