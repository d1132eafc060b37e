"""What holds for each model with latents that all the data share, and what these refuse."""

import math
from functools import partial

import numpy as np
import pyro
import pytest
import torch
from bayesian_cases import MADE, SITES, joint, latents, made, traced
from pyro import poutine
from pyro.infer import SVI, Trace_ELBO
from pyro.infer.autoguide import AutoNormal

from ppl_vae import InputError
from ppl_vae.models import (
    BAYESIAN_MODELS,
    MODELS,
    BayesianMixture,
    BayesianModel,
    EightSchools,
    HierarchicalPoisson,
    ItemResponse,
    LinearRegression,
    LogisticRegression,
)

SHAPES = {
    "linear-regression": [(442,), (442, 10)],
    "logistic-regression": [(569,), (569, 30)],
    "eight-schools": [(8,), (8,)],
    "hierarchical-poisson": [(200,), (200,), (200,)],
    "bayesian-mixture": [(150,)],
    "item-response": [(100, 12)],
}
each = pytest.mark.parametrize("name", MADE)


def test_the_members_are_all_tested():
    assert {name.partition(",")[0] for name in MADE} == set(BAYESIAN_MODELS) == set(SHAPES)
    assert {type(make()) for make in MADE.values()} == set(BAYESIAN_MODELS.values())
    assert not set(MODELS) & set(BAYESIAN_MODELS)


@pytest.mark.parametrize("name", BAYESIAN_MODELS)
def test_the_example_data_are_float32_and_leave_the_global_generator_alone(name):
    before = torch.get_rng_state()
    data, again = BAYESIAN_MODELS[name].example_data(), BAYESIAN_MODELS[name].example_data()
    assert torch.equal(torch.get_rng_state(), before)
    assert [part.shape for part in data] == SHAPES[name]
    assert all(torch.equal(one, other) for one, other in zip(data, again, strict=True))
    index = {"hierarchical-poisson": [1]}.get(name, [])
    assert [part.dtype for part in data] == [
        torch.int64 if place in index else torch.float32 for place in range(len(data))
    ]


@each
def test_a_program_has_the_sites_that_it_says(name):
    model, data = made(name)
    trace = traced(model, data)
    assert {key: value.shape for key, value in latents(trace).items()} == SITES[name]
    assert all(value.dtype == torch.float64 for value in latents(trace).values())
    assert trace.nodes["x"]["value"] is data[0]  # itself, so that a simulation can stand in its place
    assert trace.nodes["data"]["fn"].size == len(data[0])
    assert not list(model.parameters())


@each
@pytest.mark.parametrize("left", [0, 1])
def test_particles_have_the_log_densities_that_each_has_alone(name, left):
    """In a plate left of all others, with ``left`` unused dimensions in between."""
    model, data = made(name)
    with pyro.plate("particles", 2, dim=-2 - left):
        trace = traced(model, data)
    for particle in range(2):
        alone = {}
        for key, value in latents(trace).items():
            shape = SITES[name][key]
            in_plate = bool(trace.nodes[key]["fn"].event_dim == 0 and shape)
            assert value.shape == (2, *(1,) * left, *(() if in_plate else (1,)), *shape)
            alone[key] = value[particle].reshape(shape)
        single = traced(model, data, **alone)
        compared = [key for key, site in trace.nodes.items() if site["type"] == "sample"]
        assert len(compared) > len(SITES[name])
        for key in compared:
            ours = trace.nodes[key]["log_prob"]
            ours = ours[particle] if ours.dim() else ours  # a plate has no density
            theirs = single.nodes[key]["log_prob"]
            torch.testing.assert_close(ours.reshape(theirs.shape), theirs, msg=lambda text, key=key: f"{key}: {text}")
    assert not torch.equal(*trace.nodes["x"]["log_prob"])


@each
def test_a_program_simulates(name):
    """Without x, its site is drawn: the same program with other data of the same shape."""
    model, data = made(name)
    draw = poutine.uncondition(model)(*data)
    assert draw.shape == data[0].shape
    assert not torch.equal(draw, data[0])
    assert math.isfinite(joint(model, (draw, *data[1:])))


@each
def test_an_autoguide_learns(name):
    model = MADE[name]()
    data = model.example_data()
    svi = SVI(
        model,
        AutoNormal(model),
        pyro.optim.Adam({"lr": 0.02}),
        Trace_ELBO(num_particles=4, vectorize_particles=True, max_plate_nesting=1),
    )
    losses = [svi.step(*data) for _ in range(60)]
    assert np.mean(losses[-10:]) < np.mean(losses[:10])


# ---- what is refused

REGRESSION, SCHOOLS = LinearRegression.example_data(), EightSchools.example_data()
COUNTS = HierarchicalPoisson.simulate(4, 3)
(ANSWERS,) = ItemResponse.simulate(5, 3)


@pytest.mark.parametrize(
    ("model", "data", "message"),
    [
        (LinearRegression(9), REGRESSION, r"\(442, 10\), but LinearRegression needs \(442, 9\): make .* features=10"),
        (LogisticRegression(9), REGRESSION, r"LogisticRegression needs \(442, 9\): make the model with features=10"),
        (LinearRegression(1), (REGRESSION[0], REGRESSION[0]), r"inputs has shape \(442,\).*pass a matrix"),
        (LinearRegression(10), (REGRESSION[0][:, None], REGRESSION[1]), r"x has shape \(442, 1\).*needs \(442,\)"),
        (LinearRegression(10), (REGRESSION[0], REGRESSION[1][:7]), r"inputs has shape \(7, 10\) for 442 data points"),
        (LinearRegression(10), REGRESSION[:1], r"got 0 of its 1 inputs behind x: call model\(x, inputs\)"),
        (LogisticRegression(10), (REGRESSION[0].long(), REGRESSION[1]), r"x is torch.int64.*pass x.float\(\)"),
        (EightSchools(), (SCHOOLS[0], SCHOOLS[1][:3]), r"sigma has shape \(3,\) for 8 data points: give it one row"),
        (EightSchools(), (SCHOOLS[0], SCHOOLS[1][:, None]), r"sigma has shape \(8, 1\).*one standard error for each"),
        (HierarchicalPoisson(3), COUNTS, r"group goes from 0 to 3, but HierarchicalPoisson has the groups 0 to 2"),
        (HierarchicalPoisson(4), (COUNTS[0], COUNTS[1] - 1, COUNTS[2]), "group goes from -1 to 2"),
        (
            HierarchicalPoisson(4),
            (COUNTS[0], COUNTS[1].float(), COUNTS[2]),
            r"group is torch.float32 of .*\(12,\), but",
        ),
        (HierarchicalPoisson(4), COUNTS[:2], r"got 1 of its 2 inputs behind x: call model\(x, group, exposure\)"),
        (HierarchicalPoisson(4), (*COUNTS[:2], COUNTS[2][:, None]), r"exposure has shape \(12, 1\).*torch.ones"),
        (BayesianMixture(), (REGRESSION[1],), r"x has shape \(442, 10\), but BayesianMixture needs \(442,\)"),
        (ItemResponse(2), (ANSWERS,), r"x has shape \(5, 3\), but ItemResponse needs \(5, 2\): .* items=3"),
        (ItemResponse(2), (ANSWERS[:, 0],), r"x has shape \(5,\).*one row for each person"),
    ],
)
def test_data_that_do_not_fit_the_model(model, data, message):
    with pytest.raises(InputError, match=message):
        model(*data)


@pytest.mark.parametrize("method", ["posterior", "log_evidence"])
def test_the_exact_answers_check_their_data_too(method):
    with pytest.raises(InputError, match="make the model with features=10"):
        getattr(LinearRegression(9), method)(*REGRESSION)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (partial(LinearRegression, 0), "features is 0; a whole number from 1 on"),
        (partial(LinearRegression, 2, noise=0.0), r"noise is 0\.0; a scale above 0"),
        (partial(LinearRegression, 2, prior_scale=-1.0), r"prior_scale is -1\.0; a scale above 0"),
        (partial(LogisticRegression, 2, "laplace"), "prior is 'laplace'; choose from normal, horseshoe"),
        (partial(LogisticRegression, 2, slab_scale=math.nan), "slab_scale is nan"),
        (partial(HierarchicalPoisson, 1.5), r"groups is 1\.5; a whole number"),
        (partial(HierarchicalPoisson.simulate, 3, 0), "per_group is 0; a whole number"),
        (partial(BayesianMixture, 1), "components is 1; a whole number from 2 on"),
        (partial(ItemResponse, 3, parameters=3), "parameters is 3; choose 1 "),
        (partial(ItemResponse.simulate, 0, 3), "persons is 0; a whole number"),
    ],
)
def test_arguments_that_give_no_model(make, message):
    with pytest.raises(InputError, match=message):
        make()


def test_a_bayesian_model_needs_a_program():
    with pytest.raises(TypeError, match=r"Empty has no forward: define forward\(self, x, \*given\)$"):
        type("Empty", (BayesianModel,), {})
    bare = type("Bare", (BayesianModel,), {"forward": lambda self, x, *given: x})
    with pytest.raises(TypeError, match="Bare has no example data"):
        bare.example_data()
