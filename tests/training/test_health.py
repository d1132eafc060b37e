"""What looks wrong with a training is told in one sentence, and a training where all is well says nothing."""

import math
import random
import warnings
from functools import partial

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

from ppl_vae import (
    Guide,
    LatentVariableModel,
    LogEvidence,
    TrainingWarning,
    bounds,
    compare,
    cosine,
    fit,
    freeze,
    load,
    no_guide,
    warm_up,
)
from ppl_vae.guides import Amortized, Diagonal, FixedScale, Prior
from ppl_vae.measure.health import untrusted
from ppl_vae.models import VAE, GaussianMixture, LinearGaussian
from ppl_vae.training import looking
from ppl_vae.training.health import collapsed, noise_of, rate_too_high, rate_too_low, unmoved, unreached
from ppl_vae.training.looking import relation

X = load("digits").train[:400]
QUIET = {"progress": False, "seed": 0}


def said(function, *args, **options):
    """The sentences of a call."""
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        function(*args, **options)
    return [str(one.message) for one in seen if issubclass(one.category, TrainingWarning)]


def vae(latents=2, **options):
    torch.manual_seed(0)
    return VAE(64, latents, hidden=(32,), **options), Amortized(Diagonal(latents), 64, hidden=(32,))


# --- the sentences, from figures -------------------------------------------------------------------------------------

STEPS = np.arange(40.0)
SETTLING = list(-30 - 15 * np.exp(-STEPS / 8))
STRAIGHT = list(-45 + 0.1 * STEPS)
NOISE = np.random.default_rng(0).normal(size=40)


@pytest.mark.parametrize(
    ("sentence", "words"),
    [
        (unreached(["encoder.weight", "encoder.bias"]), ["no gradient reaches the guide (encoder.weight and 1 more)"]),
        (collapsed(0.004, 0, 8, 3.0), ["posterior collapse", "rate 0.004 nats", "0 of 8", "kl_weight=warm_up(0.8)"]),
        (noise_of("x", 2e-5, 3, 64), ["scale of 'x' runs to 0", "2e-05", "in 3 of 64 columns", "floor"]),
        (noise_of("x", 900.0, 1, 1), ["scale of 'x' is 9e+02 times", "standardized"]),
        (rate_too_high([-1e9, -1.1e9, -1e9], -45.0, 10, 3.0), ["-1e+09", "below the -45", "lower lr (it was 3)"]),
        (rate_too_high([-5e4, -50, -44, -42, -42], -45.0, 10), ["-45 in the first step to -5e+04", "epoch 1"]),
        (rate_too_high([*SETTLING[:20], *[-44.0] * 5], -46.0, 10), ["fell from -31.4 to -44"]),
        (rate_too_low(STRAIGHT, 1e-5), ["still rises as fast", "raise lr (it was 1e-05) or epochs"]),
        (unmoved(0.005, 500, 20, 1e-5), ["500 steps of lr=1e-05", "0.005"]),
        (untrusted({"a": 0.1, "b": 0.9}, 0.67), ["below 0.67 with a for 10% of the data points", "annealed"]),
        (untrusted({"a": 0.0}, 0.67, True), ["not below 0.67 with a"]),
    ],
)
def test_a_sentence_says_what_was_found_and_what_to_do(sentence, words):
    assert all(word in sentence for word in words), sentence
    assert "\n" not in sentence


@pytest.mark.parametrize(
    "sentence",
    [
        unreached([]),
        collapsed(0.004, 0, 8, 1.02),  # data in which there is nothing to be told
        collapsed(2.0, 0, 8, 3.0),
        collapsed(0.05, 1, 8, 3.0),
        noise_of("x", 0.3, 0, 64),
        *(rate_too_high(curve, -46.0, 10) for curve in (SETTLING, STRAIGHT, SETTLING[:1], SETTLING[:3])),
        rate_too_high(list(-30 + 0.1 * NOISE), -29.5, 10),  # a pair that was trained already
        rate_too_high(list(-3.9 + 0.2 * NOISE), -3.4, 1),  # one step an epoch, and a lucky first draw
        rate_too_high([-math.inf] * 20, -30.0, 10),  # TraceTailAdaptive_ELBO gives none
        *(rate_too_low(curve) for curve in (SETTLING, STRAIGHT[:9], list(-30 + NOISE), [-math.inf] * 20)),
        rate_too_low(list(-50 + 5 * np.log(1 + STEPS))),
        unmoved(0.28, 280, 20, 1e-3),
        unmoved(0.003, 3, 1, 1e-3),
        untrusted({"a": 0.9, "b": None}, 0.67),
    ],
)
def test_a_sentence_is_empty_where_all_is_well(sentence):
    assert sentence == ""


def test_the_relation_of_columns_is_1_where_there_is_none():
    assert relation(torch.randn(256, 40).double()) == pytest.approx(1.0, abs=0.15)
    assert relation(X[:256].bernoulli().double()) > 1.8
    assert relation(torch.randn(256, 1).double()) == 0


# --- trainings -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("epochs", [1, 4, 30])
def test_a_training_that_goes_well_says_nothing(epochs):
    assert said(fit, *vae(), X, transform=torch.bernoulli, epochs=epochs, lr=3e-3, **QUIET) == []


class Cut(Guide):
    def __init__(self):
        super().__init__()
        self.encoder = nn.Linear(64, 4)

    def posterior(self, x, *given):
        loc, scale = self.encoder(x).detach().chunk(2, -1)
        return dist.Normal(loc, scale.exp()).to_event(1)


def test_a_guide_that_no_gradient_reaches_is_told_at_the_first_step():
    (line,) = said(fit, vae()[0], Cut(), X.round(), epochs=1, **QUIET)
    assert line.startswith("no gradient reaches the guide (encoder.weight and 1 more)")
    assert said(fit, vae()[0], freeze(Cut()), X.round(), epochs=1, **QUIET) == []
    mixture = GaussianMixture(2, 2).initialize(torch.randn(50, 2))
    assert said(fit, mixture, no_guide, torch.randn(50, 2), elbo=LogEvidence(), epochs=2, **QUIET) == []


def test_functions_with_parameters_of_their_own_are_told_apart():
    def model(x):
        bias = pyro.param("bias", torch.zeros(()))
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.sample("x", dist.Normal(z + bias, 1.0), obs=x)

    def guide(x):
        loc = pyro.param("loc", torch.zeros(()))
        with pyro.plate("data", len(x)), torch.no_grad():
            pyro.sample("z", dist.Normal(loc * x, 1.0))

    (line,) = said(fit, model, guide, torch.randn(50), epochs=1, **QUIET)
    assert "the guide (loc)" in line


def test_a_collapse_is_told_and_its_advice_cures_it():
    trained_by = {"transform": torch.bernoulli, "epochs": 30}
    (line,) = said(fit, *vae(8), X, lr=0.1, **trained_by, **QUIET)
    assert line.startswith("posterior collapse")
    assert "0 of 8 latents" in line
    assert "lower lr" in line
    model, guide = vae(8)
    assert said(fit, model, guide, X, lr=0.01, **trained_by, **QUIET) == []


@pytest.mark.parametrize(
    "advice", [{"kl_weight": warm_up(0.8)}, {"free_bits": 0.1}], ids=lambda advice: next(iter(advice))
)
def test_a_collapse_of_deep_networks_is_cured_by_a_weight_on_the_kl_and_by_free_bits(advice):
    x, by = load("digits").train, {"transform": torch.bernoulli, "epochs": 60, "lr": 2e-3, **QUIET}
    ends = []
    for options in ({}, advice):
        pyro.set_rng_seed(1)
        pair = VAE(64, 8, hidden=(64,) * 5), Amortized(Diagonal(8), 64, hidden=(64,) * 5)
        lines = said(fit, *pair, x, **by, **options)
        torch.manual_seed(0)
        ends.append((lines, float(bounds(*pair, x.bernoulli(), particles=20, curve=[1], progress=False).elbo.mean())))
    ((line,), collapsed_at), (nothing, cured_at) = ends
    assert all(f"{name}=" in line for name in advice)
    assert nothing == []
    assert cured_at > collapsed_at + 0.2


def test_with_a_weight_of_its_own_a_curve_may_fall():
    falling = [*SETTLING[:20], *[-44.0] * 5]
    ended = partial(looking.Ended, (None, None), falling, -46.0, 1, 25, (), True, encodes=False, seen=[])
    assert "fell from" in ended(plain=True).sentences()[0]
    assert ended(plain=False).sentences() == []


def test_a_rate_of_0_is_no_collapse_where_it_is_right():
    model, guide = vae()
    with torch.no_grad():
        model.decoder.output.weight.zero_()  # which makes no use of z, and is not trained
    assert said(fit, freeze(model), guide, X, transform=torch.bernoulli, epochs=30, lr=3e-3, **QUIET) == []
    model, _ = vae()
    options = {"epochs": 30, "lr": 3e-3, **QUIET}
    assert said(fit, model, Prior(model), X, transform=torch.bernoulli, **options) == []
    assert said(fit, *vae(), torch.bernoulli(torch.rand(64).expand(400, 64)), **options) == []


class Columns(LatentVariableModel):
    def __init__(self, columns):
        super().__init__(latent_dim=2)
        self.decoder, self.log_scale = nn.Linear(2, columns), nn.Parameter(torch.zeros(columns))

    def likelihood(self, z, *given):
        return dist.Normal(self.decoder(z), self.log_scale.exp()).to_event(1)


def test_a_likelihood_whose_scale_runs_away_is_told():
    x = torch.randn(200, 2) @ torch.randn(2, 6)
    x[:, 3] = 1.0  # a constant column
    options = {"batch_size": 100, **QUIET}
    lines = said(fit, Columns(6), Amortized(Diagonal(2), 6), x, epochs=800, lr=0.01, schedule=cosine, **options)
    assert any("the likelihood's scale of 'x' runs to 0" in line and "1 of 6 columns" in line for line in lines)
    lines = said(fit, Columns(6), Amortized(Diagonal(2), 6), 1e-4 * torch.randn(200, 6), epochs=30, **options)
    assert any("times the data's spread in 6 of 6 columns" in line for line in lines)


def test_a_scale_of_float64_that_all_columns_share_is_seen_as_it_is():
    model, guide = LinearGaussian(30, 8).double(), Amortized(Diagonal(8), 30, hidden=(32,)).double()
    x = model.generate(200)[1].sample().detach()
    assert not any("scale" in line for line in said(fit, model, guide, x, epochs=30, batch_size=50, **QUIET))


def test_a_scale_that_is_given_is_nobodys_fault():
    assert said(fit, *vae(likelihood="gaussian", scale=1e-4), X, epochs=30, lr=1e-3, **QUIET) == []


@pytest.mark.parametrize(
    ("lr", "words"), [(10.0, "the steps are too large"), (1e-7, "move a parameter by"), (2e-5, "as fast at its end")]
)
def test_a_learning_rate_that_is_far_off_is_told(lr, words):
    (line,) = said(fit, *vae(), X, transform=torch.bernoulli, epochs=300 if lr == 2e-5 else 20, lr=lr, **QUIET)
    assert words in line
    assert f"lr={lr:g}" in line or f"it was {lr:g}" in line


# --- what it must not do ---------------------------------------------------------------------------------------------


class Noisy(nn.Module):
    """A network with buffers, dropout, and draws from elsewhere."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(64, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Dropout(0.2), nn.Linear(32, 8))
        self.runs = []

    def forward(self, x):
        self.runs.append(random.random() + np.random.random())
        return self.layers(x)


class Watched(Guide):
    def __init__(self):
        super().__init__()
        self.network = Noisy()

    def posterior(self, x, *given):
        loc, scale = self.network(x).chunk(2, -1)
        return dist.Normal(loc, (0.1 * scale).exp()).to_event(1)


@pytest.mark.parametrize("capture", ["auto", False])
def test_a_look_changes_nothing(monkeypatch, capture):
    ends = []
    for looks in (True, False):
        if not looks:
            monkeypatch.setattr(looking.Ended, "sentences", lambda ended: [])
        pyro.set_rng_seed(0)
        model, guide = VAE(64, 4, hidden=(32,)), Watched()
        history = fit(model, guide, X, transform=torch.bernoulli, epochs=20, capture=capture, **QUIET)
        states = {**model.state_dict(), **{f"guide.{name}": value for name, value in guide.state_dict().items()}}
        modes = [part.training for part in guide.modules()]
        ends.append((history.elbo, states, modes, guide.network.runs, torch.rand(3).tolist(), random.random()))
    (curve, states, *others), (curve_without, states_without, *others_without) = ends
    assert curve == curve_without
    assert all(torch.equal(value, states_without[name]) for name, value in states.items())
    assert others == others_without


def test_a_look_that_fails_is_silent(monkeypatch):
    monkeypatch.setattr(looking, "run", lambda *args: 1 / 0)
    history = fit(*vae(), X, transform=torch.bernoulli, epochs=30, **QUIET)
    assert len(history.elbo) == 30


def test_what_was_told_is_kept_and_not_told_again(tmp_path):
    options = {"transform": torch.bernoulli, "epochs": 20, "lr": 1e-7, "checkpoint": tmp_path / "kept.pt", **QUIET}
    history = fit(*vae(), X, **options)
    assert len(history.advice) == 1
    assert said(fit, *vae(), X, **options) == []  # the training is over already


def test_only_the_first_of_many_processes_speaks(monkeypatch):
    monkeypatch.setattr(looking, "rank", lambda: 1)
    assert said(fit, *vae(), X, transform=torch.bernoulli, epochs=20, lr=1e-7, **QUIET) == []


# --- a comparison ----------------------------------------------------------------------------------------------------


def test_a_comparison_tells_each_thing_once_and_names_the_guide():
    torch.manual_seed(0)
    model = LinearGaussian(30, 8)
    x = model.generate(200)[1].sample().detach()
    narrow = Amortized(FixedScale(8, 0.02), 30, hidden=(32,))
    lines = said(compare, model, {"narrow": narrow}, x, test=x[:40], epochs=2, particles=200, **QUIET)
    assert len(lines) == 1
    assert "with narrow for 0% of the data points" in lines[0]


def test_a_comparison_tells_a_collapse_that_no_training_has_told():
    from ppl_vae.measure.side_by_side import side_by_side

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TrainingWarning)
        model, guide = vae(8)
        fit(model, guide, X, transform=torch.bernoulli, epochs=30, lr=0.1, **QUIET)
    pairs = {"dead": (model, guide), "prior": (model, Prior(model))}
    lines = said(side_by_side, pairs, X[:300].bernoulli(), particles=100, seed=0, progress=False)
    assert [line.startswith("dead: posterior collapse") for line in lines] == [True]
