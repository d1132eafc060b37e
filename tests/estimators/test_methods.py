"""A pair whose model and guide are methods of one module, as in Pyro's own VAE example."""

import warnings
from functools import partial

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import Trace_ELBO, config_enumerate
from torch import nn

from ppl_vae import bounds, check, fit, gradient_statistics
from ppl_vae.evidence import sandwich
from ppl_vae.pairs.modules import modules_of

PIXELS, LATENTS = 12, 2


class Tutorial(nn.Module):
    def __init__(self, encoder=None):
        super().__init__()
        self.decoder = nn.Sequential(nn.Linear(LATENTS, 8), nn.Softplus(), nn.Linear(8, PIXELS), nn.Sigmoid())
        self.encoder = encoder if encoder is not None else nn.Linear(PIXELS, 2 * LATENTS)

    def model(self, x):
        pyro.module("decoder", self.decoder)
        with pyro.plate("data", x.shape[0]):
            zeros, ones = x.new_zeros(x.shape[0], LATENTS), x.new_ones(x.shape[0], LATENTS)
            z = pyro.sample("latent", dist.Normal(zeros, ones).to_event(1))
            pixels = dist.Bernoulli(self.decoder(z), validate_args=False).to_event(1)
            pyro.sample("obs", pixels, obs=x.reshape(-1, PIXELS))

    def guide(self, x):
        pyro.module("encoder", self.encoder)
        with pyro.plate("data", x.shape[0]):
            loc, log_scale = self.encoder(x.reshape(-1, PIXELS)).chunk(2, -1)
            pyro.sample("latent", dist.Normal(loc, log_scale.exp()).to_event(1))


def make(noisy=False):
    torch.manual_seed(0)
    pyro.clear_param_store()
    x = torch.full((8, PIXELS), 0.3).bernoulli()
    layers = nn.Sequential(nn.Linear(PIXELS, 8), nn.BatchNorm1d(8), nn.Dropout(0.3), nn.Linear(8, 2 * LATENTS))
    return Tutorial(layers if noisy else None), x


def test_methods_train_captured_as_uncaptured_with_buffers():
    found = []
    for capture in (False, True):
        both, x = make(noisy=True)
        history = fit(both.model, both.guide, x, epochs=6, batch_size=8, seed=1, capture=capture, progress=False)
        found.append((history.elbo, nn.utils.parameters_to_vector(both.parameters()).detach()))
        assert int(both.encoder[1].num_batches_tracked) == 6 + 1  # and once to set up
        assert not both.training
    torch.testing.assert_close(found[0], found[1], rtol=1e-4, atol=1e-6)
    assert found[0][0][-1] > found[0][0][0]


def test_bounds_run_in_eval_mode_and_leave_the_mode_alone():
    both, x = make(noisy=True)
    bounds(both.train().model, both.guide, x, particles=10)
    assert both.training
    assert both.encoder[2].training
    assert int(both.encoder[1].num_batches_tracked) == 0


def test_methods_are_checked_and_their_gradients_named():
    both, x = make()
    assert check(both.model, both.guide, x) == []
    groups = set(gradient_statistics(both.model, both.guide, x, elbo=Trace_ELBO(), draws=20).group.values)
    assert {"decoder.0", "decoder.2", "encoder", "total"} <= groups


class Forgetful(Tutorial):
    def guide(self, x):
        with pyro.plate("data", x.shape[0]):
            loc, log_scale = self.encoder(x).chunk(2, -1)
            pyro.sample("latent", dist.Normal(loc, log_scale.exp()).to_event(1))


def test_a_network_that_is_used_but_not_registered_is_told():
    _, x = make()
    both = Forgetful()
    before = both.encoder.weight.detach().clone()
    with pytest.warns(UserWarning, match="not trained: encoder.weight, encoder.bias, which no pyro.module"):
        fit(both.model, both.guide, x, epochs=2, progress=False)
    assert torch.equal(both.encoder.weight, before)
    both.encoder.requires_grad_(False)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="used, but not trained")
        fit(both.model, both.guide, x, epochs=2, progress=False)
    both.encoder.requires_grad_(True)
    assert check(both.model, both.guide, x) == [
        "encoder.weight is used, but no pyro.module registers it: it would not be trained",
        "encoder.bias is used, but no pyro.module registers it: it would not be trained",
    ]


def test_networks_of_methods_run_in_bfloat16():
    both, x = make()
    seen = []
    both.encoder.register_forward_hook(lambda module, args, output: seen.append(torch.is_autocast_enabled("cpu")))
    fit(both.model, both.guide, x, epochs=1, precision="bf16", progress=False)
    assert any(seen)


def test_methods_are_moved_to_the_device(monkeypatch):
    both, x = make()
    moved = []
    to = nn.Module.to
    monkeypatch.setattr(nn.Module, "to", lambda module, *args: (moved.append(module), to(module, *args))[1])
    fit(both.model, both.guide, x, epochs=1, progress=False)
    assert both in moved


def test_data_drawn_from_the_model_take_the_place_of_a_reshaped_argument():
    both, x = make()
    (drawn,), found = sandwich(both.model, x.reshape(-1, 3, 4), steps=20)
    assert drawn.shape == (8, 3, 4)
    assert not torch.equal(drawn.reshape(8, -1), x)
    assert bool((found.upper > found.lower - 1).all())


@pytest.mark.parametrize("wrap", [lambda f: f, lambda f: partial(f, None), config_enumerate])
def test_the_module_behind_a_program_is_found(wrap):
    both, _ = make()
    assert modules_of(wrap(both.model), wrap(both.guide)) == [both]
    assert modules_of(wrap(both)) == [both]
    assert modules_of(wrap(len)) == []


def of_functions():
    """The same programs as plain functions, their networks in a closure."""
    both, x = make(noisy=True)
    encoder, decoder = both.encoder, both.decoder

    def model(x):
        pyro.module("decoder", decoder)
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(x.new_zeros(len(x), LATENTS), 1.0).to_event(1))
            pyro.sample("x", dist.Bernoulli(decoder(z)).to_event(1), obs=x)

    def guide(x):
        pyro.module("encoder", encoder)
        with pyro.plate("data", len(x)):
            loc, log_scale = encoder(x).chunk(2, -1)
            pyro.sample("z", dist.Normal(loc, log_scale.exp()).to_event(1))

    return model, guide, x, encoder


def test_networks_of_functions_are_in_the_modes_of_modules():
    found = []
    for capture in (False, True):
        model, guide, x, encoder = of_functions()
        history = fit(model, guide, x, epochs=6, batch_size=8, seed=1, capture=capture, progress=False)
        assert not encoder.training
        found.append((history.elbo, encoder[1].running_mean.clone(), int(encoder[1].num_batches_tracked)))
        bounds(model, guide, x, particles=10)
        assert check(model, guide, x) == []
        assert int(encoder.train()[1].num_batches_tracked) == found[-1][2]
        assert check(model, guide, x) == []
        bounds(model, guide, x, particles=10)
        assert encoder.training
        assert int(encoder[1].num_batches_tracked) == found[-1][2]
    torch.testing.assert_close(found[0], found[1], rtol=1e-4, atol=1e-6)


def test_a_network_of_a_function_that_nothing_registers_is_told():
    model, _, x, encoder = of_functions()

    def guide(x):
        with pyro.plate("data", len(x)):
            loc, log_scale = encoder(x).chunk(2, -1)
            pyro.sample("z", dist.Normal(loc, log_scale.exp()).to_event(1))

    with pytest.warns(UserWarning, match=r"used, but not trained: encoder.0.weight, .* no pyro.module registers"):
        fit(model, guide, x, epochs=2, progress=False)
    told = check(model, guide, x)
    assert "encoder.0.weight is used, but no pyro.module registers it: it would not be trained" in told


LAYER = nn.Linear(2, 2)


def helper(x):
    return LAYER(x)


class Holder:
    def __init__(self):
        self.parts = {"one": nn.Linear(2, 3)}

    def model(self, x):
        return [self.parts["one"](part) for part in x]


def test_modules_are_found_in_globals_helpers_holders_and_lists():
    holder, inside = Holder(), [nn.Linear(3, 3)]
    assert modules_of(lambda x: (lambda: helper(x))()) == [LAYER]
    assert modules_of(holder.model) == [holder.parts["one"]]
    assert modules_of(lambda x: inside[0](x)) == inside
    assert modules_of(lambda x: pyro.sample("x", dist.Normal(x, 1.0))) == []
