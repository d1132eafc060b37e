"""A guide's own draws, their quality and their calibration, where the posterior is known exactly."""

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer.autoguide import AutoDelta, AutoNormal

from ppl_vae import posterior, posterior_quality, simulation_based_calibration
from ppl_vae.errors import InputError
from ppl_vae.guides import Amortized, Diagonal, ExactPosterior
from ppl_vae.models import VAE, EightSchools, LinearRegression

Z = 4.0  # standard errors: one in 16 000 is farther off by chance
DATA = LinearRegression.example_data()
MODEL = LinearRegression.for_data(*DATA)
SMALL = DATA[0][:20], DATA[1][:20, :2]


def exact_draws(count=4000, seed=7):
    torch.manual_seed(seed)
    return {"weights": MODEL.posterior(*DATA).sample((4, count // 4))}


class Scaled(ExactPosterior):
    """The exact posterior with its standard deviations times a factor."""

    def __init__(self, model, factor):
        super().__init__(model)
        self.factor = factor

    def posterior(self, x, *given):
        exact = super().posterior(x, *given)
        return dist.MultivariateNormal(exact.loc, scale_tril=self.factor * exact.scale_tril)


# draws and their quality


def test_the_draws_are_the_guides_own():
    found = posterior(MODEL, Scaled(MODEL, 3.0), DATA, draws=2000, chains=2, seed=0, progress=False)
    assert found.weights.dims == ("chain", "draw", "weights_dim_0")
    assert found.weights.shape == (2, 2000, 11)
    assert found.attrs == {"unit": "data set"}
    sd = found.weights.values.reshape(-1, 11).std(0)
    expected = 3 * MODEL.posterior(*DATA).covariance_matrix.diagonal().sqrt().numpy()
    np.testing.assert_allclose(np.log(sd / expected), 0, atol=Z / np.sqrt(2 * 4000))


def test_deterministic_values_are_those_of_their_draw():
    model = EightSchools()
    found = posterior(model, AutoNormal(model), EightSchools.example_data(), draws=30, seed=0, progress=False)
    assert found.theta.dims == ("chain", "draw", "data")
    np.testing.assert_allclose(found.theta, found.mu + found.tau * found.theta_raw, rtol=1e-5, atol=1e-6)


def test_latents_of_data_points_come_in_the_order_of_the_data():
    x = torch.bernoulli(torch.full((7, 16), 0.3))
    model, guide = VAE(16, 2), Amortized(Diagonal(2), 16)
    found = posterior(model, guide, x, draws=2000, seed=0, progress=False)
    assert found.z.dims == ("chain", "draw", "data", "z_dim_0")
    assert found.attrs == {"unit": "data point"}
    with torch.no_grad():
        family = guide.family(guide.params(x))
    off = (found.z.values[0].mean(0) - family.mean.numpy()) / family.stddev.numpy()
    assert np.abs(off).max() < Z / np.sqrt(2000)
    quality = posterior_quality(model, guide, x, reference=found, draws=100, progress=False)
    assert "khat" not in quality
    assert quality.sizes["parameter"] == 14


def test_the_exact_posterior_has_no_error():
    found = posterior_quality(MODEL, ExactPosterior(MODEL), DATA, reference=exact_draws(), seed=0, progress=False)
    assert (np.abs(found.mean_difference) < Z * found.mean_difference_se).all()
    assert (np.abs(found.log_sd_ratio) < Z * found.log_sd_ratio_se).all()
    assert (np.abs(found.corrected_mean_difference - found.mean_difference) < 1e-2).all()  # all weights are equal
    assert found.sliced_wasserstein < 2 * found.sliced_wasserstein_floor


def test_a_wide_guide_is_seen_and_corrected():
    found = posterior_quality(
        MODEL, Scaled(MODEL, 1.2), DATA, reference=exact_draws(), draws=4000, seed=0, progress=False
    )
    assert (np.abs(found.log_sd_ratio - np.log(1.2)) < Z * found.log_sd_ratio_se).all()
    assert found.khat < found.khat_threshold
    ratio = found.corrected_sd / found.reference_sd
    np.testing.assert_allclose(ratio, 1, atol=0.1)


def test_a_point_mass_is_compared_without_weights():
    found = posterior_quality(MODEL, AutoDelta(MODEL), DATA, reference=exact_draws(), draws=30, seed=0, progress=False)
    assert "khat" not in found
    assert np.isneginf(found.log_sd_ratio).all()


@pytest.mark.parametrize(("name", "value"), [("draws", 3), ("chains", 0)])
def test_too_few_are_refused(name, value):
    with pytest.raises(InputError, match=name):
        posterior(MODEL, ExactPosterior(MODEL), DATA, progress=False, **{name: value})


# calibration


def calibrated(make_guide, **options):
    model = LinearRegression(features=2)
    options = {"simulations": 25, "draws": 99, "progress": False} | options
    return simulation_based_calibration(model, make_guide, SMALL, **options)


def test_the_exact_posterior_is_calibrated_and_a_narrow_guide_is_not():
    exact, narrow = calibrated(ExactPosterior), calibrated(lambda model: Scaled(model, 0.1), simulations=20)
    assert (exact.uniformity_p_value > 1e-3).all()
    assert (exact.symmetry_p_value > 1e-3).all()
    assert exact.attrs == {"draws": 99, "simulations": 25, "failed": 0, "failure": ""}
    assert (narrow.uniformity_p_value < 0.01).all()
    assert (narrow.symmetry_p_value > 1e-3).all()  # it is not biased


def test_a_seed_gives_the_same_numbers_and_leaves_the_others_alone():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    first, second = (calibrated(ExactPosterior, simulations=10, seed=3) for _ in range(2))
    assert torch.equal(torch.get_rng_state(), before)
    np.testing.assert_array_equal(first.p, second.p)


def test_each_guide_is_fitted_to_its_own_data_and_the_model_stays():
    def model(x):
        mean = pyro.sample("mean", dist.Normal(torch.tensor(0.0), 1.0))
        pyro.deterministic("double", 2 * mean)
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(mean, 1.0), obs=x)

    def guide(x):
        loc = pyro.param("loc", torch.tensor(0.0))
        pyro.sample("mean", dist.Normal(loc, 1 / 3))

    options = {"simulations": 10, "draws": 50, "epochs": 40, "lr": 0.1, "capture": False, "progress": False}
    found = simulation_based_calibration(model, lambda fixed: guide, torch.zeros(8), **options)
    assert sorted(found.parameter.values) == ["double", "mean"]
    np.testing.assert_array_equal(found.p.sel(parameter="mean"), found.p.sel(parameter="double"))
    assert (found.uniformity_p_value > 1e-3).all()
    assert not list(pyro.get_param_store())


def test_simulations_whose_fit_fails_are_counted():
    numbers = iter(range(100))

    def make_guide(model):
        if next(numbers) % 4 == 0:
            raise InputError("the ELBO is not finite any more")
        return ExactPosterior(model)

    found = calibrated(make_guide, simulations=14)
    assert (found.attrs["failed"], found.sizes["simulation"]) == (4, 10)
    assert found.attrs["failure"] == "the ELBO is not finite any more"


def test_nothing_but_failures_is_a_mistake():
    def make_guide(model):
        raise InputError("no such guide")

    with pytest.raises(InputError, match="first 10 simulations have all failed: no such guide"):
        calibrated(make_guide)


def test_a_function_with_parameters_is_refused():
    def model(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(pyro.param("loc", torch.zeros(())), 1.0))
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    with pytest.raises(InputError, match="make it a PyroModule"):
        simulation_based_calibration(model, AutoDelta, torch.zeros(5), progress=False)
