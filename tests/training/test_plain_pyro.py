"""Every member of the zoo in a plain Pyro script: SVI, Predictive, condition, enumeration."""

import numpy as np
import pyro
import pytest
import torch
from pyro import poutine
from pyro.infer import SVI, Predictive, Trace_ELBO, TraceEnum_ELBO
from pyro.optim import Adam
from zoo import BATCH, COVERING, OBSERVED, ZOO, Case

from ppl_vae import fit
from ppl_vae.pairs.traces import random_sites

every = pytest.mark.parametrize("case", ZOO, ids=str)
every_one = pytest.mark.parametrize("case", COVERING, ids=str)
MIXTURES = ("gaussian-mixture", "mixture-density-network")  # of which one latent of few values is summed over
DISCRETE = [case for case in ZOO if case.model in (*MIXTURES, "bernoulli-vae", "categorical-vae")]


def steps(model, guide, batch, elbo, count=3):
    pyro.clear_param_store()
    svi = SVI(model, guide, Adam({"lr": 1e-2}), elbo)
    return [svi.step(*batch) for _ in range(count)]


@every_one
def test_svi_steps(case: Case):
    model, guide, batch = case.make()
    before = {
        name: value.clone() for part in (model, guide) for name, value in part.state_dict(prefix=str(id(part))).items()
    }
    assert np.isfinite(steps(model, guide, batch, Trace_ELBO())).all()
    after = {name: value for part in (model, guide) for name, value in part.state_dict(prefix=str(id(part))).items()}
    trained = {f"{id(part)}{name}" for part in (model, guide) for name, _ in part.named_parameters()}
    assert all(not torch.equal(after[name], before[name]) for name in trained)


@every_one
@pytest.mark.parametrize("parallel", [False, True])
def test_predictive_draws_data_by_the_guide(case: Case, parallel: bool):
    model, guide, batch = case.make()
    found = Predictive(model, guide=guide, num_samples=4, parallel=parallel)(*batch)
    latents = [value for name, value in found.items() if name != "x"]
    assert found["x"].shape[:2] == (4, BATCH)
    assert found["x"].numel() == 4 * BATCH * OBSERVED
    assert latents
    for value in latents:
        assert value.shape[:2] == (4, BATCH)
        assert (
            case.guide == "delta"
            or case.model in MIXTURES
            or not all(torch.equal(value[0], other) for other in value[1:])
        )


@every
def test_a_condition_on_the_latents_holds_in_model_and_guide(case: Case):
    model, guide, batch = case.make()
    drawn = {
        site["name"]: site for site in random_sites(poutine.trace(guide).get_trace(*batch)) if site["name"] != "data"
    }
    values = {name: site["value"].detach().clone() for name, site in drawn.items()}
    for program in (model, guide):
        trace = poutine.trace(poutine.condition(program, data=values)).get_trace(*batch)
        assert all(torch.equal(trace.nodes[name]["value"], value) for name, value in values.items())
        assert trace.log_prob_sum().isfinite()
    for name, site in drawn.items():
        draws = [site["fn"].sample(), *([site["fn"].rsample()] if site["fn"].has_rsample else [])]
        for draw in draws:
            assert draw.shape == values[name].shape
            assert site["fn"].log_prob(draw).shape == (BATCH,)
        assert not draws[0].requires_grad or case.guide == "delta"  # whose draw is its parameter
        assert all(draw.requires_grad for draw in draws[1:]) or case.guide in ("prior", "exact")


@pytest.mark.parametrize("case", DISCRETE, ids=str)
def test_enumeration_steps(case: Case):
    model, guide, batch = case.make()
    guide.enumerates = case.model in MIXTURES  # Pyro sums over no vectors of bits or of one-hot vectors
    losses = steps(model, guide, batch, TraceEnum_ELBO(max_plate_nesting=1))
    assert np.isfinite(losses).all()


def test_the_density_of_a_flows_draw_without_a_gradient_has_one():
    """What rsample remembers of its draw must not be what sample drew: the score would be missing."""
    _, guide, batch = Case("vae", "iaf").make()
    q = guide.posterior(*batch)
    (slope,) = torch.autograd.grad(q.log_prob(q.sample()).sum(), guide.encoder[-2].weight)
    assert slope.norm() > 0


def test_a_table_is_sparse_in_fit_alone():
    model, guide, batch = Case("vae", "diagonal", "per-datapoint").make()
    seen = []
    guide.table.weight.register_hook(lambda gradient: seen.append(gradient.is_sparse))
    fit(model, guide, batch, epochs=1, batch_size=2, progress=False)
    assert seen == [True] * 3
    seen.clear()
    steps(model, guide, batch, Trace_ELBO())
    assert seen == [False] * 3
