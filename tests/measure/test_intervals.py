"""Intervals of a gradient's variance hold what they promise, or say that they can't."""

import numpy as np
import pytest
import torch

from ppl_vae import InputError, gradient_statistics
from ppl_vae.estimators import Reinforce, RunningMean, estimator
from ppl_vae.measure.intervals import mean_interval
from ppl_vae.measure.known_variances import known_variances, quadratic
from ppl_vae.measure.per_draw_gradients import drawing

REPEATS = 300


@pytest.mark.parametrize("way", ["score-function", "pathwise"])
@pytest.mark.parametrize("distance", [0.0, 1.0, 2.0, 4.0])
def test_intervals_of_the_quadratics_variance_cover_it(way, distance):
    truth = known_variances(distance)[way.replace("-", " ")]
    model, guide, x = quadratic(distance, held=way == "score-function")
    guide.reparameterized = way == "pathwise"
    torch.manual_seed(0)
    with drawing(model, guide, estimator(way), (x,)) as draw:
        gradients = draw(REPEATS * 600).double().numpy().reshape(REPEATS, 600)
    for draws in (200, 600):
        part = gradients[:, :draws]
        lengths = (part - part.mean(1, keepdims=True)) ** 2 * draws / (draws - 1)
        low, high = mean_interval(lengths)
        told = ~np.isnan(low)
        assert told.mean() > 0.9
        assert ((low <= truth) & (truth <= high))[told].mean() >= 0.9, draws


@pytest.mark.parametrize("name", ["lognormal", "weibull", "student"])
def test_intervals_of_other_heavy_tails_cover(name):
    generator = np.random.default_rng(0)
    values, truth = {
        "lognormal": lambda shape: (generator.lognormal(0, 1.5, shape), np.exp(1.5**2 / 2)),
        "weibull": lambda shape: (generator.weibull(0.5, shape), 2.0),
        "student": lambda shape: (generator.standard_t(5, shape) ** 2, 5 / 3),
    }[name]((2000, 200))
    low, high = mean_interval(values)
    assert ((low <= truth) & (truth <= high)).mean() > 0.92


def test_a_tail_too_heavy_for_an_interval_is_told():
    low, high = mean_interval(np.array([[1.0] * 20, [1.0] * 19 + [100.0]]))
    assert np.isnan(low).tolist() == np.isnan(high).tolist() == [False, True]
    assert (low[0], high[0]) == (1.0, 1.0)


def test_a_level_is_a_share():
    values = np.random.default_rng(0).exponential(size=500)
    narrow, wide = mean_interval(values, 0.5), mean_interval(values, 0.99)
    assert wide[0] < narrow[0] < values.mean() < narrow[1] < wide[1]


def test_a_running_mean_is_measured_as_it_is_in_use():
    model, guide, x = quadratic(3.0)
    torch.manual_seed(0)
    plain, untaught, usual, long = (
        gradient_statistics(model, guide, x, elbo=elbo, draws=20000, learning_steps=steps)
        for elbo, steps in (
            (Reinforce(), None),
            (RunningMean(), 0),
            (RunningMean(), None),
            (RunningMean(decay=0.99), None),
        )
    )
    assert [found.attrs["learning_steps"] for found in (plain, untaught, usual, long)] == [0, 0, 50, 500]
    ends = [found.sel(group="total") for found in (plain, untaught, usual, long)]
    assert float(ends[1].variance) == pytest.approx(float(ends[0].variance), rel=0.1)
    assert float(ends[2].variance_high) < float(ends[1].variance_low)
    left = 8 * 3.0**2 + 10  # of ((d + e)^2 - (d^2 + 1)) e, which no constant can take away
    noise = (4 * 3.0**2 + 2) / 199  # the variance of the baseline, a decaying mean of so many draws
    error = float(ends[3].variance_high - ends[3].variance_low) / 3.92
    assert left - 4 * error < float(ends[3].variance) < left + 4 * error + 9 * noise


def test_a_mean_that_never_moves_is_refused():
    with pytest.raises(InputError, match=r"decay is 1.0; it must be at least 0 and below 1"):
        RunningMean(decay=1.0)
