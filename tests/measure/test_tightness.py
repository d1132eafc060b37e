"""One call: gaps with known answers, diagnostics with known answers, ArviZ on both of its versions."""

import math
import re
import warnings
from functools import partial

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from zoo import MODELS, OBSERVED

from ppl_vae import InputError, compare, fit, freeze, generalization, tightness
from ppl_vae.guides import Amortized, Delta, Diagonal, ExactPosterior, FixedScale, Full, Prior
from ppl_vae.measure.arviz import to_arviz
from ppl_vae.measure.bounds import average
from ppl_vae.measure.information import information
from ppl_vae.models import LinearGaussian
from ppl_vae.pairs.psis import effective_sample_size, khat_threshold, pareto_k, shares, smoothed
from ppl_vae.plots import gaps


def pca(latents=4, count=60, scale=1.0):
    torch.manual_seed(0)
    model = freeze(LinearGaussian(12, latents, scale=scale).double())
    return model, model.generate(count)[1].sample()


def fitted(model, x, family, epochs=60):
    guide = Amortized(family, x.shape[1], hidden=()).double()
    fit(model, guide, x, epochs=epochs, optimizer=partial(torch.optim.Adam, lr=1e-2), progress=False, seed=0)
    return guide


def test_the_gap_splits_into_known_parts():
    model, x = pca(count=30)
    guide = fitted(model, x, Diagonal(4))
    found = tightness(model, guide, x, split=True, refinement={"steps": 100})
    precision = model.posterior_precision()
    best = float(precision.diagonal().log().sum() - precision.logdet()) / 2
    approximation, error = average(found.approximation_gap, found.approximation_gap_se)
    assert approximation == pytest.approx(best, abs=4 * error + 2e-3)
    mean = guide.posterior(x).base_dist
    off = (model.posterior(x).mean - mean.loc).detach()
    kl = 0.5 * (
        (mean.scale.square() * precision.diagonal()).sum(-1)
        + torch.einsum("ni,ij,nj->n", off, precision, off)
        - 4
        - precision.logdet()
        - mean.scale.square().log().sum(-1)
    )
    gap, error = average(found.gap, found.gap_se)
    assert gap == pytest.approx(float(kl.mean()), abs=4 * error)
    np.testing.assert_allclose(found.gap, found.approximation_gap + found.amortization_gap)
    assert found.attrs["evidence"] == "exact"


def test_the_exact_guide_leaves_nothing():
    model, x = pca()
    found = tightness(model, ExactPosterior(model), x, particles=100)
    assert np.abs(found.gap).max() < 1e-9
    assert (found.khat == 0).all()
    assert np.allclose(found.ess, 100)


def test_a_point_mass_has_no_gap():
    model, x = pca()
    found = tightness(model, fitted(model, x, Delta(4), epochs=2), x, particles=50)
    assert all(bool(found[name].isnull().all()) for name in ("gap", "khat", "ess", "rate"))
    assert np.isnan(found.attrs["mutual_information"])
    assert found.attrs["is_bound"] == 0


@pytest.mark.parametrize("source", ["importance", "annealed"])
def test_evidence_by_other_routes(source):
    model, x = pca(count=20)
    torch.manual_seed(1)
    found = tightness(model, fitted(model, x, Diagonal(4)), x, evidence=source, annealing={"steps": 50, "chains": 32})
    off = found.log_evidence.values - model.log_evidence(x).detach().numpy()
    error = float(np.sqrt((found.log_evidence_se**2).sum())) / len(x)
    assert abs(off.mean()) < 4.5 * error + float((found.log_evidence_se**2).mean())
    assert "lower bound" in found.attrs["evidence"]


def test_rate_and_distortion_make_the_elbo():
    model, x = pca()
    found = tightness(model, fitted(model, x, Diagonal(4)), x)
    error = float(np.sqrt((found.elbo_se**2 + found.rate_se**2 + found.distortion_se**2).sum())) / len(x)
    assert float(-(found.rate + found.distortion).mean()) == pytest.approx(float(found.elbo.mean()), abs=4 * error)


def test_what_passes_through_z():
    """Nothing through the prior; everything, log N nats, through posteriors that never meet."""
    model, x = pca()
    blind = information(model, Prior(model), x).attrs
    assert blind["active_units"] == 0
    assert blind["mutual_information"] == pytest.approx(0, abs=1e-12)
    assert blind["marginal_kl"] == pytest.approx(0, abs=1e-12)
    sharp = information(model, fitted(model, x, FixedScale(4, 1e-6), epochs=1), x).attrs
    assert sharp["mutual_information"] == pytest.approx(math.log(len(x)), abs=1e-9)
    assert sharp["active_units"] == 4


def test_a_latent_that_the_model_ignores_is_not_active():
    model, x = pca()
    model.weight.data[:, 1] = 0
    assert information(model, ExactPosterior(model), x).attrs["active_units"] == 3


@pytest.mark.parametrize("shape", [0.3, 0.7, 1.2])
def test_khat_is_the_shape_of_a_pareto_tail(shape):
    torch.manual_seed(0)
    weights = -shape * torch.rand(4000, 20, dtype=torch.float64).log()
    found = pareto_k(weights)
    tail = min(0.2 * 4000, 3 * 4000**0.5)
    assert found.mean() == pytest.approx(shape, abs=4 * (1 + shape) / math.sqrt(20 * tail) + 0.02)


def test_khat_classes():
    assert khat_threshold(1000) == pytest.approx(2 / 3)
    assert khat_threshold(10**6) == 0.7
    assert shares([0.1, 0.65, 0.69, 2.0], khat_threshold(1000)) == pytest.approx(
        {"good": 0.5, "bad": 0.25, "very bad": 0.25}
    )
    even = torch.zeros(50, 2)
    assert (pareto_k(even) == 0).all()
    assert np.allclose(effective_sample_size(even), 50)
    hopeless = torch.full((50, 2), -math.inf)
    assert np.isinf(pareto_k(hopeless)).all()
    with pytest.raises(InputError, match="all -inf or NaN"):
        smoothed(hopeless)


def test_no_generalization_gap_between_the_same_images():
    model, x = pca()
    found = generalization(model, fitted(model, x, Diagonal(4)), x, held_out=x, particles=100)
    assert found["log_evidence"][0] == 0
    assert found["log_evidence"][1] > 0
    assert abs(found["gap"][0]) < 4 * found["gap"][1]


def test_compare_splits_what_can_be_split():
    model, x = pca(count=30)
    guides = {
        "diagonal": fitted(model, x, Diagonal(4)),
        "full": fitted(model, x, Full(4)),
        "exact": ExactPosterior(model),
    }
    for guide in guides.values():
        freeze(guide)
    found = compare(
        model,
        {**guides, "prior": Prior(model)},
        x,
        test=x,
        particles=200,
        split=True,
        evidence="exact",
        device="cpu",
        refinement={"steps": 20, "rounds": 1},
    )
    rows = {row.guide: row for row in found.rows}
    assert rows["exact"].approximation_gap is None
    assert rows["diagonal"].approximation_gap > 0
    assert rows["exact"].khat_good == 1
    assert rows["prior"].khat_good < 0.8
    assert rows["prior"].active_units == 0
    assert rows["prior"].rate == 0
    for name in ("gap", "approximation_gap", "khat", "rate", "active_units"):
        assert "guide" in found.bounds[name].dims
    for figure in (gaps.stacked_gaps(found), gaps.rate_distortion(found)):
        assert figure.axes


def test_to_arviz_draws_from_the_posterior():
    model, x = pca(latents=2, count=30, scale=4.0)
    torch.manual_seed(0)
    tree = to_arviz(model, fitted(model, x, Diagonal(2), epochs=400), x, draws=500)  # so long for even weights
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import arviz

        other = to_arviz(freeze(LinearGaussian(12, 2, scale=8.0).double()), Prior(model), x, draws=500)
        loo = arviz.loo(tree)
        table = arviz.compare({"right": tree, "wrong": other})
    posterior = model.posterior(x)
    draws = tree["posterior"]["z"]
    assert draws.dims == ("chain", "draw", "data", "z_dim_0")
    assert draws.shape == (4, 500, 30, 2)
    spread = posterior.variance.sqrt().detach().numpy()
    assert np.abs(draws.mean(("chain", "draw")) - posterior.mean.detach().numpy()).max() < 5 * spread.max() / 1000**0.5
    assert np.abs(draws.std(("chain", "draw")) / spread - 1).max() < 0.2
    value = float(loo.elpd_loo if hasattr(loo, "elpd_loo") else loo.elpd)
    assert value == pytest.approx(float(model.log_evidence(x).sum()), abs=1.0)
    assert table.index[0] == "right"
    assert float(tree["importance"]["khat"].max()) < 1
    np.testing.assert_allclose(tree["importance"]["log_evidence"], model.log_evidence(x).detach(), atol=0.2)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda model, x: tightness(model, ExactPosterior(model), x, evidence="guess"),
            "evidence is 'guess'; choose from auto",
        ),
        (lambda model, x: tightness(model, Prior(model), x, split=True), "the gap of a Prior can't be split"),
        (
            lambda model, x: tightness(MODELS["vae"](), Amortized(Diagonal(3), OBSERVED), x.float(), evidence="exact"),
            "log p(x) of a VAE is not known exactly",
        ),
        (lambda model, x: to_arviz(model, ExactPosterior(model), x, chains=2, draws=5), "chains x draws is 2 x 5"),
        (lambda model, x: to_arviz(model, Amortized(Delta(4), 12).double(), x), "the guide is a point mass"),
        (
            lambda model, x: information(model, ExactPosterior(model), x, particles=1),
            "particles is 1; a whole number from 2 on",
        ),
    ],
)
def test_mistakes(make, message):
    model, x = pca(count=5)
    with pytest.raises(InputError, match=re.escape(message)):
        make(model, (x > 0).double())


def test_latents_that_are_whole_numbers():
    torch.manual_seed(0)
    x, places = torch.randn(8, 6), torch.randn(3, 6)

    def model(x):
        with pyro.plate("data", len(x)):
            kind = pyro.sample("kind", dist.Categorical(torch.ones(3) / 3))
            pyro.sample("x", dist.Normal(places[kind], 1.0).to_event(1), obs=x)

    def guide(x):
        with pyro.plate("data", len(x)):
            pyro.sample("kind", dist.Categorical(logits=torch.zeros(len(x), 3)))

    found = tightness(model, guide, x, particles=100)
    log_p = dist.Normal(places, 1.0).to_event(1).log_prob(x[:, None]).logsumexp(-1) - math.log(3)
    np.testing.assert_allclose(found.log_evidence, log_p, rtol=1e-5)
