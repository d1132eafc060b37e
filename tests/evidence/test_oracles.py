"""Numbers against exact answers."""

import math
from functools import partial

import numpy as np
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import Trace_ELBO

from ppl_vae import bounds, cosine, fit, freeze, log_weights
from ppl_vae.guides import Amortized, Diagonal, ExactPosterior, Full
from ppl_vae.measure.bounds import average, default_curve, iwelbo
from ppl_vae.models import VAE, LinearGaussian


@pytest.fixture
def pca():
    torch.manual_seed(0)
    model = freeze(LinearGaussian(20, 8, scale=0.3).double())
    return model, model.generate(500)[1].sample()


def test_log_evidence_is_the_gaussian_marginal(pca):
    model, x = pca
    covariance = model.weight @ model.weight.T + (2 * model.log_scale).exp() * torch.eye(20)
    torch.testing.assert_close(model.log_evidence(x), dist.MultivariateNormal(model.bias, covariance).log_prob(x))


def test_exact_guide_has_no_gap_at_any_data_point(pca):
    model, x = pca
    gaps = model.log_evidence(x) - log_weights(model, ExactPosterior(model), x, particles=10)
    assert gaps.abs().max() < 1e-10


def test_exact_guide_has_no_gap_in_float32():
    torch.manual_seed(0)
    model = freeze(LinearGaussian(20, 8))
    x = model.generate(500)[1].sample()
    found = bounds(model, ExactPosterior(model), x, particles=100)
    assert np.abs(model.log_evidence(x).double().numpy() - found.elbo.values).max() < 2e-5


@pytest.mark.parametrize("family", [Diagonal, Full])
def test_fitted_gaps_match_the_closed_forms(pca, family):
    model, x = pca
    precision = model.posterior_precision()
    diagonal_gap = float(precision.diagonal().log().sum() - precision.logdet()) / 2
    expected = {Diagonal: diagonal_gap, Full: 0.0}[family]
    assert diagonal_gap > 0.5  # the posterior is correlated enough for the test to tell the two apart
    guide = Amortized(family(8), 20, hidden=()).double()
    fit(
        model,
        guide,
        x,
        elbo=Trace_ELBO(num_particles=4, vectorize_particles=True),
        epochs=800,
        batch_size=250,
        schedule=cosine,
        seed=0,
        progress=False,
        optimizer=partial(torch.optim.Adam, lr=2e-2),
    )
    found = bounds(model, guide, x, particles=2000, curve=(1,))
    gap = model.log_evidence(x).mean().item() - average(found.elbo, found.elbo_se)[0]
    assert gap == pytest.approx(expected, abs=0.02)


def test_maximum_likelihood_is_where_training_ends():
    torch.manual_seed(0)
    x = LinearGaussian(10, 3, scale=0.5).generate(400)[1].sample()
    best = LinearGaussian.maximum_likelihood(x, 3)
    ceiling = best.log_evidence(x).mean().item()
    fitted = LinearGaussian(10, 3)
    fit(
        fitted,
        ExactPosterior(fitted),
        x,
        epochs=300,
        batch_size=400,
        progress=False,
        schedule=cosine,
        optimizer=partial(torch.optim.Adam, lr=3e-2),
    )
    reached = fitted.log_evidence(x).mean().item()
    assert ceiling - 0.05 < reached <= ceiling + 1e-4


def test_importance_weights_agree_with_quadrature():
    torch.manual_seed(0)
    model = freeze(VAE(6, 1, hidden=(8,)).double())
    x = model.generate(4)[1].sample()
    grid = torch.linspace(-8, 8, 4001, dtype=torch.float64)[:, None, None]
    joint = dist.Normal(0.0, 1.0).log_prob(grid[..., 0]) + model.likelihood(grid).log_prob(x)
    exact = joint.logsumexp(0) + math.log(16 / 4000)
    found = bounds(model, Amortized(Diagonal(1), 6, hidden=(8,)).double(), x, particles=20000, curve=(20000,))
    errors = (found.iwelbo.values[0] - exact.numpy()) / found.iwelbo_se.values[0]
    assert np.abs(errors).max() < 4
    assert found.iwelbo_se.values.max() < 0.02


def test_standard_errors_hold_the_truth_as_often_as_they_should():
    """log w ~ N(-s^2/2, s^2) has log E[w] = 0; both formulas of the error, over 1000 repeated estimates."""
    torch.manual_seed(0)
    weights = 0.5 * torch.randn(1000, 1000) - 0.125
    for count, exact in ((1, -0.125), (1000, 0.0)):
        value, error = iwelbo(weights, count)
        inside = ((value - exact).abs() < 2 * error).double().mean().item()
        assert inside == pytest.approx(0.9545, abs=4 * math.sqrt(0.9545 * 0.0455 / 1000))


def test_iwelbo_is_the_log_of_group_means():
    weights = torch.tensor([[0.0], [math.log(3.0)], [math.log(5.0)], [math.log(7.0)]])
    assert iwelbo(weights, 2)[0].item() == pytest.approx((math.log(2) + math.log(6)) / 2)
    assert iwelbo(weights, 4)[0].item() == pytest.approx(math.log(4))
    assert iwelbo(weights[:1], 1)[1].isnan().all()


def test_default_curve_ends_at_the_particles():
    assert default_curve(1) == [1]
    assert default_curve(30) == [1, 2, 5, 10, 20, 30]
    assert default_curve(1000)[-3:] == [200, 500, 1000]


@pytest.mark.parametrize("scale", [0.1, 1.0, 3.0])
def test_gaussian_likelihood_has_the_scale_it_was_given(scale):
    model = VAE(6, 2, likelihood="gaussian", scale=scale)
    assert model.generate(3)[1].stddev.unique().item() == pytest.approx(scale, rel=1e-5)
    assert not model.scaled_log_scale.requires_grad


def test_full_covariance_against_the_multivariate_normal():
    """Own draws, through the remembered noise, and any other point, through the inverse."""
    torch.manual_seed(0)
    params = torch.randn(5, Full(4).num_params, dtype=torch.float64)
    found = Full(4)(params).expand((3, 5))
    z = found.rsample()
    loc, scale = params[:, :4], torch.nn.functional.softplus(params[:, 4:8] + math.log(math.e - 1)) + 1e-6
    lower = torch.eye(4, dtype=torch.float64).repeat(5, 1, 1)
    lower[:, *torch.tril_indices(4, 4, -1)] = params[:, 8:] / 4
    reference = dist.MultivariateNormal(loc, scale_tril=scale[..., None] * lower)
    for point in (z, z + 1, torch.zeros(5, 4, dtype=torch.float64), torch.zeros(2, 3, 5, 4, dtype=torch.float64)):
        expected = reference.log_prob(point)
        torch.testing.assert_close(found.log_prob(point), expected.expand(*point.shape[:-3], 3, 5))


def test_full_covariance_knows_its_divergence_from_the_prior():
    params = torch.randn(5, Full(4).num_params, dtype=torch.float64)
    loc, scale = torch.randn(4, dtype=torch.float64), torch.rand(4, dtype=torch.float64) + 0.5
    found = Full(4)(params)
    (triangular,) = found.transforms
    same = dist.MultivariateNormal(triangular.loc, scale_tril=triangular.scale[..., None] * triangular.unit)
    prior = dist.MultivariateNormal(loc, scale_tril=torch.diag_embed(scale)).expand((5,))
    expected = torch.distributions.kl_divergence(same, prior)
    torch.testing.assert_close(
        torch.distributions.kl_divergence(found, dist.Normal(loc, scale).to_event(1).expand((5,))), expected
    )


def test_full_covariance_survives_an_ill_conditioned_factor():
    """In float32 the noise can't be recovered from z here; log q must be right all the same."""
    torch.manual_seed(0)
    family = Full(32)
    params = torch.zeros(1, family.num_params)
    params[:, 64:] = -1.5 * 32  # the inverse of the factor has entries near 1.5 * 2.5^30
    found = family(params)
    z = found.rsample((100,))
    log_q = found.log_prob(z)
    mode = -32 / 2 * math.log(2 * math.pi)  # all scales are 1, so log q = mode - |noise|^2 / 2, a chi-square of 32
    assert (mode - log_q).mean().item() == pytest.approx(16, abs=4 * 4 / 10)
    assert (mode - log_q).min() > 0
    naive = dist.MultivariateNormal(torch.zeros(32), scale_tril=found.transforms[0].unit[0]).log_prob(z)
    assert (naive - log_q).abs().max() > 1e3
