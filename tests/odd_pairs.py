"""Pairs whose parameters are reached otherwise than by the rows of a linear layer, for laws about gradients."""

import random

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.nn import PyroModule
from torch import nn

PIXELS, LATENTS, ROWS = 6, 2, 4


class Model(PyroModule):
    """z ~ N(0, 1), x ~ Bernoulli of a perceptron's logits; members of the zoo below change one thing each."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(LATENTS, 5), nn.Linear(5, PIXELS)

    def logits(self, z):
        return self.last(torch.tanh(self.first(z)))

    def outside(self, x):
        """Terms of no data point."""

    def forward(self, x):
        self.outside(x)
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(LATENTS), 1.0).to_event(1))
            pyro.sample("x", dist.Bernoulli(logits=self.logits(z)).to_event(1), obs=x)


class Guide(PyroModule):
    def __init__(self):
        super().__init__()
        self.encoder = nn.Linear(PIXELS, 2 * LATENTS)

    def numbers(self, x):
        return self.encoder(x)

    def forward(self, x):
        with pyro.plate("data", len(x)):
            loc, log_scale = self.numbers(x).chunk(2, -1)
            pyro.sample("z", dist.Normal(loc, log_scale.exp()).to_event(1))


class Scaled(Model):
    def forward(self, x):
        with poutine.scale(scale=1000 / len(x)):
            super().forward(x)


class ScaledGuide(Guide):
    def forward(self, x):
        with poutine.scale(scale=1000 / len(x)):
            super().forward(x)


class Tied(Model):
    def logits(self, z):
        hidden = torch.tanh(self.first(z))
        return self.last(hidden) + torch.tanh(self.last(hidden) @ self.last.weight) @ self.last.weight.T


class Penalized(Model):
    def outside(self, x):
        pyro.factor("decay", -10 * self.last.weight.square().sum())


class Recurrent(Model):
    def __init__(self):
        super().__init__()
        self.again = nn.Linear(5, 5)

    def logits(self, z):
        hidden = self.first(z)
        for _ in range(3):
            hidden = torch.tanh(self.again(hidden))
        return self.last(hidden)


class Normed(Model):
    def __init__(self):
        super().__init__()
        self.norm, self.gain = nn.LayerNorm(5), nn.Parameter(torch.full((), 1.5))

    def logits(self, z):
        return self.gain * self.last(self.norm(self.first(z)))


class OfTheBatch(Model):
    """Each row's logits know the mean and the number of all rows' latents."""

    def logits(self, z):
        hidden = torch.tanh(self.first(z - z.mean(-2, keepdim=True)))
        return self.last(hidden / hidden.shape[-2] + hidden.sum(-2, keepdim=True))


class Sharing(Guide):
    """The guide's encoder is the model's last layer, the other way round."""

    def __init__(self, model):
        super().__init__()
        self.own, self.shared = nn.Linear(5, 2 * LATENTS), model.last

    def numbers(self, x):
        return self.own(x @ self.shared.weight)


class Global(Model):
    """A weight that is itself a latent, outside the data's plate."""

    def outside(self, x):
        self.shift = pyro.sample("w", dist.Normal(torch.zeros(PIXELS), 1.0).to_event(1))

    def logits(self, z):
        return super().logits(z) + self.shift


class GlobalGuide(Guide):
    def __init__(self):
        super().__init__()
        self.loc = nn.Parameter(torch.zeros(PIXELS))

    def forward(self, x):
        pyro.sample("w", dist.Normal(self.loc, 0.5).to_event(1))
        super().forward(x)


class CoinToss(Model):
    def logits(self, z):
        return super().logits(torch.zeros_like(z) if random.random() < 0.1 else z)


class Dropped(Model):
    def logits(self, z):
        return self.last(nn.functional.dropout(torch.tanh(self.first(z)), 0.5))


class Filled(Model):
    """Noise that fills tensors in place, by several operations."""

    def logits(self, z):
        hidden = self.first(z)
        noise = torch.zeros_like(hidden).uniform_() + torch.empty_like(hidden).exponential_()
        return self.last(torch.tanh(hidden + noise * torch.ones_like(hidden).bernoulli_(0.5)))


class Standardized(Model):
    """In train mode: each run moves its buffers."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(5)

    def logits(self, z):
        return self.last(self.norm(self.first(z)))


def functions():
    def model(x):
        weight = pyro.param("weight", 0.3 * torch.randn(LATENTS, PIXELS))
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(LATENTS), 1.0).to_event(1))
            pyro.sample("x", dist.Bernoulli(logits=z @ weight).to_event(1), obs=x)

    def guide(x):
        loc = pyro.param("loc", torch.zeros(LATENTS))
        scale = pyro.param("scale", torch.ones(LATENTS), constraint=dist.constraints.positive)
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(loc, scale).expand([len(x), LATENTS]).to_event(1))

    return model, guide


def _sharing():
    model = Model()
    return model, Sharing(model)


MAKERS = {
    "scaled": lambda: (Scaled(), ScaledGuide()),
    "tied": lambda: (Tied(), Guide()),
    "penalized": lambda: (Penalized(), Guide()),
    "recurrent": lambda: (Recurrent(), Guide()),
    "normed": lambda: (Normed(), Guide()),
    "of-the-batch": lambda: (OfTheBatch(), Guide()),
    "sharing": _sharing,
    "global": lambda: (Global(), GlobalGuide()),
    "functions": functions,
    "dropped": lambda: (Dropped(), Guide()),
    "filled": lambda: (Filled(), Guide()),
    "coin-toss": lambda: (CoinToss(), Guide()),
    "standardized": lambda: (Standardized(), Guide()),
}
ONE_BY_ONE = {
    "global": "sets Global.shift anew at each run",
    "coin-toss": "draws from Python's random module",
    "standardized": "outside its arguments",
}


def make(name):
    """Model, guide and batch."""
    pyro.clear_param_store()
    pyro.set_rng_seed(0)
    model, guide = MAKERS[name]()
    x = torch.bernoulli(torch.full((ROWS, PIXELS), 0.7))
    return model, guide, x
