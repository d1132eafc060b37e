"""Reference draws by NUTS: exact posteriors, latents in their own space, what is refused and what is left alone."""

import math

import numpy as np
import pyro
import pytest
import torch
import xarray as xr
from pyro.distributions import Bernoulli, Dirichlet, HalfCauchy, LogNormal, Normal, Poisson, Uniform
from torch import nn

from ppl_vae.errors import InputError
from ppl_vae.measure.draws import effective_draws
from ppl_vae.measure.nuts import nuts

Z = 4.0  # standard errors: one in 16 000 is farther off by chance


def conjugate(x):
    mean = pyro.sample("mean", Normal(0.0, 2.0))
    pyro.deterministic("twice", 2 * mean)
    with pyro.plate("data", len(x)):
        pyro.sample("x", Normal(mean, 1.0), obs=x)


X = torch.tensor([1.0, 2.0, 0.5, 1.5, 3.0])
EXACT = Normal(float(X.sum()) / (5 + 1 / 4), (5 + 1 / 4) ** -0.5)  # precision 5 of the data, 1/4 of the prior


def test_nuts_on_a_conjugate_model_gives_the_exact_posterior():
    found = nuts(conjugate, X, draws=400, warmup=150, chains=2, seed=0, progress=False)
    assert (found.attrs["jit"], dict(found.sizes)) == (1, {"chain": 2, "draw": 400})
    mean, sd = float(EXACT.mean), float(EXACT.stddev)
    worth = effective_draws(found["mean"].values[:, :, None])[0]
    assert 100 < worth < 1600
    assert abs(float(found["mean"].mean()) - mean) < Z * sd / math.sqrt(worth)
    assert abs(math.log(float(found["mean"].std()) / sd)) < Z / math.sqrt(2 * worth / 2)
    np.testing.assert_allclose(found.twice, 2 * found["mean"], rtol=1e-6)
    assert found.attrs["divergences"] == 0
    assert found.attrs["max_r_hat"] < 1.05
    assert found.attrs["min_ess_bulk"] > 100
    assert found.attrs["seconds"] > 0


def test_constrained_latents_come_back_in_their_own_space():
    def model(x):
        share = pyro.sample("share", Dirichlet(torch.tensor([1.0, 2.0, 3.0])))
        scale = pyro.sample("scale", LogNormal(0.0, 1.0))
        with pyro.plate("data", len(x)):
            pyro.sample("x", Normal(share[0], scale), obs=x)

    found = nuts(model, X, draws=20, warmup=20, chains=1, seed=0, progress=False)
    assert found.share.shape == (1, 20, 3)
    np.testing.assert_allclose(found.share.sum("share_dim_0"), 1.0, rtol=1e-5)
    assert (found["scale"] > 0).all()


def test_a_model_that_branches_on_values_runs_as_it_is():
    def model(x):
        mean = pyro.sample("mean", Normal(0.0, 2.0))
        pyro.deterministic("sign", torch.tensor(1.0) if mean > 0 else torch.tensor(-1.0))
        with pyro.plate("data", len(x)):
            pyro.sample("x", Normal(mean, 1.0), obs=x)

    found = nuts(model, X - 1.6, draws=40, warmup=20, chains=2, seed=0, progress=False)
    assert found.attrs["jit"] == 0
    np.testing.assert_array_equal(found.sign, np.sign(found["mean"]))


def test_discrete_latents_are_summed_out_or_refused():
    def mixture(x):
        mean = pyro.sample("mean", Normal(0.0, 2.0))
        with pyro.plate("data", len(x)):
            pyro.sample("z", Bernoulli(0.5))
            pyro.sample("x", Normal(mean, 1.0), obs=x)

    found = nuts(mixture, X, draws=200, warmup=100, chains=1, seed=0, progress=False)
    assert list(found) == ["mean"]
    assert abs(float(found["mean"].mean()) - float(EXACT.mean)) < Z * float(EXACT.stddev) / math.sqrt(40)

    def counts(x):
        pyro.sample("rate", HalfCauchy(1.0))
        pyro.sample("count", Poisson(3.0))

    with pytest.raises(InputError, match=r"'count' is discrete and can't be enumerated \(Poisson\)"):
        nuts(counts, X, progress=False)
    with pytest.raises(InputError, match="no continuous latent"):
        nuts(lambda x: pyro.sample("z", Bernoulli(0.5)), X, progress=False)

    def interval(x):
        end = pyro.sample("end", LogNormal(0.0, 1.0))
        pyro.sample("inside", Uniform(0.0, end))

    with pytest.raises(InputError, match="the support of 'inside' depends on other latents"):
        nuts(interval, X, progress=False)
    with pytest.raises(InputError, match="draws is 2"):
        nuts(conjugate, X, draws=2, progress=False)


def test_nuts_leaves_everything_as_it_was():
    class Regression(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Sequential(nn.Linear(1, 1), nn.Dropout(0.5))

        def forward(self, x):
            pyro.module("layer", self.layer)
            slope = pyro.sample("slope", Normal(pyro.param("start", torch.tensor(0.0)), 1.0))
            with pyro.plate("data", len(x)):
                pyro.sample("x", Normal(slope * self.layer(x[:, None])[:, 0], 1.0), obs=x)

    model = Regression()
    before, weights = torch.get_rng_state(), [leaf.clone() for leaf in model.parameters()]
    one, two = (nuts(model, X, draws=10, warmup=10, chains=1, seed=3, progress=False) for _ in range(2))
    assert torch.equal(before, torch.get_rng_state())
    assert list(pyro.get_param_store().keys()) == []
    assert all(part.training for part in model.modules())
    assert all(map(torch.equal, weights, model.parameters()))
    assert all(leaf.grad is None and leaf.requires_grad for leaf in model.parameters())
    xr.testing.assert_equal(one, two)
