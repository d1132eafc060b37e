"""``check`` finds nothing wrong with shared latents, plates of any name and length, and autoguides."""

import warnings

import pyro
import pytest
import torch
from pyro.infer.autoguide import AutoDelta, AutoLaplaceApproximation, AutoMultivariateNormal, AutoNormal
from sharing import (
    DATA,
    INPUTS,
    LOG_EVIDENCE,
    SCHOOLS,
    SIZE,
    WIDTH,
    Linear,
    Y,
    fixed,
    fixed_guide,
    groups,
    groups_guide,
    guide_of,
    local,
    regression,
    schools,
    schools_guide,
    series,
    set_up,
)

from ppl_vae import bounds, check


@pytest.fixture(autouse=True)
def fresh():
    pyro.clear_param_store()
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        yield


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
