"""``check`` leaves nothing behind: no parameter, buffer, counter, mode or random number is another one afterwards."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer.autoguide import (
    AutoDelta,
    AutoDiagonalNormal,
    AutoIAFNormal,
    AutoLowRankMultivariateNormal,
    AutoMultivariateNormal,
    AutoNormal,
    AutoStructured,
)
from pyro.nn import PyroParam
from torch import nn
from torch.nn.parameter import is_lazy

from ppl_vae import check, fit
from ppl_vae.models import LinearGaussian
from ppl_vae.programs import Guide

SIZE, WIDTH = 6, 3
X = torch.randn(SIZE, WIDTH, generator=torch.Generator().manual_seed(0))


def normal(x):
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(torch.zeros(WIDTH), 1.0).to_event(1))
        pyro.sample("x", dist.Normal(z, 1.0).to_event(1), obs=x)


AUTOGUIDES = (
    AutoNormal,
    AutoDiagonalNormal,
    AutoMultivariateNormal,
    AutoLowRankMultivariateNormal,
    AutoIAFNormal,
    AutoDelta,
    AutoStructured,
)


@pytest.mark.parametrize("auto", AUTOGUIDES)
def test_an_autoguide_is_as_it_was_after_a_check(auto):
    """What it makes at its first run stayed in the store, where fit took it for another network."""
    pyro.clear_param_store()
    guide = auto(normal)
    assert check(normal, guide, X) == []
    assert len(pyro.get_param_store()) == 0
    assert not list(guide.named_parameters())
    assert guide.prototype_trace is None
    fit(normal, guide, X, epochs=1, progress=False)
    parameters = {name: leaf.detach().clone() for name, leaf in guide.named_parameters()}
    assert check(normal, guide, X) == []
    found = dict(guide.named_parameters())
    assert found.keys() == parameters.keys()
    assert all(torch.equal(found[name], leaf) for name, leaf in parameters.items())


class Counting(Guide):
    """Everything that a run can change: a buffer, a counter, a list, lazy layers, dropout, a parameter of its own."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(nn.LazyLinear(4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.LazyLinear(WIDTH))
        self.runs, self.seen = 0, []

    def posterior(self, x, *given):
        self.runs += 1
        self.seen.append(len(x))
        self.shift = PyroParam(torch.zeros(WIDTH))
        return dist.Normal(self.encoder(x) + self.shift, 1.0).to_event(1)


@pytest.mark.parametrize("training", [True, False])
def test_a_check_leaves_nothing_behind(training):
    pyro.clear_param_store()
    model, guide = LinearGaussian(WIDTH, WIDTH), Counting().train(training)
    state = torch.get_rng_state()
    check(model, guide, X)
    assert (guide.runs, guide.seen) == (0, [])
    assert [type(part).__name__ for part in guide.encoder] == ["LazyLinear", "BatchNorm1d", "Dropout", "LazyLinear"]
    assert all(is_lazy(guide.encoder[place].weight) for place in (0, 3))
    assert int(guide.encoder[1].num_batches_tracked) == 0
    assert torch.equal(guide.encoder[1].running_mean, torch.zeros(4))
    assert all(part.training == training for part in guide.modules())
    assert not hasattr(guide, "shift")
    assert all(leaf.grad is None for leaf in model.parameters())
    assert torch.equal(torch.get_rng_state(), state)
    assert len(pyro.get_param_store()) == 0
    guide.posterior(X)  # and it still becomes what it is to be
    assert guide.encoder[0].weight.shape == (4, WIDTH)
