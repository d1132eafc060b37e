"""Gaussian mixtures and mixture density networks against exact answers, scikit-learn and float32."""

import math
from functools import partial

import numpy as np
import pyro
import pytest
import torch
from pyro.infer import SVI, TraceEnum_ELBO, TraceGraph_ELBO
from sklearn.datasets import load_iris
from sklearn.mixture import GaussianMixture as Reference

from ppl_vae import (
    Converged,
    InputError,
    LogEvidence,
    Patience,
    StoppingRule,
    best_of,
    bounds,
    compare,
    cooldown,
    fit,
    freeze,
    log_weights,
    no_guide,
)
from ppl_vae.guides import Amortized, ExactPosterior, OneHot, Prior
from ppl_vae.models import COVARIANCES, GaussianMixture, LinearGaussian, MixtureDensityNetwork, TwoLayerVAE
from ppl_vae.models.gaussian_mixture import bic
from ppl_vae.models.gaussians import Gaussian, one_of
from ppl_vae.pairs.restore import local_parameters

IRIS = torch.from_numpy(load_iris().data)
adam = partial(torch.optim.Adam, lr=0.03)
quick = {"optimizer": adam, "schedule": cooldown, "progress": False}


def mixture(covariance="full", components=3, seed=0):
    return GaussianMixture(4, components, covariance).double().initialize(IRIS, seed)


def network(covariance="full", components=3, outputs=2, **options):
    return MixtureDensityNetwork(outputs, components, 3, covariance, **options)


@pytest.mark.parametrize("full", [True, False])
def test_the_gaussian_is_torchs(full):
    lower = torch.randn(5, 3, 3, dtype=torch.float64).tril(-1) + torch.eye(3) * (0.5 + torch.rand(5, 1, 3))
    root = lower if full else lower.diagonal(dim1=1, dim2=2)
    center, spread = torch.randn(3).double(), torch.tensor([0.5, 1.0, 20.0]).double()
    ours = Gaussian(torch.randn(5, 3, dtype=torch.float64), root, full, center, spread)
    root = (root if full else root.diag_embed()) / spread
    theirs = torch.distributions.MultivariateNormal(center + spread * ours.loc, precision_matrix=root.mT @ root)
    x = torch.randn(7, 5, 3, dtype=torch.float64)
    torch.testing.assert_close(ours.log_prob(x), theirs.log_prob(x))
    torch.testing.assert_close(ours.covariance, theirs.covariance_matrix)
    torch.testing.assert_close(ours.variance, theirs.variance)
    draws = ours.sample((20000,))
    assert ((draws.mean(0) - ours.mean).abs() < 4.5 * (ours.variance / 20000).sqrt()).all()
    assert torch.einsum("sni,snj->nij", draws - ours.mean, draws - ours.mean).div(20000).sub(ours.covariance).norm() < (
        0.05 * ours.covariance.norm()
    )


@pytest.mark.parametrize("covariance", COVARIANCES)
def test_the_evidence_is_scikit_learns_and_pyros_exact_sum(covariance):
    model = mixture(covariance)
    kind = {"spherical": "spherical", "tied": "tied", "full": "full"}.get(covariance, "diag")
    reference = Reference(3, covariance_type=kind)
    reference.weights_, reference.means_ = model.weights.detach().numpy(), model.means.detach().numpy()
    covariances = model.covariances.detach()
    if covariance.startswith("tied"):
        assert torch.equal(covariances[0], covariances[2])
    full = {"full": covariances, "tied": covariances[0]}
    diagonal = covariances.diagonal(dim1=1, dim2=2)
    held = full.get(kind, diagonal[:, 0] if kind == "spherical" else diagonal)
    root = torch.linalg.inv(torch.linalg.cholesky(held)).mT if kind in full else held.rsqrt()
    reference.covariances_, reference.precisions_cholesky_ = held.numpy(), root.numpy()
    found = model.log_evidence(IRIS).detach()
    np.testing.assert_allclose(found, reference.score_samples(IRIS.numpy()), rtol=1e-10)
    np.testing.assert_allclose(model.posterior(IRIS).probs.detach(), reference.predict_proba(IRIS.numpy()), atol=1e-10)
    summed = -TraceEnum_ELBO(max_plate_nesting=1).loss(model, no_guide, IRIS)
    assert summed == pytest.approx(found.sum().item(), rel=1e-12)
    assert (
        model.num_free
        == 2 + 12 + {"spherical": 3, "diagonal": 12, "tied-diagonal": 4, "tied": 10, "full": 30}[covariance]
    )


@pytest.mark.parametrize(
    "make", [lambda: (mixture(), (IRIS,)), lambda: (network().double(), (IRIS[:, :2], IRIS[:, 1:]))]
)
def test_the_exact_guide_has_no_gap_at_any_data_point(make):
    model, batch = make()
    gaps = model.log_evidence(*batch) - log_weights(freeze(model), ExactPosterior(model), batch, particles=5)
    assert gaps.abs().max() < 1e-10


# mclust's and scikit-learn's optima; the smallest eigenvalues are those of scikit-learn's covariances there
@pytest.mark.parametrize(
    ("covariance", "components", "best"),
    [
        ("full", 3, -180.186),
        ("full", 2, -214.355),
        ("tied", 3, -256.355),
        ("tied-diagonal", 3, -361.430),
        ("spherical", 3, -384.314),
    ],
)
def test_iris_reaches_the_known_optimum(covariance, components, best):
    model, starts = best_of(
        partial(mixture, covariance, components), IRIS, starts=2, epochs=500, batch_size=150, **quick
    )
    kept = next(start for start in starts if start.kept)
    assert [start.seed for start in starts] == [0, 1]
    assert kept.log_likelihood == max(start.log_likelihood for start in starts) == pytest.approx(best, abs=0.05)
    assert kept.log_likelihood == pytest.approx(model.log_evidence(IRIS).sum().item())
    assert not kept.degenerate
    assert kept.smallest_eigenvalue == pytest.approx(torch.linalg.eigvalsh(model.covariances).min().item())
    assert kept.smallest_eigenvalue > 5e-3


def slope(model):
    """The length of the gradient of log p(x), summed over iris, by all parameters."""
    gradients = torch.autograd.grad(model.log_evidence(IRIS).sum(), list(model.parameters()))
    return float(torch.cat([part.flatten() for part in gradients]).norm())


@pytest.mark.parametrize(
    ("covariance", "best"), [("full", -180.186), ("tied", -256.355), ("spherical", -384.314), ("diagonal", -307.178)]
)
def test_em_steps_start_at_an_optimum(covariance, best):
    start, model = mixture(covariance), GaussianMixture(4, 3, covariance).double()
    model.initialize(IRIS, seed=0, em_steps=1000)
    assert model.log_evidence(IRIS).sum().item() == pytest.approx(best, abs=0.01)
    assert slope(model) < 0.01 * slope(start)  # EM ends where the gradient does
    assert not model.degenerate
    single = GaussianMixture(4, 3, covariance).initialize(IRIS.float(), seed=0, em_steps=1000)
    torch.testing.assert_close(single.covariances.double(), model.covariances, rtol=1e-3, atol=1e-4)


def test_each_em_step_gains_and_none_is_the_k_means_start():
    found = [GaussianMixture(4, 3).double().initialize(IRIS, seed=0, em_steps=steps) for steps in (0, 1, 2, 5, 10)]
    assert all(torch.equal(*pair) for pair in zip(found[0].parameters(), mixture().parameters(), strict=True))
    reached = [model.log_evidence(IRIS).sum().item() for model in found]
    assert reached == sorted(reached)
    one = Reference(
        3, max_iter=1, reg_covar=0, weights_init=found[0].weights.detach(), means_init=found[0].means.detach()
    )
    one.precisions_init = torch.linalg.inv(found[0].covariances.detach()).numpy()
    with pytest.warns(UserWarning, match="did not converge"):
        one.fit(IRIS.numpy())
    np.testing.assert_allclose(found[1].covariances.detach(), one.covariances_, atol=1e-5)
    np.testing.assert_allclose(found[1].means.detach(), one.means_, atol=1e-5)


def test_em_that_collapses_is_put_on_the_floor_where_gradients_still_move_it():
    torch.manual_seed(0)
    x = torch.cat([torch.randn(60, 2), torch.full((5, 2), 3.0) + torch.randn(2)]).double()  # five equal rows
    for covariance in ("full", "diagonal", "spherical"):
        model = GaussianMixture(2, 2, covariance, floor=1e-4).double().initialize(x, 0, em_steps=500)
        assert model.degenerate
        assert model.smallest_eigenvalue == pytest.approx(1e-4 * float(x.var(0, correction=0).min()), rel=0.3)
        gradients = torch.autograd.grad(model.log_evidence(x).sum(), list(model.parameters()))
        assert all(part.isfinite().all() and part.any() for part in gradients)


def test_a_collapse_stops_at_the_floor_and_is_not_kept():
    torch.manual_seed(0)
    x = torch.cat([torch.randn(60, 2), torch.full((5, 2), 3.0) + torch.randn(2)]).double()  # five equal rows

    def make(seed):
        return GaussianMixture(2, 2 if seed == 0 else 1, floor=1e-4).double().initialize(x, seed)

    model, starts = best_of(make, x, starts=2, epochs=600, batch_size=65, **quick)
    assert starts[0].log_likelihood > starts[1].log_likelihood
    assert [start.degenerate for start in starts] == [True, False]
    assert [start.kept for start in starts] == [False, True]
    assert model.components == 1
    assert starts[0].smallest_eigenvalue >= 0.99e-4 * float(x.var(0).min())


def noise(rows):
    """Outputs that no input says anything about."""
    torch.manual_seed(0)
    return torch.randn(rows, 1), torch.randn(rows, 3)


def overfitting(seed):
    torch.manual_seed(seed)
    return MixtureDensityNetwork(1, 3, 3, hidden=(50,)).standardize(*noise(60))


FAST = {"epochs": 200, "batch_size": 60, "progress": False, "optimizer": partial(torch.optim.Adam, lr=0.02)}


def test_with_held_out_data_these_stop_and_choose_a_start():
    training, held_out = noise(60), tuple(part[60:] for part in noise(160))
    model, starts = best_of(overfitting, training, starts=3, held_out=held_out, patience=50, **FAST)
    means = [start.held_out for start in starts]
    kept = next(start for start in starts if start.kept)
    assert kept.held_out == max(means)
    assert model.log_evidence(*held_out).mean().item() == pytest.approx(kept.held_out, rel=1e-5)
    assert model.log_evidence(*training).sum().item() == pytest.approx(kept.log_likelihood, rel=1e-5)
    blind, ranked_by_training = best_of(overfitting, training, starts=3, **FAST)
    assert all(one.log_likelihood < other.log_likelihood for one, other in zip(starts, ranked_by_training, strict=True))
    assert blind.log_evidence(*held_out).mean().item() < kept.held_out - 1  # it has learned the noise by heart
    assert next(one for one in ranked_by_training if one.kept).held_out is None


def test_patience_waits_and_puts_the_best_epoch_back():
    training, held_out = noise(60), tuple(part[60:] for part in noise(160))
    model, rule = overfitting(0), Patience(7)
    options = {"elbo": LogEvidence(), "seed": 0, **FAST}
    history = fit(model, no_guide, training, validation=held_out, until=rule, **options)
    assert len(history.elbo) == rule.epoch + 7 < 200
    found = model.log_evidence(*held_out).mean().item()
    assert history.validation[-1] < rule.best == max(history.validation) == pytest.approx(found)
    again = overfitting(0)
    fit(again, no_guide, training, **options | {"epochs": rule.epoch})
    torch.testing.assert_close(again.log_evidence(*held_out), model.log_evidence(*held_out))


def test_starts_tell_their_trainings_and_may_end_by_another_rule():
    training, held_out = noise(60), tuple(part[60:] for part in noise(160))
    _, starts = best_of(overfitting, training, starts=2, held_out=held_out, patience=3, **FAST)
    for start in starts:
        assert len(start.history.elbo) == start.epochs + 3
        assert max(start.history.validation) == pytest.approx(start.held_out)
        assert "not risen for 3 epochs" in start.history.ended

    class AfterTwo(StoppingRule):
        def after_epoch(self, training):
            return "two are enough" if len(training.history.elbo) == 2 else ""

    _, starts = best_of(overfitting, training, starts=2, held_out=held_out, until=AfterTwo(), **FAST)
    assert [(start.epochs, start.history.ended) for start in starts] == [(2, "two are enough")] * 2
    assert [start.held_out for start in starts] == pytest.approx([start.history.validation[-1] for start in starts])


def test_the_ways_to_sum_z_out_have_one_gradient():
    model = mixture()
    found = []
    for elbo, guide in ((TraceEnum_ELBO(max_plate_nesting=1), no_guide), (LogEvidence(), no_guide)):
        with local_parameters(model):
            loss = elbo.differentiable_loss(model, guide, IRIS)
            assert elbo.loss(model, guide, IRIS) == pytest.approx(loss.item())
        found.append(torch.autograd.grad(loss, list(model.parameters())))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other)


def test_fit_by_enumeration_equals_fit_by_the_evidence():
    models = mixture(), mixture()
    fit(models[0], no_guide, IRIS, elbo=TraceEnum_ELBO(max_plate_nesting=1), epochs=5, batch_size=50, seed=0, **quick)
    fit(models[1], no_guide, IRIS, elbo=LogEvidence(), epochs=5, batch_size=50, seed=0, **quick)
    for one, other in zip(*(model.parameters() for model in models), strict=True):
        torch.testing.assert_close(one, other)
    assert not torch.equal(models[0].locs, mixture().locs)


def test_the_evidence_trains_in_plain_svi():
    model = mixture()
    svi = SVI(model, no_guide, pyro.optim.Adam({"lr": 0.03}), LogEvidence())
    losses = [svi.step(IRIS) for _ in range(30)]
    assert losses[-1] < losses[0] - 10


def test_an_enumerated_guides_elbo_has_no_noise():
    model, guide = freeze(mixture()), Amortized(OneHot(3), 4, hidden=(8,)).double()
    guide.enumerates = True
    exact = -TraceEnum_ELBO(max_plate_nesting=1).loss(model, guide, IRIS)
    q = guide.posterior(IRIS).probs.detach()
    assert exact == pytest.approx((q * (model.log_joint(IRIS) - q.log())).sum().item())
    found = bounds(model, guide, IRIS, particles=2000, curve=(1,))
    assert abs(exact - found.elbo.sum()) < 4 * math.sqrt((found.elbo_se**2).sum())


def test_the_table_ranks_the_guides_of_a_mixture():
    model = GaussianMixture(2, 3).double()  # overlapping, as few tables are
    x = model.generate(200)[1].sample().detach()
    amortized = {name: Amortized(OneHot(3), 2, hidden=(16,)).double() for name in ("summed", "drawn")}
    amortized["summed"].enumerates = True
    guides = {"exact": ExactPosterior(model), "prior": Prior(model), **amortized}
    found = compare(
        model,
        guides,
        x,
        test=x,
        epochs=60,
        particles=500,
        batch_size=50,
        progress=False,
        elbo=lambda guide: TraceEnum_ELBO(max_plate_nesting=1) if guide.enumerates else TraceGraph_ELBO(),
        optimizer=partial(torch.optim.Adam, lr=0.01),
    )
    rows = {row.guide: row for row in found.rows}
    assert found.evidence == "exact"
    assert abs(rows["exact"].gap) < 1e-10
    assert -4 * rows["summed"].gap_se < rows["summed"].gap < 0.05 < rows["prior"].gap
    assert rows["summed"].gap < rows["drawn"].gap < rows["prior"].gap


def test_a_large_table_stays_in_bounded_memory():
    model, x = GaussianMixture(3, 4), torch.randn(700_000, 3)
    largest = {"numbers": 0}

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            result = func(*args, **(kwargs or {}))
            if isinstance(result, torch.Tensor):
                largest["numbers"] = max(largest["numbers"], result.numel())
            return result

    with torch.no_grad(), Watch():
        model.log_evidence(x)
    assert largest["numbers"] <= 2**22 < 700_000 * 4 * 3  # never (data, components, columns) at once


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (IRIS[:3], "3 rows for 3 components: take more rows"),
        (IRIS[:, :3], r"shape \(150, 3\); a mixture over 4 columns"),
        (IRIS.clone().index_fill_(1, torch.tensor([2]), 1.0), "column 2 of x is constant"),
        (IRIS.clone().index_fill_(0, torch.tensor([7]), math.nan), "NaN or infinity"),
    ],
)
def test_a_table_that_gives_no_mixture(x, message):
    with pytest.raises(ValueError, match=message):
        GaussianMixture(4, 3).initialize(x)


def test_arguments_that_give_no_mixture():
    with pytest.raises(ValueError, match="choose from spherical, diagonal, tied-diagonal, tied, full"):
        GaussianMixture(4, 3, "banded")
    with pytest.raises(ValueError, match="floor is 0"):
        GaussianMixture(4, 3, floor=0)
    with pytest.raises(ValueError, match="'diagonal' or 'full'"):
        network("tied")
    with pytest.raises(InputError, match="em_steps is 5 for tied-diagonal covariances"):
        GaussianMixture(4, 3, "tied-diagonal").initialize(IRIS, em_steps=5)
    with pytest.raises(InputError, match="em_steps is -1 for full covariances; it is 0 or above"):
        GaussianMixture(4, 3).initialize(IRIS, em_steps=-1)
    with pytest.raises(ValueError, match="floor is -1"):
        network(floor=-1)
    with pytest.raises(ValueError, match="output 1 is constant"):
        network().standardize(torch.tensor([[0.0, 1.0], [1.0, 1.0]]))
    with pytest.raises(ValueError, match="7 outputs; 3 components with full covariances over 2 outputs need 18"):
        network(network=torch.nn.Linear(3, 7)).prior(torch.zeros(5, 3))
    with pytest.raises(ValueError, match=r"level is 1\.5"):
        network().quantile(torch.zeros(5, 3), 1.5)
    with pytest.raises(InputError, match="TwoLayerVAE has no log_evidence"):
        fit(TwoLayerVAE(4, 2), no_guide, IRIS.float(), elbo=LogEvidence(), epochs=1, progress=False)
    with pytest.raises(InputError, match="starts is 0"):
        best_of(mixture, IRIS, starts=0)
    with pytest.raises(InputError, match="patience is 0; a whole number from 1 on"):
        best_of(mixture, IRIS, patience=0)
    with pytest.raises(InputError, match="the held-out data are empty"):
        best_of(mixture, IRIS, held_out=(IRIS[:0],))
    with pytest.raises(InputError, match="the held-out data hold a str; expected a tensor"):
        best_of(mixture, IRIS, held_out=(IRIS, "rows"))
    with pytest.raises(InputError, match="give them as held_out, not as validation"):
        best_of(mixture, IRIS, validation=0.2)
    with pytest.raises(InputError, match=r"patience is 3, and until is .*: give one of them"):
        best_of(mixture, IRIS, held_out=IRIS, patience=3, until=Converged(), epochs=1)


def test_bic_counts_the_free_parameters():
    model = mixture("tied")
    total = model.log_evidence(IRIS).sum().item()
    assert bic(model, IRIS) == pytest.approx(-2 * total + 24 * math.log(150))


def test_exact_evidence_is_for_any_model_that_has_it():
    x = LinearGaussian(6, 2).generate(300)[1].sample()
    model = LinearGaussian(6, 2)
    fit(model, no_guide, x, elbo=LogEvidence(), epochs=300, batch_size=300, seed=0, **quick)
    ceiling = LinearGaussian.maximum_likelihood(x, 2).log_evidence(x).mean().item()
    assert model.log_evidence(x).mean().item() == pytest.approx(ceiling, abs=0.02)


@pytest.mark.parametrize("covariance", ["diagonal", "full"])
def test_a_mixture_density_is_the_sum_over_its_components(covariance):
    model = network(covariance).double().standardize(IRIS[:, :2], IRIS[:, 1:])
    x, given = IRIS[:, :2], IRIS[:, 1:]
    values = model.prior(given).enumerate_support()  # (3, batch, 3)
    joint = model.prior(given).log_prob(values) + model.likelihood(values, given).log_prob(x)
    torch.testing.assert_close(model.log_evidence(x, given), joint.logsumexp(0))
    torch.testing.assert_close(model.posterior(x, given).probs, joint.softmax(0).T)
    predictive = model.predictive(given)
    torch.testing.assert_close(predictive.log_prob(x), model.log_evidence(x, given))
    summed = -TraceEnum_ELBO(max_plate_nesting=1).loss(model, no_guide, x, given)
    assert summed == pytest.approx(model.log_evidence(x, given).sum().item())


@pytest.mark.parametrize("covariance", ["diagonal", "full"])
def test_a_mixture_density_integrates_to_one(covariance):
    model, given = network(covariance).double(), torch.randn(2, 3, dtype=torch.float64)
    line = torch.linspace(-14, 14, 561, dtype=torch.float64)
    grid = torch.cartesian_prod(line, line)
    for row in given:
        total = model.log_evidence(grid, row.expand(len(grid), 3)).exp().sum() * (line[1] - line[0]) ** 2
        assert total.item() == pytest.approx(1, abs=1e-4)


def test_intervals_hold_their_mass_and_modes_are_sorted():
    model, given = network().double(), torch.randn(4, 3, dtype=torch.float64)
    draws = model.predictive(given).sample((20000,))
    low, high = model.interval(given, 0.8)
    inside = ((draws > low) & (draws < high)).double().mean(0)
    assert (inside - 0.8).abs().max() < 4.5 * math.sqrt(0.16 / 20000)
    weights, means, scales = model.modes(given)
    assert (weights.diff(dim=-1) <= 0).all()
    mean = (weights[..., None] * means).sum(1)
    torch.testing.assert_close(mean, model.predictive(given).mean)
    second = (weights[..., None] * (scales.square() + means.square())).sum(1)
    torch.testing.assert_close(second - mean.square(), model.predictive(given).variance)


@pytest.mark.parametrize("covariance", ["diagonal", "full"])
@pytest.mark.parametrize("far", [1e2, 1e6, 1e12, 1e20])
@pytest.mark.parametrize("floor", [1e-3, 1e-8])
@pytest.mark.parametrize("unit", [1e-15, 1.0, 1e15])
def test_no_nan_in_float32(covariance, far, floor, unit):
    """Scales at the floor, points far away, and data in small and large units: value and gradient stay finite."""
    model = network(covariance, floor=floor)
    x = torch.randn(6, 2) * unit
    model.standardize(x)
    with torch.no_grad():
        bias = model.network[-1].bias if hasattr(model.network[-1], "bias") else model.network[-2].bias
        bias[3 + 6 : 3 + 12] = -200.0  # softplus underflows: every scale is the floor
    x[0] *= far if unit * far < 1e30 else 1
    x[1] = float("1e30") if unit == 1 else x[1]
    given = torch.randn(6, 3)
    loss = -model.log_evidence(x, given).sum()
    loss.backward()
    assert loss.isfinite()
    for name, parameter in model.named_parameters():
        assert parameter.grad.isfinite().all(), name
    assert model.posterior(x, given).probs.isfinite().all()
    assert all(part.isfinite().all() for part in model.interval(given))


def test_a_far_outlier_does_not_stop_training_in_float32():
    torch.manual_seed(0)
    given = torch.randn(200, 3)
    x = given[:, :2] + 0.01 * torch.randn(200, 2)
    x[0] = 1e8
    model = network().standardize(x[1:], given)
    history = fit(model, no_guide, (x, given), elbo=LogEvidence(), epochs=20, batch_size=50, progress=False)
    assert np.isfinite(history.elbo).all()
    assert all(parameter.isfinite().all() for parameter in model.parameters())


def test_two_branches_are_found_where_least_squares_finds_none():
    torch.manual_seed(0)
    given = torch.rand(1000, 1) * 2 - 1
    sign = torch.randint(0, 2, (1000, 1)) * 2 - 1.0
    x = sign * (1 + given) + 0.1 * torch.randn(1000, 1)
    model = MixtureDensityNetwork(1, 3, 1, hidden=(32,)).standardize(x, given)
    fit(
        model,
        no_guide,
        (x, given),
        elbo=LogEvidence(),
        epochs=60,
        batch_size=100,
        seed=0,
        progress=False,
        schedule=cooldown,
        optimizer=partial(torch.optim.Adam, lr=0.01),
    )
    noise = math.log(2) + math.log(0.1) + (1 + math.log(2 * math.pi)) / 2  # entropy of the truth, but for the overlap
    assert -model.log_evidence(x, given).mean().item() == pytest.approx(noise, abs=0.12)
    branch = model.posterior(x, given).probs.argmax(-1)
    assert (
        len(
            set(branch[(sign > 0)[:, 0] & (given[:, 0] > 0)].tolist())
            & set(branch[(sign < 0)[:, 0] & (given[:, 0] > 0)].tolist())
        )
        == 0
    )


def test_one_of_picks_for_vectors_and_matrices():
    parameter, z = torch.randn(5, 3, 2, 2), torch.eye(3)[torch.tensor([0, 2, 1, 1, 0])]
    torch.testing.assert_close(one_of(z, parameter, 2), parameter[torch.arange(5), z.argmax(-1)])
    torch.testing.assert_close(one_of(z, parameter[0], 2), parameter[0, z.argmax(-1)])
    torch.testing.assert_close(one_of(z, parameter[..., 0], 1), parameter[torch.arange(5), z.argmax(-1), :, 0])
