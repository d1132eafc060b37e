"""Calibration over simulated data: p-values that hold under the null, and signs that mean what they say."""

import itertools

import numpy as np
import pytest
import torch
from scipy import stats

from ppl_vae.errors import InputError
from ppl_vae.measure.calibration import calibration, symmetry_p_value

Z = 4.0  # standard errors: one in 16 000 is farther off by chance


def simulated(seed, simulations=300, draws=100, shift=0.0, scale=1.0):
    """Conjugate: mu ~ N(0, 1) and x | mu ~ N(mu, 1) give N(x / 2, 1 / 2), which the guide has shifted and scaled."""
    numbers = np.random.default_rng(seed)
    mu = numbers.normal(size=simulations)
    x = mu + numbers.normal(size=simulations)
    sd = np.sqrt(0.5)
    return mu, x[:, None] / 2 + sd * (shift + scale * numbers.normal(size=(simulations, draws)))


def test_p_is_the_share_of_draws_below_the_truth_with_half_of_the_equal_ones():
    truth = {"mu": np.full(10, 2.0), "theta": torch.zeros(10, 2)}
    draws = {
        "mu": np.tile([1.0, 2.0, 2.0, 5.0], (10, 1)),
        "theta": torch.tensor([[-1.0, 1.0], [-1.0, -1.0]]).expand(10, 2, 2).repeat(1, 2, 1),
    }
    found = calibration(truth, draws)
    assert found.parameter.values.tolist() == ["mu", "theta[0]", "theta[1]"]
    np.testing.assert_array_equal(found.p[:, 0], [0.5, 1.0, 0.5])
    np.testing.assert_array_equal(found["skew"], [0.0, 0.5, 0.0])
    assert found.symmetry_p_value[0] == 1.0


@pytest.mark.parametrize("kind", ["uniform", "at the ends", "in the middle", "ranks"])
def test_the_symmetry_test_rejects_a_symmetric_p_no_more_often_than_it_says(kind):
    """The table of two independent samples fails this: it rejects 8% to 10% at a level of 5%."""
    numbers = np.random.default_rng(0)
    repeats, size, level = 600, 60, 0.05
    values = {
        "uniform": lambda: numbers.uniform(size=size),
        "at the ends": lambda: numbers.beta(0.4, 0.4, size=size),
        "in the middle": lambda: numbers.beta(4.0, 4.0, size=size),
        "ranks": lambda: numbers.integers(0, 21, size=size) / 20,
    }[kind]
    samples = [values() for _ in range(repeats)]
    error = np.sqrt(level * (1 - level) / repeats)
    found = np.array([symmetry_p_value(p, numbers) for p in samples])
    assert (found <= level).mean() < level + 3 * error
    assert (found <= level).mean() > level / 3  # it has not lost its power either
    table = np.array([stats.ks_2samp(p, 1 - p).pvalue for p in samples])
    assert (table <= level).mean() > level + 3 * error


def test_the_symmetry_test_has_the_exact_p_value_of_a_random_walk():
    """Without ties the null is that of the largest |sum| of 5 signs: 5 for 2 of the 32 walks."""
    p = np.array([0.99, 0.9, 0.8, 0.7, 0.6])
    found = np.mean([symmetry_p_value(p, np.random.default_rng(seed)) for seed in range(20)])
    assert abs(found - 2 / 32) < Z * np.sqrt(2 / 32 * 30 / 32 / (20 * 1999)) + 1 / 2000
    tied = np.array([0.9, 0.9, 0.1, 0.1, 0.5])  # two of each side: nothing is less extreme
    assert symmetry_p_value(tied, np.random.default_rng(0)) == 1.0
    equal = np.array([1.0] * 8 + [0.0] * 2)  # all as far from 1/2: the sign test, 2 P(at least 8 of 10)
    found = np.mean([symmetry_p_value(equal, np.random.default_rng(seed)) for seed in range(20)])
    expected = 2 * stats.binom.sf(7, 10, 0.5)
    assert abs(found - expected) < Z * np.sqrt(expected * (1 - expected) / (20 * 1999)) + 1 / 2000


@pytest.mark.parametrize("p", [[0.99, 0.9, 0.8, 0.7, 0.45, 0.4, 0.35], [1.0, 0.8, 0.8, 0.8, 0.2, 0.4, 0.4, 0.5]])
def test_the_p_value_is_that_of_all_exchanges_with_scipys_distance(p):
    """Every way to exchange p and 1 - p, and the distance between the distribution functions of the two."""
    p = np.array(p)

    def distance(values):
        return stats.ks_2samp(values.round(9), (1 - values).round(9)).statistic

    exchanged = [distance(np.where(flips, 1 - p, p)) for flips in itertools.product((False, True), repeat=len(p))]
    expected = np.mean(np.array(exchanged) >= distance(p) - 1e-9)
    found = np.mean([symmetry_p_value(p, np.random.default_rng(seed)) for seed in range(20)])
    assert abs(found - expected) < Z * np.sqrt(expected * (1 - expected) / (20 * 1999)) + 1 / 2000


def test_the_exact_posterior_gives_uniform_p_values():
    """Two draws and five hundred: the ranks are spread over their widths, so the test holds for both."""
    for draws in (2, 500):
        found = [calibration({"m": mu}, {"m": d}) for mu, d in (simulated(s, 60, draws) for s in range(150))]
        values = np.array([float(one.uniformity_p_value[0]) for one in found])
        assert stats.kstest(values, "uniform").pvalue > 1e-3
        scores = np.array([float(one["skew"][0] / one.skew_se[0]) for one in found])
        assert abs(scores.mean()) < Z / np.sqrt(150)
        assert abs(scores.std() - 1) < Z / np.sqrt(300)


def test_equal_draws_leave_ranks_uniform():
    numbers = np.random.default_rng(0)
    values = [
        float(
            calibration(
                {"k": numbers.poisson(1.0, size=60)}, {"k": numbers.poisson(1.0, size=(60, 30))}, seed=seed
            ).uniformity_p_value[0]
        )
        for seed in range(150)
    ]
    assert stats.kstest(values, "uniform").pvalue > 1e-3


@pytest.mark.parametrize(("shift", "sign"), [(-0.7, 1), (0.7, -1)])
def test_a_guide_that_is_too_low_has_a_skew_above_0_and_one_that_is_too_high_below(shift, sign):
    mu, draws = simulated(0, shift=shift)
    found = calibration({"mu": mu}, {"mu": draws})
    expected = sign * (stats.norm.cdf(0.7 / np.sqrt(2)) - 0.5)  # truth - draw ~ N(-shift sd, 2 sd^2)
    assert abs(found["skew"][0] - expected) < Z * found.skew_se[0]
    assert found.symmetry_p_value[0] < 0.001
    assert found.uniformity_p_value[0] < 0.001


@pytest.mark.parametrize(("scale", "ends"), [(0.4, True), (2.5, False)])
def test_a_narrow_guide_has_p_at_the_ends_and_a_wide_one_in_the_middle(scale, ends):
    mu, draws = simulated(1, scale=scale)
    found = calibration({"mu": mu}, {"mu": draws})
    outside = float((np.abs(found.p[0] - 0.5) > 0.4).mean())
    expected = 2 * stats.norm.cdf(stats.norm.ppf(0.1) * scale)  # for endlessly many draws
    assert abs(outside - expected) < Z * np.sqrt(expected * (1 - expected) / 300) + 0.02
    assert (outside > 0.2) == ends
    assert found.uniformity_p_value[0] < 0.001
    assert found.symmetry_p_value[0] > 0.01  # the symmetry does not see it
    assert abs(found["skew"][0]) < Z * found.skew_se[0]


@pytest.mark.parametrize(
    ("truth", "draws", "words"),
    [
        ([1.0], [2.0], "are mappings"),
        ({}, {}, "truth holds nothing"),
        ({"a": np.zeros(20)}, {"b": np.zeros((20, 5))}, "both need the same parameters"),
        ({"a": np.zeros(20)}, {"a": np.zeros((5, 20))}, r"expected \(simulations, ...\)"),
        ({"a": np.zeros(20)}, {"a": np.zeros(20)}, r"expected \(simulations, ...\)"),
        ({"a": np.zeros(9)}, {"a": np.zeros((9, 5))}, "at least 10"),
        ({"a": np.full(20, np.nan)}, {"a": np.zeros((20, 5))}, "NaN"),
        ({"a": np.zeros(20), "b": np.zeros(20)}, {"a": np.zeros((20, 5)), "b": np.zeros((20, 6))}, "differ in"),
    ],
)
def test_what_does_not_match_is_refused_in_a_sentence(truth, draws, words):
    with pytest.raises(InputError, match=words):
        calibration(truth, draws)
