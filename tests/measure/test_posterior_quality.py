"""A guide's draws against a reference's, where the answer is known."""

import math

import arviz
import numpy as np
import pytest
import torch
import xarray as xr

from ppl_vae.errors import InputError
from ppl_vae.measure.draws import components, posterior_draws
from ppl_vae.measure.posterior_quality import compare_draws, sliced_wasserstein

Z = 4.0  # standard errors: one in 16 000 is farther off by chance


def normal(seed, mean=0.0, sd=1.0, chains=4, draws=1000, size=()):
    return np.random.default_rng(seed).normal(mean, sd, (chains, draws, *size))


def autoregressive(seed, rho, chains=4, draws=1000):
    """Chains whose stationary distribution is N(0, 1)."""
    noise = np.random.default_rng(seed).normal(size=(chains, draws))
    values = [noise[:, 0]]
    for step in range(1, draws):
        values.append(rho * values[-1] + math.sqrt(1 - rho**2) * noise[:, step])
    return np.stack(values, axis=1)


# what draws may come in


def test_mapping_dataset_and_arviz_data_give_the_same():
    arrays = {"mu": normal(0, draws=20), "theta": normal(1, draws=20, size=(2, 3))}
    dims = {"mu": ("chain", "draw"), "theta": ("chain", "draw", "row", "column")}
    turned = xr.Dataset({name: (dims[name], array) for name, array in arrays.items()}).transpose("row", "draw", ...)
    forms = [arrays, {name: torch.as_tensor(array) for name, array in arrays.items()}, turned]
    forms.append(xr.DataTree.from_dict({"posterior": turned}))
    forms.append(
        arviz.from_dict(posterior=arrays) if arviz.__version__[0] == "0" else arviz.from_dict({"posterior": arrays})
    )
    for form in forms:
        xr.testing.assert_equal(posterior_draws(form), posterior_draws(arrays))
    assert posterior_draws(arrays).theta.dims == ("chain", "draw", "theta_dim_0", "theta_dim_1")
    labels, values = components(posterior_draws(arrays))
    assert labels[:3] == ["mu", "theta[0,0]", "theta[0,1]"]
    np.testing.assert_array_equal(values[:, :, 2], arrays["theta"][:, :, 0, 1])


@pytest.mark.parametrize(
    ("draws", "words"),
    [
        (normal(0), "a ndarray; expected a mapping"),
        ({}, "no parameter"),
        ({"mu": np.zeros(100)}, "a single chain needs a chain dimension"),
        ({"mu": np.zeros((4, 3))}, "at least 4 draws"),
        ({"mu": np.full((4, 10), np.nan)}, "NaN or infinity"),
        ({"mu": np.full((4, 10), "a")}, "no array of real numbers"),
        ({"mu": np.zeros((4, 10)), "tau": np.zeros((2, 10))}, "'tau' has 2 of 10"),
        (xr.Dataset({"mu": ("draw", np.zeros(100))}), "lacks chain"),
        (xr.DataTree.from_dict({"prior": xr.Dataset()}), "no group 'posterior'; their groups: prior"),
    ],
)
def test_what_is_no_posterior_is_refused_in_a_sentence(draws, words):
    with pytest.raises(InputError, match=words):
        posterior_draws(draws)


def test_what_does_not_fit_the_reference_is_refused():
    reference = {"mu": normal(0, draws=50)}
    for draws, weights, words in (
        ({"eta": normal(0, draws=50)}, None, "none is common"),
        ({"mu": normal(0, draws=50, size=(2,))}, None, r"has shape \(2,\) in the draws and \(\)"),
        (reference, np.zeros(3), "3 log-weights and 200 draws"),
        (reference, np.full(200, np.nan), "NaN"),
        (reference, np.full(200, -math.inf), "nothing but -inf"),
    ):
        with pytest.raises(InputError, match=words):
            compare_draws(draws, reference, weights)
    with pytest.raises(InputError, match="nothing varies"):
        compare_draws(reference, {"mu": np.ones((4, 50))})


# moments


def test_a_shifted_and_scaled_gaussian_differs_by_its_shift_and_scale():
    found = compare_draws(
        {"mu": normal(0, 3.0, 1.0), "extra": normal(9)}, {"mu": normal(1, 2.0, 2.0), "one": np.ones((4, 1000))}
    )
    assert found.attrs["left_out"] == "extra (not in the reference), one (not in the draws)"
    assert abs(found.mean_difference[0] - 0.5) < Z * found.mean_difference_se[0]
    assert abs(found.log_sd_ratio[0] - math.log(0.5)) < Z * found.log_sd_ratio_se[0]
    # of 4000 normal draws on both sides: var(log sd) = 1 / (2 n)
    assert found.log_sd_ratio_se[0] == pytest.approx(math.sqrt(2 / 8000), rel=0.1)


@pytest.mark.parametrize("rho", [0.7, -0.7])
def test_errors_of_moments_are_those_of_repeats(rho):
    """With rho below 0 a reference is worth more draws than it has for the mean, and fewer for the sd."""
    scores = {"mean_difference": [], "log_sd_ratio": []}
    repeats = 80
    for repeat in range(repeats):
        reference = {"mu": autoregressive(repeat, rho, draws=400)}
        found = compare_draws({"mu": normal(1000 + repeat, 0.3, 0.8)}, reference)
        for name, truth in (("mean_difference", 0.3), ("log_sd_ratio", math.log(0.8))):
            scores[name].append(float((found[name][0] - truth) / found[f"{name}_se"][0]))
    for name, values in scores.items():  # the standard error of the sd of n standard normals is 1 / sqrt(2 n)
        assert abs(np.std(values) - 1) < Z / math.sqrt(2 * repeats), name
        assert abs(np.mean(values)) < Z / math.sqrt(repeats), name


def test_a_component_that_does_not_vary_is_left_out_and_a_point_mass_has_no_error():
    factor = normal(0, size=(2,))
    factor[:, :, 1] = 1.0
    found = compare_draws({"factor": np.zeros((1, 100, 2))}, {"factor": factor})
    assert found.parameter.values.tolist() == ["factor[0]"]
    assert found.attrs["left_out"] == "factor[1] (constant)"
    assert found.log_sd_ratio[0] == -math.inf
    assert np.isnan(found.log_sd_ratio_se[0])


# distance


def test_sliced_wasserstein_of_gaussians_is_as_by_formula():
    """W2 of N(m, s^2) and N(0, 1) is sqrt(m^2 + (s - 1)^2) along every direction, if it is the same for all."""
    found = compare_draws({"z": normal(0, 0.0, 0.5, size=(3,))}, {"z": normal(1, size=(3,))})
    assert float(found.sliced_wasserstein) == pytest.approx(0.5, abs=0.05)
    shift = np.array([1.0, 2.0, -2.0])
    draws = normal(2, draws=200, size=(3,)).reshape(-1, 3)
    many = sliced_wasserstein(draws, draws + shift, directions=20_000)  # (u . shift)^2 averages to |shift|^2 / 3
    assert many == pytest.approx(math.sqrt(3.0), rel=0.02)


def test_samples_of_two_sizes_have_the_distance_of_their_quantile_functions():
    one, other = np.array([[0.0], [1.0], [2.0]]), np.array([[0.0], [2.0]])
    # on thirds and halves: 0 0 | 1-0 | 1-2 | 2-2, widths 1/3, 1/6, 1/6, 1/3
    assert sliced_wasserstein(one, other) == pytest.approx(math.sqrt(1 / 3))
    assert sliced_wasserstein(one, np.repeat(one, 7, axis=0)) == pytest.approx(0.0, abs=1e-7)


def test_draws_of_the_posterior_are_not_above_the_noise_floor_by_much_and_others_are():
    ratios = []
    for seed in range(20):
        found = compare_draws(
            {"z": normal(seed, chains=1, draws=100, size=(4,))}, {"z": normal(100 + seed, draws=500, size=(4,))}
        )
        ratios.append(float(found.sliced_wasserstein / found.sliced_wasserstein_floor))
    assert 0.7 < np.mean(ratios) < 1.2
    apart = compare_draws({"z": normal(0, 0.5, size=(4,))}, {"z": normal(1, size=(4,))})
    assert apart.sliced_wasserstein > 3 * apart.sliced_wasserstein_floor


# importance weights


def weighted(sd, mean=1.0, draws=4000):
    drawn = normal(3, mean, sd, chains=1, draws=draws)
    log_weights = -(drawn**2) / 2 + ((drawn - mean) / sd) ** 2 / 2 + 7.0  # a constant changes nothing
    return compare_draws({"mu": drawn}, {"mu": normal(4)}, torch.as_tensor(log_weights))


def test_importance_weights_correct_mean_and_sd():
    found = weighted(sd=1.2)
    assert found.khat < found.khat_threshold
    assert abs(found.mean_difference[0]) > 10 * found.mean_difference_se[0]
    assert abs(found.corrected_mean_difference[0]) < Z * found.corrected_mean_difference_se[0]
    assert float(found.corrected_sd[0]) == pytest.approx(1.0, abs=0.06)
    # the variance of a self-normalized mean: E_q[w^2 x^2] / n, by quadrature
    grid = np.linspace(-9, 9, 20_001)
    target, guide = (np.exp(-(((grid - m) / s) ** 2) / 2) / s / math.sqrt(2 * math.pi) for m, s in ((0, 1), (1.0, 1.2)))
    variance = np.trapezoid(target**2 / guide * grid**2, grid) / 4000 + 1 / 4000
    assert float(found.corrected_mean_difference_se[0]) == pytest.approx(math.sqrt(variance), rel=0.1)


def test_weights_that_cannot_be_trusted_have_no_error():
    found = weighted(sd=0.3)
    assert found.khat > 0.7
    assert np.isnan(found.corrected_mean_difference_se[0])
    few = np.full(4000, -math.inf)
    few[:5] = 0.0
    found = compare_draws({"mu": normal(3)}, {"mu": normal(4)}, few)
    assert found.khat == math.inf
    assert np.isnan(found.corrected_mean_difference_se[0])
    np.testing.assert_allclose(found.corrected_mean[0], normal(3)[0, :5].mean())


def test_draws_outside_the_support_have_no_weight():
    """A normal guide of a half-normal posterior: half of the draws have the weight 0, the others the same one."""
    drawn = normal(3)
    found = compare_draws({"mu": drawn}, {"mu": np.abs(normal(4))}, np.where(drawn > 0, 0.0, -math.inf))
    assert found.khat < found.khat_threshold
    np.testing.assert_allclose(found.corrected_mean[0], drawn[drawn > 0].mean())
    assert abs(found.corrected_mean_difference[0]) < Z * found.corrected_mean_difference_se[0]
