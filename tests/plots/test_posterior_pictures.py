"""Figures of posteriors show what was measured: the quantiles, the counts, the errors, and what is left out."""

import numpy as np
import pytest
from scipy import stats

from ppl_vae.measure.calibration import calibration
from ppl_vae.measure.posterior_quality import compare_draws
from ppl_vae.plots.posterior import calibration_histograms, moments, quantiles


def normal(mean=0.0, sd=1.0, size=(), seed=0, chains=4):
    return np.random.default_rng(seed).normal(mean, sd, (chains, 500, *size))


def shown(figure):
    return [axes for axes in figure.axes if axes.get_visible()]


def test_quantiles_lie_on_the_line_of_shift_and_scale():
    reference = normal()
    figure = quantiles({"mu": 0.5 * reference + 2.0}, {"mu": reference})
    equal, line, dots = shown(figure)[0].lines
    np.testing.assert_allclose(line.get_ydata(), 0.5 * line.get_xdata() + 2.0)
    np.testing.assert_allclose(dots.get_xdata(), np.quantile(reference, (0.05, 0.5, 0.95)))
    np.testing.assert_array_equal(equal.get_xdata(), equal.get_ydata())


def test_no_more_than_twelve_panels_are_drawn_and_the_title_says_so():
    figure = quantiles({"theta": normal(size=(14,))}, {"theta": normal(size=(14,), seed=1)})
    assert len(shown(figure)) == 12
    assert "12 of 14 components" in figure.get_suptitle()
    three = quantiles({"theta": normal(size=(3,))}, {"theta": normal(size=(3,), seed=1)})
    assert [axes.get_title() for axes in shown(three)] == ["theta[0]", "theta[1]", "theta[2]"]
    assert "components" not in three.get_suptitle()


@pytest.mark.parametrize("draws", [1, 9, 20, 99, 200])
def test_histograms_count_every_simulation_and_their_band_is_binomial(draws):
    numbers = np.random.default_rng(0)
    found = calibration({"mu": numbers.normal(size=100)}, {"mu": numbers.normal(size=(100, draws))})
    axes = shown(calibration_histograms(found))[0]
    band, *bars = axes.patches
    counts = [bar.get_height() for bar in bars]
    assert sum(counts) == 100
    assert 4 <= len(bars) <= 20
    low, high = stats.binom.interval(0.95, 100, 1 / len(bars))
    assert (band.get_y(), band.get_y() + band.get_height()) == (low, high)
    assert f"symmetry p = {float(found.symmetry_p_value[0]):.3f}" in axes.get_title()


def test_of_many_components_the_worst_calibrated_are_drawn():
    numbers = np.random.default_rng(0)
    drawn = numbers.normal(size=(100, 50, 14))
    drawn[:, :, 13] += 1.0  # biased
    truth = numbers.normal(size=(100, 14))
    truth[50:, 12] = -truth[:50, 12]
    drawn[:, :, 12] = np.linspace(-0.1, 0.1, 50)  # too narrow, and exactly symmetric
    found = calibration({"theta": truth}, {"theta": drawn})
    assert found.symmetry_p_value[12] == 1.0
    figure = calibration_histograms(found)
    names = [axes.get_title().splitlines()[0] for axes in shown(figure)]
    assert len(names) == 12
    assert {"theta[12]", "theta[13]"} <= set(names)
    assert "12 of 14" in figure.get_suptitle()


def test_moments_are_drawn_with_two_errors_and_corrected_ones_where_they_are_known():
    draws, reference = {"theta": normal(0.3, 0.8, (2,))}, {"theta": normal(size=(2,), seed=1)}
    found = compare_draws(draws, reference, np.random.default_rng(2).normal(size=2000) / 10)
    left, right = moments(found).axes
    np.testing.assert_array_equal(left.containers[0].lines[0].get_xdata(), found.mean_difference)
    ends = left.containers[0].lines[2][0].get_segments()[0][:, 0]
    np.testing.assert_allclose(np.ptp(ends), 4 * found.mean_difference_se[0])
    np.testing.assert_array_equal(left.containers[1].lines[0].get_xdata(), found.corrected_mean_difference)
    np.testing.assert_allclose(right.lines[0].get_xdata(), np.exp(found.log_sd_ratio))
    assert [label.get_text() for label in left.get_yticklabels()] == ["theta[0]", "theta[1]"]
    distrusted = moments(compare_draws(draws, reference, np.random.default_rng(2).normal(size=2000) * 20))
    assert len(distrusted.axes[0].containers) == 1


def test_moments_of_a_point_mass_have_no_ratio_and_of_many_components_the_worst_are_drawn():
    draws = np.zeros((1, 10, 50))
    draws[:, :, 49] = 9.0
    figure = moments(compare_draws({"theta": draws}, {"theta": normal(size=(50,))}))
    left, right = figure.axes
    assert len(left.get_yticklabels()) == 40
    assert left.get_yticklabels()[-1].get_text() == "theta[49]"
    assert not len(right.lines[0].get_xdata())
    assert "40 of 50 components" in figure.get_suptitle()
