"""Healthy and sick trainings of all kinds, drawn at random: what ``benchmarks/false_alarms.py`` counts alarms over."""

import math
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from sklearn.datasets import load_iris
from torch import Tensor, nn

from ppl_vae import Guide, LatentVariableModel, LogEvidence, cooldown, cosine, load, no_guide
from ppl_vae.estimators import ESTIMATORS, IWAE, Enumeration
from ppl_vae.guides import (
    AUTOGUIDES,
    FAMILIES,
    Amortized,
    Diagonal,
    FixedScale,
    OneHot,
    PerDatapoint,
    Prior,
    TwoLayer,
)
from ppl_vae.models import (
    VAE,
    BayesianMixture,
    BernoulliVAE,
    CategoricalVAE,
    ConditionalVAE,
    EightSchools,
    GaussianMixture,
    HierarchicalPoisson,
    ItemResponse,
    LinearGaussian,
    LinearRegression,
    LogisticRegression,
    MixtureDensityNetwork,
    TwoLayerVAE,
)

DIGITS = load("digits")


@dataclass
class Training:
    """A pair with its data, and how it is trained: ``fit(model, guide, data, **options)``."""

    model: Any
    guide: Any
    data: Any
    options: dict[str, Any] = field(default_factory=dict)


Drawn = Callable[[random.Random], Training]


def between(draw: random.Random, low: float, high: float) -> float:
    """A number between two, evenly in its logarithm."""
    return math.exp(draw.uniform(math.log(low), math.log(high)))


def of_digits(draw: random.Random) -> dict[str, Any]:
    """What a training on digits usually takes."""
    return {
        "lr": between(draw, 1e-3, 4e-3),
        "epochs": draw.choice((3, 5, 8, 20, 40)),
        "batch_size": draw.choice((32, 64, 128, 256)),
        "schedule": draw.choice((None, None, cooldown, cosine)),
    }


def rows(draw: random.Random) -> Tensor:
    """Some of the digits' images."""
    return DIGITS.train[: draw.choice((400, 800, 1437))]


# --- healthy ---------------------------------------------------------------------------------------------------------


def digits(draw: random.Random) -> Training:
    """A VAE of binarized digits, with any family."""
    latents, width = draw.choice((2, 4, 8, 16)), draw.choice((32, 64, 128))
    family = FAMILIES[draw.choice(("diagonal", "full", "low-rank", "iaf", "maf", "unit", "fixed-scale", "mixture"))]
    model, guide = VAE(64, latents, hidden=(width,)), Amortized(family(latents), 64, hidden=(width,))
    elbo = IWAE(5) if draw.random() < 0.2 else None
    return Training(model, guide, rows(draw), {**of_digits(draw), "transform": torch.bernoulli, "elbo": elbo})


def grey_digits(draw: random.Random) -> Training:
    """A VAE of grey digits with a learned scale."""
    x, latents = rows(draw), draw.choice((2, 8))
    model = VAE(64, latents, likelihood="gaussian", hidden=(64,)).initialize(x)
    return Training(model, Amortized(Diagonal(latents), 64, hidden=(64,)), x, of_digits(draw))


def linear(draw: random.Random) -> Training:
    """Probabilistic PCA on data of its own kind."""
    latents, size = draw.choice((1, 3, 5)), draw.choice((200, 1000))
    x = LinearGaussian(12, latents, scale=draw.uniform(0.3, 1.0)).generate(size)[1].sample().detach()
    family = FAMILIES[draw.choice(("diagonal", "full"))](latents)
    options = {"lr": between(draw, 3e-3, 2e-2), "epochs": draw.choice((5, 50, 150)), "batch_size": 100}
    return Training(LinearGaussian(12, latents), Amortized(family, 12, hidden=(32,)), x, options)


def shared(draw: random.Random) -> Training:
    """Latents that all the data share, under an autoguide."""
    makers: list[Any] = [LinearRegression, LogisticRegression, EightSchools, HierarchicalPoisson]
    kind = draw.choice([*makers, BayesianMixture, ItemResponse])
    data = kind.example_data()
    model = kind.for_data(*data)
    guide = AUTOGUIDES[draw.choice(("auto-normal", "auto-diagonal", "auto-mvn", "auto-delta"))](model)
    options = {"lr": between(draw, 0.01, 0.05), "epochs": draw.choice((1000, 2000)), "batch_size": len(data[0])}
    return Training(model, guide, data, options | {"schedule": draw.choice((None, cooldown))})


def mixture(draw: random.Random) -> Training:
    """A Gaussian mixture of iris, its components summed out or inferred."""
    x = torch.tensor(load_iris().data, dtype=torch.float32)
    model = GaussianMixture(4, 3, covariance=draw.choice(("full", "diagonal"))).initialize(x, draw.randrange(100))
    options: dict[str, Any] = {"lr": 0.02, "epochs": draw.choice((50, 400)), "batch_size": 150}
    if draw.random() < 0.5:
        return Training(model, no_guide, x, options | {"elbo": LogEvidence()})
    return Training(model, Amortized(OneHot(3), 4, hidden=(32,)), x, options | {"elbo": Enumeration()})


def density_network(draw: random.Random) -> Training:
    """A mixture density network of the inverse sinusoid."""
    x = torch.rand(500, 1)
    given = x + 0.3 * torch.sin(2 * torch.pi * x) + 0.05 * torch.randn_like(x)
    model = MixtureDensityNetwork(1, 4, 1)
    options = {"lr": 5e-3, "epochs": draw.choice((30, 100)), "batch_size": 100, "elbo": LogEvidence()}
    return Training(model, no_guide, (x, given), options)


class Counts(LatentVariableModel):
    """Counts whose rates hang on a few latents."""

    def __init__(self, columns: int, latents: int) -> None:
        super().__init__(latent_dim=latents)
        self.decoder = nn.Linear(latents, columns)

    def likelihood(self, z: Tensor, *given: Tensor) -> Any:
        """Poisson, of the exponential of a linear map."""
        return dist.Poisson(self.decoder(z).clamp(max=8).exp()).to_event(1)


def counts(draw: random.Random) -> Training:
    """Poisson factors of counts."""
    latents = draw.choice((1, 3))
    x = torch.poisson((torch.randn(600, latents) @ torch.randn(latents, 20)).mul(0.5).exp())
    guide = Amortized(Diagonal(latents), 20, hidden=(32,))
    return Training(Counts(20, latents), guide, x, {"lr": between(draw, 2e-3, 1e-2), "epochs": draw.choice((5, 60))})


def discrete(draw: random.Random) -> Training:
    """Bits or one-hot vectors as latents, with one of their estimators."""
    options = {**of_digits(draw), "transform": torch.bernoulli}
    if draw.random() < 0.5:
        name, family = draw.choice(("rloo", "disarm", "running-mean")), FAMILIES["bernoulli"](12)
        model: Any = BernoulliVAE(64, 12, hidden=(64,))
    else:
        name, family = draw.choice(("rloo", "gumbel-softmax")), FAMILIES["categorical"](6, categories=5)
        model = CategoricalVAE(64, 6, categories=5, hidden=(64,))
    elbo = ESTIMATORS[name].make(ESTIMATORS[name].particles)
    return Training(model, Amortized(family, 64, hidden=(64,)), rows(draw), options | {"elbo": elbo})


def table(draw: random.Random) -> Training:
    """A guide with a row for each image."""
    x = DIGITS.train[:400].round()
    options = {"lr": between(draw, 0.01, 0.03), "epochs": draw.choice((5, 60)), "batch_size": 50}
    return Training(VAE(64, 4, hidden=(64,)), PerDatapoint(Diagonal(4), 400), (x, torch.arange(400)), options)


def conditional(draw: random.Random) -> Training:
    """Digits given their labels."""
    labels = torch.nn.functional.one_hot(DIGITS.train_labels.long(), 10).float()
    model, guide = ConditionalVAE(64, 4, 10, hidden=(64,)), Amortized(Diagonal(4), 64, hidden=(64,), given_dim=10)
    return Training(model, guide, (DIGITS.train.round(), labels), of_digits(draw))


def two_layers(draw: random.Random) -> Training:
    """Two layers of latents."""
    model, guide = TwoLayerVAE(64, 4, middle_dim=8, widths=(64, 64)), TwoLayer(64, 4, middle_dim=8, widths=(64, 64))
    return Training(model, guide, rows(draw), {**of_digits(draw), "transform": torch.bernoulli})


def noise(draw: random.Random) -> Training:
    """Data without anything that z could tell."""
    latents = draw.choice((2, 8))
    guide = Amortized(Diagonal(latents), 30, hidden=(32,))
    if draw.random() < 0.5:
        x = torch.bernoulli(torch.rand(30).expand(1000, 30))
        return Training(VAE(30, latents, hidden=(32,)), guide, x, of_digits(draw))
    x = torch.randn(1000, 30)
    return Training(VAE(30, latents, likelihood="gaussian", hidden=(32,)).initialize(x), guide, x, of_digits(draw))


def prior(draw: random.Random) -> Training:
    """The prior as a guide, on purpose."""
    model = VAE(64, 4, hidden=(64,))
    return Training(model, Prior(model), rows(draw), {**of_digits(draw), "transform": torch.bernoulli})


def regression(draw: random.Random) -> Training:
    """Functions with ``pyro.param``: a line with noise of an unknown scale, and tails that may be heavy."""
    inputs = torch.randn(300, 2)
    y = inputs @ torch.tensor([1.0, -0.5]) + draw.choice((0.05, 0.3, 1.0)) * torch.randn(300)
    heavy = draw.random() < 0.5

    def model(y: Tensor, inputs: Tensor) -> None:
        sigma = pyro.sample("sigma", dist.LogNormal(0.0, 1.0))
        weights = pyro.sample("weights", dist.Normal(torch.zeros(2), 1.0).to_event(1))
        with pyro.plate("data", len(y)):
            loc = inputs @ weights
            pyro.sample("y", dist.StudentT(4.0, loc, sigma) if heavy else dist.Normal(loc, sigma), obs=y)

    options = {"lr": between(draw, 0.01, 0.03), "epochs": draw.choice((5, 1500)), "batch_size": 300}
    return Training(model, AUTOGUIDES["auto-normal"](model), (y, inputs), options)


HEALTHY: dict[str, Drawn] = {
    function.__name__: function
    for function in (
        *(digits, grey_digits, linear, shared, mixture, density_network, counts, discrete, table, conditional),
        *(two_layers, noise, prior, regression),
    )
}


# --- sick ------------------------------------------------------------------------------------------------------------


class Weighted(nn.Module):
    """A program whose latents count so much more than what is observed: beta of a beta-VAE."""

    def __init__(self, program: nn.Module, beta: float) -> None:
        super().__init__()
        self.program, self.beta = program, beta

    def forward(self, *data: Tensor) -> Any:
        """Runs it with the latents' densities weighted."""
        with _LatentsWeighted(self.beta):
            return self.program(*data)


class _LatentsWeighted(poutine.messenger.Messenger):
    def __init__(self, beta: float) -> None:
        super().__init__()
        self.beta = beta

    def _pyro_sample(self, message: dict[str, Any]) -> None:
        if not message["is_observed"]:
            message["scale"] = message["scale"] * self.beta


class Autoregressive(LatentVariableModel):
    """Pixels that know those before them: a decoder so strong that it needs no z."""

    def __init__(self, columns: int, latents: int) -> None:
        super().__init__(latent_dim=latents)
        self.before = nn.Parameter(torch.zeros(columns, columns))
        self.decoder = nn.Sequential(nn.Linear(latents, 64), nn.ReLU(), nn.Linear(64, columns))

    def forward(self, x: Tensor, *given: Tensor) -> Any:
        """Each pixel by a logistic regression on those before it, and on z."""
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", self.prior().expand([len(x)]))
            logits = self.decoder(z) + (2 * x - 1) @ self.before.triu(1)
            return pyro.sample("x", dist.Bernoulli(logits=logits).to_event(1), obs=x)

    def likelihood(self, z: Tensor, *given: Tensor) -> Any:
        """That of the first pixel alone would be known."""
        raise NotImplementedError


def collapse(draw: random.Random) -> Training:
    """A KL that counts too much, pixels that know their neighbours, much noise, or steps that kill the encoder."""
    latents, kind = draw.choice((2, 8, 16)), draw.choice(("beta", "autoregressive", "noise", "steps"))
    guide = Amortized(Diagonal(latents), 64, hidden=(64,))
    options = {"lr": between(draw, 1e-3, 4e-3), "epochs": draw.choice((20, 40)), "batch_size": draw.choice((64, 128))}
    x = rows(draw)
    if kind == "noise":
        return Training(VAE(64, latents, likelihood="gaussian", scale=draw.uniform(2.0, 5.0)), guide, x, options)
    if kind == "autoregressive":
        return Training(Autoregressive(64, latents), guide, x.round(), options)
    if kind == "beta":
        beta = between(draw, 8.0, 50.0)
        programs = Weighted(VAE(64, latents, hidden=(64,)), beta), Weighted(guide, beta)
        return Training(*programs, x, options | {"transform": torch.bernoulli})
    options |= {"lr": between(draw, 0.03, 0.3), "transform": torch.bernoulli}
    return Training(VAE(64, latents, hidden=(64,)), guide, x, options)


class Columns(LatentVariableModel):
    """A Gaussian likelihood with a learned scale for each column, without a floor."""

    def __init__(self, columns: int, latents: int) -> None:
        super().__init__(latent_dim=latents)
        self.decoder = nn.Sequential(nn.Linear(latents, 64), nn.ReLU(), nn.Linear(64, columns))
        self.log_scale = nn.Parameter(torch.zeros(columns))

    def likelihood(self, z: Tensor, *given: Tensor) -> Any:
        """A scale for each column."""
        return dist.Normal(self.decoder(z), self.log_scale.exp()).to_event(1)


def scale(draw: random.Random) -> Training:
    """Columns that are constant, a line without noise, or data whose spread is a thousandth of the scale's start."""
    kind = draw.choice(("constant", "line", "small"))
    if kind == "constant":
        x = rows(draw)  # the corner pixels are always 0
        options = {"lr": between(draw, 5e-3, 0.02), "epochs": draw.choice((100, 200)), "batch_size": 128}
        return Training(Columns(64, 4), Amortized(Diagonal(4), 64, hidden=(64,)), x, options | {"schedule": cosine})
    if kind == "small":
        x = torch.randn(400, 3) @ torch.randn(3, 20) * between(draw, 1e-4, 3e-3)
        options = {"lr": 1e-3, "epochs": draw.choice((60, 100))}
        return Training(Columns(20, 3), Amortized(Diagonal(3), 20, hidden=(32,)), x, options)
    inputs = torch.randn(draw.choice((50, 300)), 2)
    y = inputs @ torch.tensor([1.0, -0.5])

    def model(y: Tensor, inputs: Tensor) -> None:
        sigma = pyro.param("sigma", torch.tensor(1.0), constraint=dist.constraints.positive)
        weights = pyro.sample("weights", dist.Normal(torch.zeros(2), 1.0).to_event(1))
        with pyro.plate("data", len(y)):
            pyro.sample("y", dist.Normal(inputs @ weights, sigma), obs=y)

    pyro.clear_param_store()
    options = {"lr": between(draw, 0.02, 0.05), "epochs": draw.choice((2000, 3000)), "batch_size": len(y)}
    return Training(model, AUTOGUIDES["auto-delta"](model), (y, inputs), options | {"schedule": cosine})


def _at_rate(draw: random.Random, low: float, high: float, epochs: tuple[int, ...]) -> Training:
    """A training of any kind at a rate between these in units of a good one."""
    kind, factor = draw.choice((digits, grey_digits, linear, shared, counts)), between(draw, low, high)
    made = kind(draw)
    good = {shared: 0.03, linear: 0.01, counts: 5e-3}.get(kind, 2e-3)
    steps = {"epochs": draw.choice((600, 1000) if kind is shared else epochs), "schedule": None}
    return Training(made.model, made.guide, made.data, {**made.options, **steps, "lr": good * factor})


too_high: Drawn = partial(_at_rate, low=100.0, high=10000.0, epochs=(5, 10, 30))
too_low: Drawn = partial(_at_rate, low=1e-4, high=2e-2, epochs=(10, 20, 40))


class Deaf(Guide):
    """An encoder whose output is cut off from its parameters."""

    def __init__(self, columns: int, latents: int, way: str) -> None:
        super().__init__()
        self.way, self.encoder = way, nn.Sequential(nn.Linear(columns, 32), nn.ReLU(), nn.Linear(32, 2 * latents))

    def posterior(self, x: Tensor, *given: Tensor) -> Any:
        """A normal distribution of numbers that know no gradient."""
        if self.way == "detach":
            output = self.encoder(x).detach()
        elif self.way == "no_grad":
            with torch.no_grad():
                output = self.encoder(x)
        elif self.way == "numpy":
            output = torch.from_numpy(self.encoder(x).detach().numpy())
        else:  # not used at all
            output = x[..., : self.encoder[-1].out_features]
        loc, log_scale = output.chunk(2, -1)
        return dist.Normal(loc, log_scale.exp()).to_event(1)


def unreached(draw: random.Random) -> Training:
    """A guide that no gradient reaches."""
    guide = Deaf(64, 4, draw.choice(("detach", "no_grad", "numpy", "unused")))
    options = {**of_digits(draw), "epochs": draw.choice((1, 3, 10))}
    return Training(VAE(64, 4, hidden=(64,)), guide, rows(draw).round(), options)


def khat(draw: random.Random) -> Training:
    """A guide that is too narrow, or has many latents and no correlation between them."""
    latents = draw.choice((10, 20, 40))
    x = LinearGaussian(60, latents, scale=1.0).generate(500)[1].sample().detach()
    family = FixedScale(latents, draw.uniform(0.02, 0.1)) if draw.random() < 0.5 else Diagonal(latents)
    guide = Amortized(family, 60, hidden=(64,))
    return Training(LinearGaussian(60, latents), guide, x, {"lr": 5e-3, "epochs": draw.choice((5, 30))})


def deep(draw: random.Random) -> Training:
    """Networks so deep that z is lost on the way: a collapse that the warning's own advice mends."""
    model, guide = VAE(64, 8, hidden=(64,) * 5), Amortized(Diagonal(8), 64, hidden=(64,) * 5)
    options = {"lr": 2e-3, "epochs": 60, "transform": torch.bernoulli}
    return Training(model, guide, DIGITS.train, options)


SICK: dict[str, Drawn] = {
    "posterior collapse": collapse,
    "likelihood's scale": scale,
    "lr too high": too_high,
    "lr too low": too_low,
    "guide unreached": unreached,
    "k-hat": khat,
}
