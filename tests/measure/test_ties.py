"""A tie is a difference of two ELBOs that its own standard errors don't tell from none."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import xarray as xr

from ppl_vae import compare
from ppl_vae.guides import ExactPosterior, Prior
from ppl_vae.measure.comparison_table import Row, with_ties
from ppl_vae.models import LinearGaussian


def row(name, elbo, error=0.01, is_bound=True):
    return Row(name, is_bound, elbo, error, {}, *[None] * 12, seconds=0.0)


def ties(*rows, elbo):
    stacked = xr.DataArray(np.array(elbo), dims=("guide", "data"), coords={"guide": [row.guide for row in rows]})
    return [row.tie for row in with_ties(list(rows), stacked)]


def test_differences_count_image_by_image():
    numbers = np.random.default_rng(0)
    images = numbers.normal(-100, 50, 400)  # which vary far more than the guides differ
    noise = numbers.normal(0, 1, 400)
    noise -= noise.mean()
    error = noise.std(ddof=1) / 20
    for factor, tied in ((1.9, True), (2.1, False)):
        below = images + noise - factor * error
        rows = row("a", images.mean()), row("b", below.mean())
        assert ties(*rows, elbo=[images, below]) == [False, tied]


@pytest.mark.parametrize(("gap", "tied"), [(0.02, True), (0.03, False)])
def test_of_one_data_set_the_monte_carlo_errors_count(gap, tied):
    assert ties(row("a", -5.0), row("b", -5.0 - gap), elbo=[[-5.0], [-5.0 - gap]]) == [False, tied]


def test_what_bounds_nothing_ties_with_nobody():
    rows = row("a", -5.0), replace(row("b", -5.0), is_bound=False), row("c", -5.0, is_bound=False)
    assert ties(*rows, elbo=np.full((3, 4), -5.0)) == [False] * 3


def test_a_comparison_marks_two_copies_and_not_a_worse_guide():
    torch.manual_seed(0)
    model, data = LinearGaussian(3, 2), torch.randn(30, 3)
    guides = {"one": ExactPosterior(model), "other": ExactPosterior(model), "prior": Prior(model)}
    found = compare(model, guides, data, test=data, particles=50, seed=0, progress=False)
    assert [row.guide for row in found.rows][-1] == "prior"
    assert [row.tie for row in found.rows] == [False, True, False]
