"""Where a guide's parameters come from: a table for each data point, an encoder refined, and the family's optimum."""

from functools import partial

import numpy as np
import pytest
import torch
from pyro.infer import Trace_ELBO
from zoo import FAMILIES, Case

from ppl_vae import bounds, cosine, fit, freeze, refine
from ppl_vae.guides import (
    Amortized,
    Bernoulli,
    Delta,
    Diagonal,
    ExactPosterior,
    Full,
    LowRank,
    Mixture,
    PerDatapoint,
    SemiAmortized,
    Unit,
)
from ppl_vae.measure.bounds import average
from ppl_vae.models import LinearGaussian


@pytest.fixture(scope="module")
def pca():
    torch.manual_seed(0)
    model = freeze(LinearGaussian(20, 8, scale=0.3).double())
    return model, model.generate(50)[1].sample()


def gap(model, guide, *batch, particles=4000):
    torch.manual_seed(5)
    found = bounds(model, guide, batch, particles=particles, curve=(1,))
    return float(model.log_evidence(batch[0]).mean()) - average(found.elbo, found.elbo_se)[0]


def closed_form(model, family):
    precision = model.posterior_precision()
    if family == "diagonal":
        return float(precision.diagonal().log().sum() - precision.logdet()) / 2
    return {"unit": float(precision.trace() - len(precision) - precision.logdet()) / 2}.get(family, 0.0)


@pytest.mark.parametrize("family", [Diagonal, Full, partial(LowRank, rank=3)])
def test_refine_reaches_the_familys_optimum(family):
    torch.manual_seed(0)
    model = freeze(LinearGaussian(6, 3, scale=0.5).double())
    x = model.generate(20)[1].sample()
    guide = Amortized(family(3), 6, hidden=()).double()
    before = {name: value.clone() for name, value in guide.state_dict().items()}
    fit(model, guide, x, epochs=20, progress=False, seed=0, optimizer=partial(torch.optim.Adam, lr=2e-2))
    started = gap(model, guide, x)
    refined = refine(model, guide, x, steps=130)
    reached = gap(model, refined, x, torch.arange(len(x)), particles=40_000)
    expected = closed_form(model, "diagonal" if family is Diagonal else "full")
    assert started > expected + 0.5
    assert reached == pytest.approx(expected, abs=5e-3)
    assert all(before[name].shape == value.shape for name, value in guide.state_dict().items())


def test_refine_has_no_noise_where_antithetic_pairs_cancel_it(pca):
    """A Gaussian posterior and sigma = 1: only the mean is fitted, and its gradient is linear in the noise."""
    model, x = pca
    refined = refine(model, Amortized(Unit(8), 20, hidden=()).double(), x, steps=100)
    means = refined.posterior(x, torch.arange(len(x))).mean
    torch.testing.assert_close(means, model.posterior(x).mean, atol=1e-4, rtol=0)


def test_refine_changes_neither_model_nor_guide(pca):
    model, x = pca
    guide = Amortized(Diagonal(8), 20, hidden=()).double()
    before = [value.clone() for part in (model, guide) for value in part.state_dict().values()]
    refine(model, guide, x, steps=3, rounds=1)
    after = [value for part in (model, guide) for value in part.state_dict().values()]
    assert all(torch.equal(one, other) for one, other in zip(before, after, strict=True))
    assert all(parameter.grad is None for part in (model, guide) for parameter in part.parameters())


@pytest.mark.parametrize(
    ("source", "family"), [("amortized", "iaf"), ("per-datapoint", "diagonal"), ("semi-amortized", "diagonal")]
)
def test_refine_starts_from_any_source(source, family):
    model, guide, batch = Case("linear-gaussian", family, source).make()
    refined = refine(model, guide, batch, steps=60, rounds=1)
    assert gap(model, refined, *batch, torch.arange(len(batch[0]))) < gap(model, guide, *batch) + 1e-3


def test_refine_refuses_what_it_cannot_climb(pca):
    model, x = pca
    with pytest.raises(ValueError, match=r"needs a guide with params.* it got ExactPosterior"):
        refine(model, ExactPosterior(model), x)
    bits, guide, batch = Case("bernoulli-vae", "bernoulli").make()
    with pytest.raises(ValueError, match="climbs reparameterized draws, Bernoulli has none"):
        refine(bits, guide, batch)


def test_a_table_reaches_the_closed_form_without_an_encoder(pca):
    model, x = pca
    guide = PerDatapoint(Diagonal(8), len(x)).double()
    fit(
        model,
        guide,
        (x, torch.arange(len(x))),
        elbo=Trace_ELBO(num_particles=8, vectorize_particles=True),
        epochs=500,
        batch_size=25,
        schedule=cosine,
        progress=False,
        seed=0,
        optimizer=partial(torch.optim.Adam, lr=5e-2),
    )
    assert gap(model, guide, x, torch.arange(len(x))) == pytest.approx(closed_form(model, "diagonal"), abs=0.02)


def test_a_step_touches_the_rows_of_the_batch_alone(pca):
    model, x = pca
    guide = PerDatapoint(Diagonal(8), 1000).double()
    before = guide.table.weight.detach().clone()
    fit(model, guide, (x, torch.arange(100, 150)), epochs=1, progress=False)
    changed = (guide.table.weight != before).any(1).nonzero().squeeze(-1)
    assert torch.equal(changed, torch.arange(100, 150))


def test_a_table_needs_an_index(pca):
    _, x = pca
    guide = PerDatapoint(Diagonal(8), 50).double()
    with pytest.raises(ValueError, match=r"needs the index of each data point .*and got none: call guide\(x, index\)"):
        guide(x)
    with pytest.raises(ValueError, match=r"and got torch.float64 of shape \(50,\)"):
        guide(x, torch.zeros(50, dtype=torch.float64))


def test_semi_amortized_steps_tighten_the_bound(pca):
    model, x = pca
    start = Amortized(Diagonal(8), 20, hidden=()).double()
    gaps = [gap(model, SemiAmortized(start, model, steps=steps, lr=0.2), x, particles=500) for steps in (0, 5, 20)]
    assert gaps[0] > gaps[1] + 1
    assert gaps[1] > gaps[2] + 1


def test_semi_amortized_refuses_discrete_families():
    model, _, (x,) = Case("bernoulli-vae", "bernoulli").make()
    guide = SemiAmortized(Amortized(Bernoulli(3), 12).double(), model)
    with pytest.raises(ValueError, match="Bernoulli has none: take a continuous family"):
        guide(x)


@pytest.mark.parametrize(
    "name", [name for name in FAMILIES if name not in ("delta", "bernoulli", "categorical", "one-hot")]
)
def test_densities_integrate_to_one(name):
    """E_q[r / q] = 1 for any density r that q covers: here a narrow normal about q's mean."""
    torch.manual_seed(0)
    family = FAMILIES[name]().double()
    q = family(0.3 * torch.randn(1, family.num_params, dtype=torch.float64)).expand((50_000, 1))
    z = q()
    r = torch.distributions.Normal(z.mean(0), 0.5 * z.std(0))
    ratio = (r.log_prob(z).sum(-1) - q.log_prob(z)).exp()
    error = float(ratio.std()) / 50_000**0.5
    assert error < 0.05
    assert float(ratio.mean()) == pytest.approx(1, abs=4 * error)


@pytest.mark.parametrize("name", [name for name in FAMILIES if name not in ("bernoulli", "categorical", "one-hot")])
def test_pathwise_gradients_of_the_mean_square(name):
    """d/dparams E[|z|^2] by reparameterized draws against finite differences with common noise or many draws."""
    torch.manual_seed(0)
    family = FAMILIES[name]().double()
    params = 0.3 * torch.randn(family.num_params, dtype=torch.float64)
    direction = torch.randn_like(params)

    count = 40_000 if name in ("nsf", "maf") else 400_000

    def squares(at):
        torch.manual_seed(1)
        return family(at[None]).expand((count, 1))().square().sum(-1).squeeze(-1)

    leaf = params.clone().requires_grad_()
    (slope,) = torch.autograd.grad(squares(leaf).mean(), leaf)
    step = 0.05
    difference = squares(params + step * direction) - squares(params - step * direction)
    expected, error = difference.mean() / (2 * step), difference.std() / count**0.5 / (2 * step)
    assert float(slope @ direction) == pytest.approx(
        float(expected), abs=float(6 * error) + 0.02 * abs(float(expected))
    )


def test_families_refuse_impossible_sizes():
    with pytest.raises(ValueError, match="rank is 0"):
        LowRank(4, rank=0)
    with pytest.raises(ValueError, match="needs at least 2 latents"):
        Mixture(1)
    assert LowRank(3, rank=10).rank == 3
    assert np.isclose(float(Delta(2)(torch.ones(1, 2)).log_prob(torch.ones(1, 2))), 0)
