"""Errors hold: how often they cover the truth, where none is told, and which of many bounds is believed."""

import math
import runpy
from pathlib import Path

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
import xarray as xr
from zoo import Case

from ppl_vae import bounds, freeze, refine, tightness
from ppl_vae.evidence import annealed, quadrature, sandwich
from ppl_vae.guides import Amortized, Diagonal, Full
from ppl_vae.measure.best_evidence import Source, best
from ppl_vae.measure.bounds import average, iwelbo
from ppl_vae.models import LinearGaussian
from ppl_vae.pairs.log_means import of_chains, of_draws, student
from ppl_vae.pairs.psis import pareto_k
from ppl_vae.programs import LatentVariableModel

COVERAGE = runpy.run_path(str(Path(__file__).parents[2] / "benchmarks" / "coverage.py"))
REPEATS = 300


@pytest.mark.parametrize("name", COVERAGE["PAIRS"])
def test_the_error_of_the_evidence_covers_it_or_is_not_told(name):
    model, guide, x, truth = COVERAGE["PAIRS"][name](REPEATS)
    pyro.set_rng_seed(3)
    found = bounds(model, guide, x, particles=1000, curve=(100, 1000))
    last = found.isel(K=-1)
    told = COVERAGE["covered"](last.iwelbo, last.iwelbo_se, found.bias, truth)
    assert told["given"] < 0.5 or told["covered"] >= 0.9
    assert (found.iwelbo_se.isel(K=-1).isnull() == (found.khat >= found.attrs["khat_threshold"])).all()
    assert found.elbo_se.notnull().all()


@pytest.mark.parametrize("chains", [4, 16])
def test_the_error_of_few_annealed_chains_covers_the_evidence(chains):
    model, guide, x, truth = COVERAGE["PAIRS"]["Student-t likelihood"](REPEATS)
    pyro.set_rng_seed(0)
    run = annealed(model, guide, x, steps=30, chains=chains, leapfrog=5)
    told = COVERAGE["covered"](run.log_evidence, run.log_evidence_se, run.log_evidence_bias, truth)
    assert told["given"] == 1
    assert told["covered"] >= 0.9


def test_both_sides_of_the_sandwich_cover_the_evidence():
    """The upper side's chains start from different draws of the posterior."""
    torch.manual_seed(0)
    model = LinearGaussian(10, 5, scale=0.5)
    (x,), run = sandwich(model, torch.zeros(REPEATS, 10), steps=120, leapfrog=5)
    exact = model.log_evidence(x).detach().double().numpy()
    for side in ("lower", "upper", "log_evidence"):
        off = run[side] - exact
        assert COVERAGE["covered"](off, run[f"{side}_se"], run[f"{side}_bias"], 0.0)["covered"] >= 0.9


def test_a_normal_mean_has_the_delta_methods_error():
    """Weights without a tail: uniform on [0.5, 1.5], whose relative variance is 1 / 12."""
    torch.manual_seed(0)
    weights = (torch.rand(1000, 200, dtype=torch.float64) + 0.5).log()
    found = of_draws(weights, pareto_k(weights))
    assert float(found.error.mean()) == pytest.approx((1 / 12 / 1000) ** 0.5, rel=0.1)
    assert float(found.bias.mean()) == pytest.approx(1 / 24 / 1000, rel=0.05)


def test_two_chains_have_students_quantile():
    """The log-weights 0 and 0.1: a mean of two, whose interval is 12.7 / 1.96 times as wide as a normal one."""
    found = of_chains(torch.tensor([[0.0], [0.1]], dtype=torch.float64))
    plain = abs(1 - math.exp(0.1)) / 2 / ((1 + math.exp(0.1)) / 2)
    assert float(found.error) == pytest.approx(student(1) * plain, rel=0.01)
    assert student(1) == pytest.approx(12.706 / 1.960, rel=1e-3)


def test_no_average_hides_a_point_without_an_error():
    value, error = xr.DataArray([1.0, 3.0], dims="data"), xr.DataArray([0.1, np.nan], dims="data")
    assert average(value, error)[0] == 2.0
    assert math.isnan(average(value, error)[1])
    whole = average(value, error.fillna(0.1), xr.full_like(value, 0.5))[1]
    assert whole == pytest.approx(math.hypot(0.1 / 2**0.5, 0.5))


def source(name, value, error, points=100):
    values = xr.DataArray(np.full(points, value), dims="data")
    errors = np.broadcast_to(np.asarray(error, dtype=float), points)
    return Source(name, values, xr.DataArray(errors.copy(), dims="data"), xr.zeros_like(values))


def test_the_reliable_bound_is_believed_not_the_largest():
    """Eight schools, centered: the full-rank guide's IWELBO is the largest by far, and k-hat says why."""
    chosen = best([source("full rank", -29.91, np.nan), source("flow", -31.37, 0.02)], {})
    assert (chosen.value == -31.37).all()
    assert "flow" in chosen.words
    one_bad = source("flow", -31.37, np.where(np.arange(100) < 5, np.nan, 0.02))
    chosen = best([source("mean field", -31.4, np.where(np.arange(100) < 50, 0.1, np.nan)), one_bad], {})
    assert (chosen.value == np.where(np.arange(100) < 5, -31.4, -31.37)).all()
    assert chosen.error.notnull().all()


def test_where_nothing_can_be_trusted_there_is_no_error_but_a_word():
    elbo = xr.DataArray(np.full(100, -2.0), dims="data"), xr.DataArray(np.full(100, 0.01), dims="data")
    chosen = best([source("diagonal", -2.5, np.where(np.arange(100) < 5, np.nan, 0.02))], {"full": elbo})
    assert (chosen.value[:5] == -2.0).all()  # an ELBO, which can be trusted, lies higher
    assert chosen.error.isnull().sum() == 5
    assert "no error can be told, since none can be trusted for 5% of the points" in chosen.words
    assert "too low by 0.500 at least, as the ELBO of full tells" in chosen.words


def test_sources_that_contradict_each_other_are_told_of():
    words = best([source("annealing", -10.0, 0.05), source("IWELBO", -11.386, 0.04)], {}).words
    assert "IWELBO" in words
    assert "1.386" in words
    assert "misses a part of the posterior" in words
    assert "differs" not in best([source("annealing", -10.0, 0.05), source("IWELBO", -10.01, 0.04)], {}).words


class StudentModel(LatentVariableModel):
    """x | z is Student-t around W z, of 3 degrees of freedom."""

    def __init__(self):
        super().__init__(2)
        self.register_buffer("weight", torch.randn(6, 2))

    def likelihood(self, z, *given):
        return dist.StudentT(3.0, z @ self.weight.T, 0.5).to_event(1)


def test_no_gap_is_negative_beyond_its_error():
    """Neither the encoder's weights nor those of its refinement can be trusted everywhere; checked on a grid."""
    torch.manual_seed(0)
    model = freeze(StudentModel())
    x = model.generate(40)[1].sample()
    guide = Amortized(Diagonal(2), 6, hidden=(8,))
    found = tightness(model, guide, x, split=True, refinement={"steps": 80, "rounds": 2})
    assert "refined" in found.attrs["evidence"]
    told = found.log_evidence_se.notnull().values
    good = [(found[name] < found.attrs["khat_threshold"]).values for name in ("khat", "refined_khat")]
    assert (told == good[0] | good[1]).all()
    assert told.mean() > max(one.mean() for one in good)
    truth = quadrature(model, x, nodes=201).log_evidence.values
    exact = {
        "log_evidence": truth,
        "gap": truth - found.elbo.values,
        "approximation_gap": truth - found.refined_elbo.values,
        "amortization_gap": (found.refined_elbo - found.elbo).values,
    }
    for name, value in exact.items():
        columns = (found[column][told] for column in (name, f"{name}_se", f"{name}_bias"))
        mean, error = average(*columns)
        assert abs(mean - value[told].mean()) < 3 * error
        assert name == "log_evidence" or (mean > -2 * error and float(found[name][~told].min()) >= 0)


def test_what_the_optimizer_leaves_is_in_the_error():
    """A full Gaussian is exact here, so its gap after refinement is what the optimizer left."""
    torch.manual_seed(0)
    model = freeze(LinearGaussian(12, 6, scale=0.7))
    x = model.generate(20)[1].sample()
    guide = Amortized(Full(6), 12, hidden=(8,))
    assert refine(model, guide, x, steps=2, rounds=1).left.shape == (20,)
    found = tightness(model, guide, x, split=True, refinement={"steps": 150, "rounds": 3})
    gap, error = average(found.approximation_gap, found.approximation_gap_se, found.approximation_gap_bias)
    assert 0 < gap < 2 * error


def test_few_groups_have_the_error_of_all_draws():
    model, guide, batch = Case("vae", "diagonal").make()
    found = bounds(model, guide, batch, particles=1000, curve=(100, 300, 1000))
    at_300, at_1000 = (found.iwelbo_se.sel(K=count).values for count in (300, 1000))
    np.testing.assert_allclose(at_300, at_1000, rtol=0.5)
    weights = torch.randn(1000, 3)
    assert torch.isfinite(iwelbo(weights, 100)[1]).all()


def test_chains_that_disagree_by_far_tell_no_error():
    found = of_chains(torch.tensor([[0.0, 0.0], [0.1, 9.0], [0.0, 1.0], [0.1, 2.0]], dtype=torch.float64))
    assert found.error.isnan().tolist() == [False, True]
    assert found.bias.isnan().tolist() == [False, True]
