"""The engine on programs of any make: plain functions, plates within plates, chunks, mistakes."""

import re

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer.autoguide import AutoDelta, AutoNormal
from pyro.nn import PyroModule
from torch import nn
from zoo import Case

from ppl_vae import InputError, bounds, log_weights
from ppl_vae.estimators import LogWeightELBO
from ppl_vae.guides import Amortized, Delta, Diagonal, ExactPosterior, Family
from ppl_vae.models import VAE, LinearGaussian
from ppl_vae.pairs.densities import log_density
from ppl_vae.pairs.pair import Pair
from ppl_vae.programs import FamilyGuide, Guide, LatentVariableModel


def function_model(x):
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        pyro.sample("x", dist.Normal(z, 1.0), obs=x)


def function_guide(x):
    """The exact posterior."""
    with pyro.plate("data", len(x)):
        pyro.sample("z", dist.Normal(x / 2, 0.5**0.5))


def test_plain_functions():
    x = torch.randn(6)
    weights = log_weights(function_model, function_guide, x, particles=3)
    torch.testing.assert_close(weights, dist.Normal(0.0, 2**0.5).log_prob(x).expand(3, 6))


def test_plates_below_the_data_are_summed():
    """Pixels in a plate of their own instead of an event: the same weights."""

    def model(x):
        with pyro.plate("data", len(x), dim=-2):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            with pyro.plate("pixels", x.shape[1], dim=-1):
                pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    def guide(x):
        with pyro.plate("data", len(x), dim=-2):
            pyro.sample("z", dist.Normal(x.mean(1, keepdim=True), 0.5))

    x = torch.randn(4, 3)
    weights = log_weights(model, guide, x, particles=5)
    assert weights.shape == (5, 4)
    assert Pair(model, guide, x).nesting == 2
    pyro.set_rng_seed(1)
    ours = log_weights(model, guide, x, particles=5).mean()
    pyro.set_rng_seed(1)
    z = x.mean(1) + 0.5 * torch.randn(5, 4, 1).squeeze(-1)
    by_hand = dist.Normal(0.0, 1.0).log_prob(z) + dist.Normal(z[..., None], 1.0).log_prob(x).sum(-1)
    torch.testing.assert_close(ours, (by_hand - dist.Normal(x.mean(1), 0.5).log_prob(z)).mean())


def test_masks_count_and_scales_do_not():
    x = torch.randn(4)

    def scaled(x):
        with poutine.scale(scale=10.0):
            function_model(x)

    seen = torch.tensor([True, False, True, True])

    pyro.set_rng_seed(0)
    plain = log_weights(function_model, function_guide, x)
    pyro.set_rng_seed(0)
    torch.testing.assert_close(log_weights(scaled, function_guide, x), plain)
    pyro.set_rng_seed(0)
    found = log_weights(poutine.mask(function_model, mask=seen), poutine.mask(function_guide, mask=seen), x)
    assert torch.equal(found[:, [0, 2, 3]], plain[:, [0, 2, 3]])
    assert torch.equal(found[:, 1], torch.zeros(1))


def test_deterministic_sites_have_no_weight():
    def model(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.deterministic("twice", 2 * z)
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    x = torch.randn(3)
    torch.testing.assert_close(log_weights(model, function_guide, x)[0], dist.Normal(0.0, 2**0.5).log_prob(x))


@pytest.mark.parametrize("chunk", [1, 3, 10, 1000])
@pytest.mark.parametrize("guide", ["delta", "exact"])
def test_chunks_keep_the_order(chunk, guide, monkeypatch):
    """Both guides have weights without noise, so that any mix-up of rows shows."""
    model, guide, (x,) = Case("linear-gaussian", guide, "amortized" if guide == "delta" else "of-a-model").make()
    whole = log_weights(model, guide, x, particles=7)
    monkeypatch.setattr("ppl_vae.pairs.pair.CHUNK_BYTES", chunk * Pair(model, guide, x).largest_bytes)
    torch.testing.assert_close(log_weights(model, guide, x, particles=7), whole)


def test_chunks_are_chosen_by_the_largest_tensor():
    x = torch.rand(8, 784).bernoulli()
    guide = Amortized(Diagonal(2), 784, hidden=(10,))
    assert Pair(VAE(784, 2, hidden=(10,)), guide, x).largest_bytes == 784 * 4
    assert Pair(VAE(784, 2, hidden=(2000,)), guide, x).largest_bytes == 2000 * 4


def test_probing_leaves_the_random_numbers_alone():
    model, guide, (x,) = Case("vae", "diagonal").make()
    state = torch.get_rng_state()
    Pair(model, guide, x)
    assert torch.equal(torch.get_rng_state(), state)


def test_guides_of_the_same_names_do_not_share_parameters():
    """The global store would give the second guide the first one's encoder, and thaw a frozen model."""
    model, first, (x,) = Case("vae", "diagonal").make()
    _, second, _ = Case("vae", "diagonal").make(seed=1)
    alone = log_weights(model, second, x, particles=50).mean()
    log_weights(model, first, x)
    assert len(pyro.get_param_store()) == 0
    assert (log_weights(model, second, x, particles=50).mean() - alone).abs() < 3


def test_bounds_leave_the_training_mode_alone():
    model, guide, (x,) = Case("vae", "diagonal").make()
    guide.encoder.append(nn.Dropout(0.5))
    guide.encoder[0].eval()
    modes = [part.training for part in guide.modules()]
    bounds(model, guide, x, particles=2)
    assert [part.training for part in guide.modules()] == modes
    assert not all(modes)


@pytest.mark.parametrize(("auto", "is_bound"), [(AutoNormal, True), (AutoDelta, False)])
def test_autoguides(auto, is_bound):
    x = torch.randn(4)
    guide = auto(function_model)
    guide(x)
    found = bounds(function_model, guide, x, particles=20)
    assert found.elbo.shape == (4,)
    assert found.attrs["is_bound"] == is_bound


def test_bounded_memory_yields_all_data():
    model, guide, (x,) = Case("vae", "iaf").make()
    assert sum(draws.log_weights.shape[1] for draws in Pair(model, guide, x).chunks(10)) == len(x)


class _Loose(LatentVariableModel):
    def likelihood(self, z, *given):
        return dist.Normal(z, 1.0)  # .to_event(1) is missing


class _Bare(Guide):
    def posterior(self, x, *given):
        return dist.Normal(x, 1.0)  # .to_event(1) is missing


def outside(x):
    scale = pyro.sample("scale", dist.LogNormal(0.0, 1.0))
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(0.0, scale))
        pyro.sample("x", dist.Normal(z, 1.0), obs=x)


def outside_guide(x):
    pyro.sample("scale", dist.LogNormal(0.0, 1.0))
    function_guide(x)


def test_a_global_latent_gives_one_weight_of_all_the_data():
    assert log_weights(outside, outside_guide, torch.zeros(5), particles=3).shape == (3, 1)


X = torch.zeros(5, 4)
MISTAKES = {
    "no event": (
        lambda: log_weights(_Loose(4), Amortized(Diagonal(4), 4), X),
        r"_Loose.likelihood has event shape \(\), but each data point has shape \(4,\): add .to_event\(1\)",
    ),
    "no event in the guide": (
        lambda: log_weights(LinearGaussian(4, 4), _Bare(), X),
        r"_Bare.posterior has batch shape \(5, 4\), expected \(5,\): .* into the event by .to_event\(1\)",
    ),
    "too many pixels": (
        lambda: log_weights(LinearGaussian(7, 2), Amortized(Diagonal(2), 4), X),
        r"event shape \(7,\), but each data point has shape \(4,\): make the two agree",
    ),
    "a base as a model": (
        lambda: LatentVariableModel(2),
        r"LatentVariableModel has no likelihood: define likelihood\(self, z, \*given\) or a forward of its own",
    ),
    "no likelihood": (
        lambda: type("Mine", (LatentVariableModel,), {"prior": lambda self, *given: None}),
        r"Mine has no likelihood: define likelihood\(self, z, \*given\) or a forward of its own",
    ),
    "a base as a guide": (
        lambda: Guide(),
        r"Guide has no posterior: define posterior\(self, x, \*given\) or a forward of its own",
    ),
    "no posterior": (
        lambda: type("Mine", (Guide,), {}),
        r"Mine has no posterior: define posterior\(self, x, \*given\) or a forward of its own",
    ),
    "a base as a source": (lambda: FamilyGuide(), r"FamilyGuide has no params: define params\(self, x, \*given\)"),
    "no params": (
        lambda: type("Mine", (FamilyGuide,), {}),
        r"Mine has no params: define params\(self, x, \*given\) or a forward of its own",
    ),
    "a base as a family": (lambda: Family(2, 2), r"Family has no forward: define forward\(self, params\)$"),
    "no forward": (
        lambda: type("Mine", (Family,), {}),
        r"Mine has no forward: define forward\(self, params\)$",
    ),
    "no objective": (lambda: type("Mine", (LogWeightELBO,), {})(), "abstract .*objective"),
    "encoder of a wrong width": (
        lambda: log_weights(LinearGaussian(4, 2), Amortized(Delta(2), encoder=nn.Linear(4, 3)), X),
        r"for 5 data points Amortized gives parameters of shape \(5, 3\), but Delta needs \(5, 2\): end its network",
    ),
    "no encoder": (lambda: Amortized(Delta(2)), "give one of the two"),
    "no exact posterior": (lambda: ExactPosterior(VAE(4, 2)), "VAE does not know its posterior"),
    "no latents": (lambda: VAE(4, 0), "latent_dim is 0"),
    "too many latents": (
        lambda: LinearGaussian.maximum_likelihood(X, 4),
        "latent_dim is 4; 4 observed dimensions allow 1 to 3",
    ),
    "unknown likelihood": (lambda: VAE(4, 2, likelihood="poisson"), "'poisson'; a VAE has 'bernoulli' or 'gaussian'"),
    "no noise": (lambda: VAE(4, 2, likelihood="gaussian", scale=0.0), "scale is 0.0"),
    "a latent without a guide": (
        lambda: log_weights(outside, function_guide, torch.zeros(5)),
        "the model's latent 'scale' is missing in the guide: sample it there",
    ),
    "no particles": (lambda: log_weights(function_model, function_guide, torch.zeros(5), particles=0), "from 1 on"),
    "no data": (lambda: log_weights(function_model, function_guide, torch.zeros(0)), "at least one"),
    "no tensor": (lambda: log_weights(function_model, function_guide, ()), "expected a tensor with a row"),
    "K above the particles": (
        lambda: bounds(function_model, function_guide, torch.zeros(5), particles=10, curve=(1, 20)),
        r"curve is \[1, 20\]; each K is a number of particles, from 1 to 10",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_are_named_with_their_mending(mistake):
    call, message = MISTAKES[mistake]
    with pytest.raises((ValueError, TypeError)) as caught:
        call()
    first, *rest = str(caught.value).split("\n")
    assert re.search(message, first)
    assert not rest or "Trace Shapes" in rest[0]  # what Pyro adds to any error inside a program


def test_a_class_that_writes_its_own_forward_needs_no_density():
    forward = {"forward": lambda self, x, *given: None}
    for base in (LatentVariableModel, Guide, FamilyGuide):
        type("Mine", (base,), forward)
    type("Mine", (FamilyGuide,), {"posterior": lambda self, x, *given: None})
    for base in (LatentVariableModel, Guide, FamilyGuide, Family):
        type("Base", (base,), {}, abstract=True)


@pytest.mark.parametrize("kind", [Diagonal, Delta])
def test_pyro_can_mix_a_family_with_its_modules(kind):
    params = torch.zeros(3, kind(2).num_params)
    assert PyroModule[kind](2)(params).batch_shape == (3,)


def test_input_errors_are_value_errors():
    assert issubclass(InputError, ValueError)


@pytest.mark.parametrize("size", [1, 7, 64, 784])
@pytest.mark.parametrize("spread", [0.0, 3.0, 60.0])
def test_bits_have_pyros_density(size, spread):
    torch.manual_seed(0)
    bits = dist.Bernoulli(logits=spread * torch.randn(5, 3, size, dtype=torch.float64)).to_event(1)
    value = torch.rand(3, size, dtype=torch.float64).bernoulli()
    with torch.no_grad():
        torch.testing.assert_close(log_density(bits, value), bits.log_prob(value))
        assert log_density(bits, bits.sample()).shape == (5, 3)
    narrow = dist.Bernoulli(logits=bits.base_dist.logits.float()).to_event(1)
    with torch.no_grad():
        found = log_density(narrow, value.float())
    torch.testing.assert_close(found.double(), bits.log_prob(value), rtol=1e-5, atol=1e-4)


def test_every_data_point_is_checked_once():
    model, guide = VAE(4, 2, hidden=(8,)), Amortized(Diagonal(2), 4, hidden=(8,))
    x = torch.zeros(50, 4)
    x[37, 1] = 0.5
    with pytest.raises(ValueError, match="support"):
        bounds(model, guide, x, particles=100)
