"""A Gaussian likelihood starts from the data, and its scale gets to what the decoder leaves within a training."""

import math
from functools import partial

import pyro
import pytest
import torch
from pyro.infer import TraceMeanField_ELBO

from ppl_vae import InputError, bounds, cooldown, fit, load
from ppl_vae.data.images import Images
from ppl_vae.guides import Amortized, Diagonal
from ppl_vae.models import VAE, ConditionalVAE, LinearGaussian
from ppl_vae.runs.image_data import builder_for, initialized_model

DIGITS = load("digits")


def constant_image(train, x):
    """Mean log-density in nats of the mean image with one scale for all pixels: the model that has no latent."""
    spread = (train - train.mean(0)).square().mean().sqrt()
    return torch.distributions.Normal(train.mean(0), spread).log_prob(x).sum(1).mean().item()


@pytest.mark.parametrize("make", [VAE, lambda *sizes, **options: ConditionalVAE(*sizes, 3, **options), LinearGaussian])
def test_it_starts_as_the_mean_with_the_spread_of_the_data(make):
    torch.manual_seed(0)
    x = 5 + 0.1 * torch.randn(200, 6)
    options = {} if make is LinearGaussian else {"likelihood": "gaussian"}
    model = make(6, 2, **options).initialize(x)
    given = (torch.zeros(1000, 3),) if model.given_count else ()
    found = model.generate(1000, *given)[1]
    spread = (x - x.mean(0)).square().mean().sqrt()
    torch.testing.assert_close(found.base_dist.scale.flatten()[0], spread)
    tolerance = 0.02 if make is LinearGaussian else 1.0  # what the weights of a network add at the start
    assert (found.mean.mean(0) - x.mean(0)).abs().max() < tolerance
    again = [parameter.clone() for parameter in model.initialize(x).parameters()]
    for one, other in zip(again, model.parameters(), strict=True):
        torch.testing.assert_close(one, other)


def test_a_given_scale_a_network_of_ones_own_and_bits_stay_as_they_are():
    x = torch.rand(20, 6)
    assert VAE(6, 2, likelihood="gaussian", scale=0.3).initialize(x).scale.item() == pytest.approx(0.3)
    own = torch.nn.Sequential(torch.nn.Linear(2, 6), torch.nn.Sigmoid())
    before = own[0].bias.clone()
    VAE(6, 2, likelihood="gaussian", decoder=own).initialize(x)
    assert torch.equal(own[0].bias, before)
    bits = VAE(6, 2)
    before = {name: value.clone() for name, value in bits.state_dict().items()}
    for name, value in bits.initialize(x).state_dict().items():
        assert torch.equal(value, before[name])


def initialized(name, source=DIGITS, latents=4):
    return initialized_model(builder_for(source, latents, (8,), "gaussian"), name, source)


def test_data_without_a_spread_are_refused():
    flat = torch.full((10, 4), 0.5)
    for model in (VAE(4, 2, likelihood="gaussian"), LinearGaussian(4, 2)):
        with pytest.raises(ValueError, match="all data points are equal, so that a Gaussian likelihood has no scale"):
            model.initialize(flat)
    with pytest.raises(InputError, match="all data points are equal"):
        initialized("vae", Images("flat", flat, flat, (2, 2)), 2)


@pytest.mark.parametrize("scale", [1e-6, 1e-2, 1.0, 200.0, 1e6])
def test_any_scale_can_be_given(scale):
    found = VAE(6, 2, likelihood="gaussian", scale=scale).scale
    assert found.item() == pytest.approx(scale, rel=1e-4)
    assert math.isfinite(found.item())


@pytest.mark.parametrize("initialized", [True, False])
def test_the_scale_gets_to_what_the_decoder_leaves(initialized):
    """After 480 steps, a fifth of the command line's, the scale is the residuals' within a few percent."""
    pyro.set_rng_seed(0)
    model, guide = VAE(64, 8, "gaussian", hidden=(50,)), Amortized(Diagonal(8), 64, hidden=(50,))
    if initialized:
        model.initialize(DIGITS.train)
    optimizer = partial(torch.optim.Adam, lr=1e-3, fused=True)
    fit(
        model,
        guide,
        DIGITS.train,
        elbo=TraceMeanField_ELBO(),
        optimizer=optimizer,
        epochs=40,
        seed=0,
        schedule=cooldown,
        progress=False,
    )
    with torch.no_grad():
        residual = DIGITS.train - model.likelihood(guide.posterior(DIGITS.train).sample()).mean
    assert model.scale.item() == pytest.approx(residual.square().mean().sqrt().item(), rel=0.05)
    found = bounds(model, guide, DIGITS.test, particles=20, curve=(1,)).elbo.mean().item()
    assert found > constant_image(DIGITS.train, DIGITS.test) + 10


def test_the_command_lines_models_start_from_the_data():
    spread = (DIGITS.train - DIGITS.train.mean(0)).square().mean().sqrt().item()
    assert initialized("vae").scale.item() == pytest.approx(spread)
    assert initialized("conditional-vae").scale.item() == pytest.approx(spread)
    assert initialized("linear-gaussian").log_scale.exp().item() == pytest.approx(spread)
