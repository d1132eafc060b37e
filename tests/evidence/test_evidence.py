"""log p(x) by every route, against the same number by another."""

import math
import re

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from zoo import LATENT, MODELS, OBSERVED

from ppl_vae import InputError, freeze
from ppl_vae.evidence import SCHEDULES, annealed, exact_evidence, quadrature, sandwich, simulate, temperatures
from ppl_vae.guides import Amortized, Diagonal
from ppl_vae.models import BernoulliVAE, CategoricalVAE, LinearGaussian, TwoLayerVAE


def pca(latents, count=10, scale=0.7):
    torch.manual_seed(0)
    model = freeze(LinearGaussian(6, latents, scale=scale).double())
    return model, model.generate(count)[1].sample()


def pca_by_itself(latents):
    model, x = pca(latents)
    return model, None, x


def known(dataset):
    return torch.as_tensor(dataset.log_evidence.values)


def within(found, truth, errors=4.5):
    """Each data point inside its own interval, and the mean inside its own, up to a tiny bias of Jensen's."""
    off, se = found.log_evidence.values - np.asarray(truth), found.log_evidence_se.values
    assert (se > 0).all()
    assert np.abs(off).max() < errors * se.max()
    assert abs(off.mean()) < errors * np.sqrt((se**2).sum()) / len(se) + (se**2).mean()


def counts_model(x):
    """Gamma and Poisson: x is negative binomial. The latent is above 0."""
    with pyro.plate("data", len(x)):
        rate = pyro.sample("rate", dist.Gamma(3.0, 1.0))
        pyro.sample("x", dist.Poisson(rate), obs=x)


def pixels_model(x):
    """A latent for each data point, pixels in a plate below it."""
    with pyro.plate("data", len(x), dim=-2):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        with pyro.plate("pixels", x.shape[1], dim=-1):
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_annealing_reaches_the_exact_evidence(schedule):
    model, x = pca(3)
    torch.manual_seed(1)
    found = annealed(model, None, x, steps=60, chains=64, schedule=schedule)
    within(found, model.log_evidence(x))
    assert float(found.acceptance.min()) > 0.4
    assert float(found.acceptance.max()) < 0.95
    assert (found.ess > 5).all()


def test_annealing_from_a_guide():
    model, x = pca(3)
    torch.manual_seed(1)
    within(annealed(model, Amortized(Diagonal(3), 6).double(), x, steps=60, chains=64), model.log_evidence(x))


def test_a_longer_path_is_a_tighter_bound():
    model, x = pca(3, scale=0.3)
    exact_values = model.log_evidence(x).detach().numpy()
    errors = [float((annealed(model, None, x, steps=steps).log_evidence - exact_values).mean()) for steps in (5, 40)]
    assert errors[0] < errors[1] - 0.5


def test_annealing_through_a_constrained_latent():
    x = torch.tensor([0.0, 2.0, 9.0], dtype=torch.float64)
    truth = dist.NegativeBinomial(3.0, probs=torch.tensor(0.5, dtype=torch.float64)).log_prob(x)
    torch.manual_seed(0)
    with torch.no_grad():
        torch.testing.assert_close(known(quadrature(counts_model, x)), truth, atol=2e-5, rtol=0)
    within(annealed(counts_model, None, x.float(), steps=60, chains=64), truth)


def test_annealing_with_a_plate_below_the_data():
    torch.manual_seed(0)
    x = torch.randn(5, 3)
    truth = dist.MultivariateNormal(torch.zeros(3), torch.eye(3) + 1).log_prob(x)
    torch.testing.assert_close(known(quadrature(pixels_model, x)).float(), truth, atol=1e-4, rtol=0)
    within(annealed(pixels_model, None, x, steps=60, chains=64), truth)


@pytest.mark.parametrize("name", ["vae", "vae-gaussian", "two-layer-vae", "conditional-vae"])
def test_the_sandwich_closes(name):
    torch.manual_seed(0)
    model = freeze(MODELS[name]())
    given = (torch.randn(4, 2),) if model.given_count else ()
    batch, found = sandwich(model, (torch.zeros(4, OBSERVED), *given), steps=50, leapfrog=4)
    assert batch[0].shape == (4, OBSERVED)
    assert batch[0].abs().sum() > 0
    error = np.sqrt((found.lower_se**2 + found.upper_se**2).sum()) / 4
    width = float(found.width.mean())
    assert -4 * error < width < 0.5 + 4 * error
    assert float(found.lower.mean()) <= float(found.log_evidence.mean()) + 4 * error


def test_the_sandwich_holds_the_exact_evidence():
    model, x = pca(3, count=40, scale=0.3)
    torch.manual_seed(2)
    (simulated,), found = sandwich(model, x, steps=8)
    truth = float(model.log_evidence(simulated).mean())
    slack = 4 * float(np.sqrt((found.lower_se**2 + found.upper_se**2).sum())) / len(x)
    assert float(found.lower.mean()) < truth + slack
    assert truth < float(found.upper.mean()) + slack
    assert float(found.upper.mean() - found.lower.mean()) > 0.3  # too short a path: the certificate says so


def test_simulated_data_follow_the_model():
    model, x = pca(2, count=20000)
    (simulated,), values = simulate(model, x)
    covariance = (model.weight @ model.weight.T + (2 * model.log_scale).exp() * torch.eye(6)).detach()
    assert (simulated.T.cov() - covariance).abs().max() < 5 * covariance.max() * math.sqrt(2 / len(x))
    residual = simulated - values["z"][0] @ model.weight.T
    assert residual.std().item() == pytest.approx(0.7, rel=0.02)


def test_counted_latents():
    torch.manual_seed(0)
    x = torch.bernoulli(torch.full((7, OBSERVED), 0.5))
    bits = BernoulliVAE(OBSERVED, 6, hidden=(8,))
    z = torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * 6)
    with torch.no_grad():
        by_hand = bits.likelihood(z[:, None]).log_prob(x).double().logsumexp(0) - 6 * math.log(2)
    torch.testing.assert_close(known(exact_evidence(bits, x)), by_hand, atol=1e-5, rtol=0)
    words = CategoricalVAE(OBSERVED, 2, categories=3, hidden=(8,))
    one_hot = torch.eye(3)[torch.cartesian_prod(torch.arange(3), torch.arange(3))]
    with torch.no_grad():
        by_hand = words.likelihood(one_hot[:, None]).log_prob(x).double().logsumexp(0) - 2 * math.log(3)
    torch.testing.assert_close(known(exact_evidence(words, x)), by_hand, atol=1e-5, rtol=0)


def test_counting_two_sites():
    def model(x):
        with pyro.plate("data", len(x)):
            first = pyro.sample("first", dist.Bernoulli(0.3))
            second = pyro.sample("second", dist.Categorical(torch.tensor([0.2, 0.3, 0.5])))
            pyro.sample("x", dist.Normal(first + second, 1.0), obs=x)

    x = torch.tensor([0.0, 1.5, 4.0])
    terms = [
        torch.tensor(first * second).log() + dist.Normal(float(one + two), 1.0).log_prob(x)
        for one, first in enumerate((0.7, 0.3))
        for two, second in enumerate((0.2, 0.3, 0.5))
    ]
    torch.testing.assert_close(known(exact_evidence(model, x)).float(), torch.stack(terms).logsumexp(0))


def test_what_is_not_known_exactly():
    assert exact_evidence(MODELS["vae"](), torch.zeros(2, OBSERVED)) is None
    assert exact_evidence(BernoulliVAE(OBSERVED, 17, hidden=(8,)), torch.zeros(2, OBSERVED)) is None
    assert exact_evidence(TwoLayerVAE(OBSERVED, LATENT, middle_dim=4, widths=(8, 8)), torch.zeros(2, OBSERVED)) is None


@pytest.mark.parametrize("latents", [1, 2])
def test_quadrature_is_exact(latents):
    model, x = pca(latents, scale=0.2)
    torch.testing.assert_close(known(quadrature(model, x)), model.log_evidence(x), atol=1e-9, rtol=0)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_temperatures_rise_from_0_to_1(schedule):
    betas = temperatures(schedule, 50)
    assert len(betas) == 51
    assert betas[0] == 0
    assert betas[-1] == 1
    assert (betas.diff() > 0).all()
    assert temperatures(schedule, 1).tolist() == [0, 1]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: annealed(*pca_by_itself(2), steps=0), "steps is 0; a whole number from 1 on is needed"),
        (lambda: annealed(*pca_by_itself(2), chains=1), "chains is 1; a whole number from 2 on"),
        (lambda: annealed(*pca_by_itself(2), leapfrog=0), "leapfrog is 0"),
        (lambda: annealed(*pca_by_itself(2), schedule="cubic"), "schedule is 'cubic'; choose from sigmoid"),
        (lambda: annealed(MODELS["bernoulli-vae"](), None, torch.zeros(2, OBSERVED)), "the latent 'z' is discrete"),
        (lambda: quadrature(*pca(3)), "quadrature is for one or two latents, the model has 3"),
        (lambda: simulate(lambda x: counts_model(x + 1), torch.ones(3)), "none of its arguments, at most reshaped"),
    ],
)
def test_mistakes(make, message):
    with pytest.raises(InputError, match=re.escape(message)):
        make()
