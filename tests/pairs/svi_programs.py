"""Introductory programs as users of Pyro's SVI write them: functions with pyro.param, PyroModules, methods.

Each is a function that makes (model, guide, data); what all its data share lies outside the plate that holds them.
"""

import pyro
import pyro.distributions as dist
import torch
from pyro.infer import config_enumerate
from pyro.infer.autoguide import AutoDelta, AutoDiagonalNormal, AutoNormal
from pyro.nn import PyroModule, PyroSample
from torch import nn
from torch.distributions import constraints


def generator():
    return torch.Generator().manual_seed(4)


def coin():
    """Is it fair? A Beta-Bernoulli with parameters in the global store; q is the posterior of another coin."""
    x = torch.tensor([1.0] * 6 + [0.0] * 4)

    def model(x):
        fairness = pyro.sample("fairness", dist.Beta(10.0, 10.0))
        with pyro.plate("tosses", len(x)):
            pyro.sample("toss", dist.Bernoulli(fairness), obs=x)

    def guide(x):
        alpha = pyro.param("alpha", torch.tensor(15.0), constraint=constraints.positive)
        beta = pyro.param("beta", torch.tensor(15.0), constraint=constraints.positive)
        pyro.sample("fairness", dist.Beta(alpha, beta))

    return model, guide, x


class Line(PyroModule):
    """A layer of torch with priors over its weights; the responses come second, and may be left out to predict."""

    def __init__(self, inputs):
        super().__init__()
        self.linear = PyroModule[nn.Linear](inputs, 1)
        self.linear.weight = PyroSample(dist.Normal(0.0, 1.0).expand([1, inputs]).to_event(2))
        self.linear.bias = PyroSample(dist.Normal(0.0, 10.0).expand([1]).to_event(1))

    def forward(self, inputs, y=None):
        sigma = pyro.sample("sigma", dist.Uniform(0.0, 10.0))
        mean = self.linear(inputs).squeeze(-1)
        with pyro.plate("data", len(inputs)):
            pyro.sample("y", dist.Normal(mean, sigma), obs=y)
        return mean


def regression():
    inputs = torch.randn(30, 3, generator=generator())
    y = inputs @ torch.tensor([1.0, -2.0, 0.5]) + 0.3 * torch.randn(30, generator=generator())
    model = Line(3)
    return model, AutoDiagonalNormal(model), (inputs, y)


def partial_pooling():
    """A slope and an intercept for each group, around common ones; an index of groups among the data."""
    group = torch.arange(40) % 4
    inputs = torch.randn(40, generator=generator())
    y = (1 + 0.2 * group) * inputs + group + 0.3 * torch.randn(40, generator=generator())

    def model(inputs, group, y):
        mean = pyro.sample("mean", dist.Normal(torch.zeros(2), 3.0).to_event(1))
        spread = pyro.sample("spread", dist.HalfNormal(torch.ones(2)).to_event(1))
        sigma = pyro.sample("sigma", dist.HalfNormal(1.0))
        with pyro.plate("groups", 4):
            line = pyro.sample("line", dist.Normal(mean, spread).to_event(1))
        with pyro.plate("data", len(inputs)):
            pyro.sample("y", dist.Normal(line[group, 0] + line[group, 1] * inputs, sigma), obs=y)

    return model, AutoNormal(model), (inputs, group, y)


def mixture(autoguide=AutoDelta, **settings):
    """Clusters whose assignments are summed out by TraceEnum_ELBO; the guide is blind to them."""
    x = torch.tensor([0.0, 1.0, 10.0, 11.0, 12.0])

    @config_enumerate
    def model(x):
        weights = pyro.sample("weights", dist.Dirichlet(0.5 * torch.ones(2)))
        scale = pyro.sample("scale", dist.LogNormal(0.0, 2.0))
        with pyro.plate("components", 2):
            locs = pyro.sample("locs", dist.Normal(0.0, 10.0))
        with pyro.plate("data", len(x)):
            assignment = pyro.sample("assignment", dist.Categorical(weights))
            pyro.sample("x", dist.Normal(locs[assignment], scale), obs=x)

    blind = pyro.poutine.block(model, hide=["assignment"])
    return model, autoguide(blind, **settings), x


class Logistic:
    """Model and guide are methods of a plain object."""

    def model(self, inputs, y):
        weights = pyro.sample("weights", dist.Normal(torch.zeros(2), 2.0).to_event(1))
        intercept = pyro.sample("intercept", dist.Normal(0.0, 2.0))
        with pyro.plate("rows", len(y)):
            logits = inputs @ weights + intercept
            return pyro.sample("y", dist.Bernoulli(logits=logits), obs=y)

    def guide(self, inputs, y):
        loc = pyro.param("loc", torch.zeros(2))
        scale = pyro.param("scale", 0.3 * torch.ones(2), constraint=constraints.positive)
        pyro.sample("weights", dist.Normal(loc, scale).to_event(1))
        pyro.sample("intercept", dist.Normal(pyro.param("middle", torch.tensor(0.0)), 0.4))


def logistic():
    inputs = torch.randn(25, 2, generator=generator())
    made = Logistic()
    return made.model, made.guide, (inputs, (inputs[:, 0] > 0).float())


def imputation():
    """Ages with some missing, which are latents of their own: an index picks them out of the data's plate."""
    age = torch.tensor([22.0, 38.0, 0.0, 35.0, 0.0, 54.0, 2.0, 27.0]) / 10
    missing = torch.tensor([False, False, True, False, True, False, False, False])
    survived = torch.tensor([0.0, 1.0, 1.0, 1.0, 0.0, 0.0, 1.0, 1.0])

    def model(age, missing, survived):
        middle = pyro.sample("middle", dist.Normal(3.0, 1.0))
        slope = pyro.sample("slope", dist.Normal(0.0, 1.0))
        with pyro.plate("unseen", int(missing.sum())):
            filled = pyro.sample("filled", dist.Normal(middle, 1.0))
        known = age.clone()
        known[missing] = filled
        with pyro.plate("data", len(age)):
            with pyro.poutine.mask(mask=~missing):
                pyro.sample("age", dist.Normal(middle, 1.0), obs=age)
            pyro.sample("survived", dist.Bernoulli(logits=slope * known), obs=survived)

    return model, AutoNormal(model), (age, missing, survived)


def local_level():
    """A random walk that is observed with noise: one latent after another, in pyro.markov."""
    x = torch.tensor([0.3, 0.9, 0.4, 1.5, 2.0])

    def model(x):
        level = torch.zeros(())
        for t in pyro.markov(range(len(x))):
            level = pyro.sample(f"level_{t}", dist.Normal(level, 0.5))
            pyro.sample(f"x_{t}", dist.Normal(level, 0.4), obs=x[t])

    return model, AutoNormal(model), x


def change_of_rate():
    """Counts a year, with one rate before the change and another behind it; the year of the change is a latent."""
    x = torch.tensor([4.0, 5.0, 4.0, 1.0, 0.0, 1.0, 1.0])

    def model(x):
        before, after = pyro.sample("rates", dist.Gamma(torch.tensor([2.0, 2.0]), 1.0).to_event(1)).unbind(-1)
        year = pyro.sample("year", dist.Categorical(torch.ones(len(x)) / len(x)))
        with pyro.plate("years", len(x)):
            rate = torch.where(torch.arange(len(x)) < year[..., None], before[..., None], after[..., None])
            pyro.sample("count", dist.Poisson(rate), obs=x)

    def guide(x):
        pyro.sample("rates", dist.Gamma(pyro.param("shape", torch.tensor([8.0, 3.0])), 2.5).to_event(1))
        pyro.sample("year", dist.Categorical(logits=pyro.param("logits", torch.zeros(len(x)))))

    return model, guide, x


def minibatches():
    """A regression of many rows that looks at 20 of them in each step."""
    inputs = torch.randn(200, generator=generator())
    y = 2 * inputs + 0.5 * torch.randn(200, generator=generator())

    def model(inputs, y):
        slope = pyro.sample("slope", dist.Normal(0.0, 1.0))
        with pyro.plate("data", len(inputs), subsample_size=20) as index:
            pyro.sample("y", dist.Normal(slope * inputs[index], 0.5), obs=y[index])

    def guide(inputs, y):
        loc = pyro.param("slope_loc", torch.tensor(1.9))
        pyro.sample("slope", dist.Normal(loc, 0.1))

    return model, guide, (inputs, y)


PROGRAMS = {
    "coin": coin,
    "regression": regression,
    "partial pooling": partial_pooling,
    "mixture, point masses": mixture,
    "mixture, normal": lambda: mixture(AutoNormal),
    "logistic": logistic,
    "imputation": imputation,
    "local level": local_level,
    "change of rate": change_of_rate,
    "minibatches": minibatches,
}
