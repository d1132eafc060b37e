"""Sound programs with latents that all the data share, with one thing changed where asked."""

import pyro
import pyro.distributions as dist
import torch
from pyro.nn import PyroModule, PyroSample
from torch import nn
from torch.distributions import constraints

SIZE, WIDTH = 12, 3
torch.manual_seed(0)
INPUTS = torch.randn(SIZE, WIDTH)
Y = INPUTS @ torch.tensor([1.0, -2.0, 0.5]) + torch.randn(SIZE)
LOG_EVIDENCE = float(dist.MultivariateNormal(torch.zeros(SIZE), torch.eye(SIZE) + INPUTS @ INPUTS.T).log_prob(Y))
EFFECTS = torch.tensor([28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0])
ERRORS = torch.tensor([15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0])
DATA, SCHOOLS = (INPUTS, Y), (EFFECTS, ERRORS)


def regression(event=1, name="data", likelihood=None, dim=-1, size=None):
    """Bayesian linear regression, with one thing changed."""

    def model(x, y):
        prior = dist.Normal(torch.zeros(WIDTH), 1.0)
        weights = pyro.sample("weights", prior.to_event(event))
        if name is None:
            pyro.sample("y", dist.Normal(x @ weights, 1.0), obs=y)
            return
        with pyro.plate(name, size or len(x), dim=dim):
            mean = (x @ weights).reshape(len(x), *[1] * (-1 - dim))
            pyro.sample("y", (likelihood or dist.Normal)(mean, 1.0), obs=y.reshape(mean.shape))

    return model


def guide_of(event=1, scale=0.3, constraint=constraints.real):
    def guide(x, y):
        loc = pyro.param("loc", torch.zeros(WIDTH))
        width = pyro.param("scale", torch.full((WIDTH,), scale), constraint=constraint)
        pyro.sample("weights", dist.Normal(loc, width).to_event(event))

    return guide


def schools(y, sigma):
    mu = pyro.sample("mu", dist.Normal(0.0, 5.0))
    tau = pyro.sample("tau", dist.HalfCauchy(5.0))
    with pyro.plate("schools", 8):
        theta = pyro.sample("theta", dist.Normal(mu, tau))
        pyro.sample("obs", dist.Normal(theta, sigma), obs=y)


def schools_guide(y, sigma):
    loc = pyro.param("loc", torch.zeros(10))
    scale = pyro.param("scale", torch.ones(10), constraint=constraints.positive)
    pyro.sample("mu", dist.Normal(loc[0], scale[0]))
    pyro.sample("tau", dist.LogNormal(loc[1], scale[1]))
    with pyro.plate("schools", 8):
        pyro.sample("theta", dist.Normal(loc[2:], scale[2:]))


def fixed(y, sigma):
    with pyro.plate("schools", 8):
        theta = pyro.sample("theta", dist.Normal(0.0, 5.0))
        pyro.sample("obs", dist.Normal(theta, sigma), obs=y)


def fixed_guide(y, sigma):
    loc = pyro.param("loc", torch.zeros(8))
    with pyro.plate("schools", 8):
        pyro.sample("theta", dist.Normal(loc, 1.0))


def set_up(auto, model, *data):
    guide = auto(model)
    guide(*data)
    return guide


def local(name, dim=-1):
    """A latent of each data point and one of all, in a plate of any name and dimension."""

    def model(x, y):
        scale = pyro.sample("scale", dist.LogNormal(0.0, 1.0))
        with pyro.plate(name, len(y), dim=dim):
            z = pyro.sample("z", dist.Normal(0.0, scale))
            pyro.sample("y", dist.Normal(z, 1.0), obs=y if dim == -1 else y[:, None])

    def guide(x, y):
        pyro.sample("scale", dist.LogNormal(pyro.param("loc", torch.zeros(())), 1.0))
        loc = pyro.param("locs", torch.zeros(len(y)))
        with pyro.plate(name, len(y), dim=dim):
            pyro.sample("z", dist.Normal(loc if dim == -1 else loc[:, None], 1.0))

    return model, guide


def groups(x, y):
    with pyro.plate("features", WIDTH):
        weights = pyro.sample("weights", dist.Normal(0.0, 1.0))
    with pyro.plate("rows", len(x)):
        pyro.sample("y", dist.Normal(x @ weights, 1.0), obs=y)


def groups_guide(x, y):
    loc = pyro.param("loc", torch.zeros(WIDTH))
    with pyro.plate("features", WIDTH):
        pyro.sample("weights", dist.Normal(loc, 1.0))


def series(plate):
    def model(x, y):
        drift = pyro.sample("drift", dist.Normal(0.0, 1.0))
        z = torch.zeros(())
        for t in pyro.plate("time", 4) if plate else pyro.markov(range(4)):
            z = pyro.sample(f"z{t}", dist.Normal(z + drift, 1.0))
            pyro.sample(f"y{t}", dist.Normal(z, 1.0), obs=y[t])

    def guide(x, y):
        pyro.sample("drift", dist.Normal(pyro.param("drift_loc", torch.zeros(())), 1.0))
        loc = pyro.param("loc", torch.zeros(4))
        for t in pyro.plate("time", 4) if plate else pyro.markov(range(4)):
            pyro.sample(f"z{t}", dist.Normal(loc[t], 1.0))

    return model, guide


class Linear(PyroModule):
    """As in Pyro's tutorials: its layer takes no particles."""

    def __init__(self):
        super().__init__()
        self.linear = PyroModule[nn.Linear](WIDTH, 1)
        self.linear.weight = PyroSample(dist.Normal(0.0, 1.0).expand([1, WIDTH]).to_event(2))
        self.linear.bias = PyroSample(dist.Normal(0.0, 1.0).expand([1]).to_event(1))

    def forward(self, x, y=None):
        scale = pyro.sample("scale", dist.Uniform(0.0, 10.0))
        mean = self.linear(x).squeeze(-1)
        with pyro.plate("data", len(x)):
            pyro.sample("y", dist.Normal(mean, scale), obs=y)
        return mean
