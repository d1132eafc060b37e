"""Laws over the whole zoo."""

import inspect

import numpy as np
import pyro
import pytest
import torch
from pyro.infer import Trace_ELBO
from zoo import BATCH, COVERING, EACH_ONCE, FAMILIES, GIVEN, MODELS, SOURCES, ZOO, Case

import ppl_vae.guides
import ppl_vae.models
from ppl_vae import bounds, fit, freeze, log_weights
from ppl_vae.guides import Family
from ppl_vae.pairs.restore import local_parameters
from ppl_vae.programs import Guide, LatentVariableModel

every = pytest.mark.parametrize("case", ZOO, ids=str)
every_one = pytest.mark.parametrize("case", COVERING, ids=str)


def exported(package, kind):
    members = (getattr(package, name) for name in package.__all__)
    return {member for member in members if inspect.isclass(member) and issubclass(member, kind)} - {kind}


def test_the_zoo_has_all_that_the_folders_export():
    made = [case.make() for case in ZOO]
    families = {type(make()) for make in FAMILIES.values()}
    models = {type(model) for model, _, _ in made}
    assert models == exported(ppl_vae.models, LatentVariableModel) == set(ppl_vae.models.MODELS.values())
    assert {type(guide) for _, guide, _ in made} == exported(ppl_vae.guides, Guide)
    assert families == exported(ppl_vae.guides, Family) == set(ppl_vae.guides.FAMILIES.values())


def test_every_family_meets_every_source_and_every_model_with_its_kind_of_latents():
    pairs = {(case.model, case.guide, case.source) for case in ZOO}
    left_out = {("mixture", "semi-amortized")}
    for name, make in FAMILIES.items():
        for model_name, make_model in MODELS.items():
            model = make_model()
            prior = model.prior(*[torch.zeros(1, GIVEN)] * model.given_count)
            fits = make().discrete != prior.has_rsample and model_name != "two-layer-vae"
            q = make()(torch.zeros(1, make().num_params))
            fits = fits and q.event_shape == prior.event_shape and (not make().discrete or same_values(q, prior))
            for source in SOURCES:
                if fits and not (make().discrete and source == "semi-amortized") and (name, source) not in left_out:
                    assert (model_name, name, source) in pairs


def test_the_covering_has_every_model_source_guide_and_family():
    assert set(COVERING) <= set(ZOO)
    assert len(set(COVERING)) == len(COVERING)
    for kind in (lambda case: (case.model, case.source), lambda case: case.guide):
        assert {kind(case) for case in COVERING} == {kind(case) for case in ZOO}
    assert set(EACH_ONCE) <= set(COVERING)
    for kind in (lambda case: case.model, lambda case: case.source, lambda case: case.guide):
        assert {kind(case) for case in EACH_ONCE} == {kind(case) for case in ZOO}


def same_values(one, other):
    """Whether two discrete densities have the same support: bits or one-hot vectors."""
    supports = (getattr(part.support, "base_constraint", part.support) for part in (one, other))
    return len({type(support) for support in supports}) == 1


@every_one
@pytest.mark.parametrize("particles", [1, 3])
def test_log_weights_are_particles_by_batch(case: Case, particles: int, monkeypatch):
    """Run once for each particle where a chunk holds no more; in one plate in the next test."""
    model, guide, batch = case.make()
    if particles > 1:
        monkeypatch.setattr("ppl_vae.pairs.pair.CHUNK_BYTES", 1)
    weights = log_weights(model, guide, batch, particles=particles)
    assert weights.shape == (particles, BATCH)
    assert weights.dtype == torch.float64
    assert weights.isfinite().all()


@every
def test_every_parameter_gets_a_finite_gradient(case: Case):
    model, guide, batch = case.make()
    weights = log_weights(model, guide, batch, particles=3)
    assert weights.shape == (3, BATCH)
    assert weights.dtype == torch.float64
    weights.sum().backward()
    for name, parameter in [*model.named_parameters(), *guide.named_parameters()]:
        assert parameter.grad is not None, name
        assert parameter.grad.to_dense().isfinite().all(), name


@every
def test_mean_log_weight_is_pyros_elbo_in_value_and_gradient(case: Case):
    model, guide, batch = case.make()
    parameters = list({id(p): p for part in (model, guide) for p in part.parameters()}.values())
    pyro.set_rng_seed(1)
    ours = log_weights(model, guide, batch, particles=7).mean(0).sum()
    our_gradients = torch.autograd.grad(ours, parameters, allow_unused=True)
    pyro.set_rng_seed(1)
    with local_parameters(model, guide):
        theirs = -Trace_ELBO(num_particles=7, vectorize_particles=True, max_plate_nesting=1).differentiable_loss(
            model, guide, *batch
        )
    their_gradients = torch.autograd.grad(theirs, parameters, allow_unused=True)
    assert ours.item() == pytest.approx(theirs.item(), rel=1e-9)
    if not model.prior(*batch[1 : 1 + model.given_count]).has_rsample:
        return  # Pyro takes the score function there, which log_weights leaves to the estimators
    for our, their in zip(our_gradients, their_gradients, strict=True):
        assert (our is None) == (their is None)
        if our is not None:
            torch.testing.assert_close(our.to_dense(), their.to_dense(), rtol=1e-9, atol=1e-9)


@every_one
def test_a_frozen_model_stays_frozen(case: Case):
    model, guide, batch = case.make()
    freeze(model)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    if any(True for _ in guide.parameters()):
        fit(model, guide, batch, epochs=1, batch_size=2, progress=False)
    bounds(model, guide, batch, particles=4)
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert not model.training
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name


@every_one
def test_the_same_seed_gives_the_same_numbers(case: Case):
    def run(seed: int) -> torch.Tensor:
        model, guide, batch = case.make()
        fit(model, guide, batch, epochs=1, batch_size=3, seed=seed, progress=False)
        return log_weights(model, guide, batch, particles=2)

    found = run(3)
    assert torch.equal(run(3), found)
    assert not torch.equal(run(4), found)


@pytest.mark.parametrize("case", [case for case in COVERING if case.is_bound], ids=str)
def test_bounds_rise_with_k(case: Case):
    model, guide, batch = case.make()
    fit(model, guide, batch, epochs=20, progress=False, seed=0)
    found = bounds(model, guide, batch, particles=4000, curve=(1, 2, 4, 8, 16))
    slack = 4 * np.hypot(found.iwelbo_se.values[1:], found.iwelbo_se.values[:-1]) + 1e-9
    assert found.attrs["is_bound"] == 1
    assert (np.diff(found.iwelbo.values, axis=0) > -slack).all()
    np.testing.assert_allclose(found.iwelbo.sel(K=1), found.elbo)
    if hasattr(model, "log_evidence"):
        exact = model.log_evidence(*batch).detach().numpy()
        assert (found.iwelbo.values < exact + 4 * found.iwelbo_se.values + 1e-9).all()


@pytest.mark.parametrize("case", [case for case in ZOO if not case.is_bound and case.model == "vae"], ids=str)
def test_a_delta_guide_is_not_a_bound(case: Case):
    model, guide, batch = case.make()
    assert bounds(model, guide, batch, particles=4).attrs["is_bound"] == 0
    assert not fit(model, guide, batch, epochs=1, progress=False).is_bound
