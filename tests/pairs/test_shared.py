"""Latents that all the data share: trained on the right objective or refused, and no mistake."""

import warnings
from functools import partial

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import TraceEnum_ELBO, config_enumerate
from pyro.infer.autoguide import AutoMultivariateNormal, AutoNormal
from pyro.nn import PyroModule, PyroSample
from torch import nn
from torch.distributions import constraints
from torch.optim import Adam
from torch.utils.data import DataLoader, TensorDataset

from ppl_vae import InputError, check, fit
from ppl_vae.pairs.shared import shared_sites

SIZE, WIDTH = 60, 3
torch.manual_seed(0)
INPUTS = torch.randn(SIZE, WIDTH)
Y = INPUTS @ torch.tensor([1.0, -2.0, 0.5]) + torch.randn(SIZE)
PRECISION = torch.eye(WIDTH) + INPUTS.T @ INPUTS  # of the posterior of the weights, whose prior is standard normal
LOG_EVIDENCE = float(dist.MultivariateNormal(torch.zeros(SIZE), torch.eye(SIZE) + INPUTS @ INPUTS.T).log_prob(Y))
BEST_ELBO = LOG_EVIDENCE - float(PRECISION.diagonal().log().sum() - PRECISION.logdet()) / 2


def plain(size):
    return pyro.plate("data", size)


def subsampled(size):
    return pyro.plate("data", SIZE, subsample=torch.arange(size))


def scaled(size):
    return poutine.scale(scale=SIZE / size)


def regression(plate=plain):
    """Bayesian linear regression; the best diagonal Gaussian has the variances 1 / diag(precision)."""

    def model(x, y):
        weights = pyro.sample("weights", dist.Normal(torch.zeros(WIDTH), 1.0).to_event(1))
        with plate(len(x)), pyro.plate("rows", len(x)) if plate is scaled else warnings.catch_warnings():
            pyro.sample("y", dist.Normal(x @ weights, 1.0), obs=y)

    def guide(x, y):
        loc = pyro.param("loc", torch.zeros(WIDTH))
        scale = pyro.param("scale", torch.full((WIDTH,), 0.1), constraint=constraints.positive)
        pyro.sample("weights", dist.Normal(loc, scale).to_event(1))

    return model, guide


@pytest.mark.parametrize(("plate", "batch_size", "epochs"), [(plain, SIZE, 600), (subsampled, 15, 150)])
def test_the_posterior_of_shared_weights_is_found(plate, batch_size, epochs):
    """Their mean width to 20%, the noise of a few hundred steps: without its scale it would be twice as wide."""
    pyro.clear_param_store()
    history = fit(
        *regression(plate),
        (INPUTS, Y),
        optimizer=partial(Adam, lr=0.05),
        schedule=lambda done: 1 - done,
        epochs=epochs,
        batch_size=batch_size,
        seed=0,
        progress=False,
    )
    width = pyro.param("scale").detach() * PRECISION.diagonal().sqrt()
    assert float(width.mean()) == pytest.approx(1.0, rel=0.2)
    late = torch.tensor(history.elbo[-50:])
    noise = float(late.std() / len(late) ** 0.5)
    assert float(late.mean()) == pytest.approx(BEST_ELBO / SIZE, abs=4 * noise + 0.02)
    assert history.is_bound


def test_minibatches_of_a_shared_latent_are_refused_with_the_mending():
    pyro.clear_param_store()
    with pytest.raises(InputError, match="share the latent 'weights', but a batch is 15 of them") as caught:
        fit(*regression(), (INPUTS, Y), batch_size=15, epochs=1, progress=False)
    assert 'pyro.plate("data", 60, subsample=x)' in str(caught.value)
    assert "batch_size=60" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(pyro.get_param_store()) == 0  # what is refused leaves nothing behind


def fit_quickly(model, guide, data=(INPUTS, Y), **options):
    pyro.clear_param_store()
    fit(model, guide, data, **({"batch_size": 15, "epochs": 1, "progress": False} | options))


def test_rows_that_are_scaled_up_by_hand_stand_for_all():
    fit_quickly(*regression(scaled))


def test_a_loaders_batches_are_refused_and_scaled_alike():
    loader = DataLoader(TensorDataset(INPUTS, Y), batch_size=15)
    with pytest.raises(InputError, match="all 60 data points share the latent 'weights', but a batch is 15"):
        fit_quickly(*regression(), loader)
    fit_quickly(*regression(subsampled), loader)


def test_a_plate_of_another_size_than_the_data_is_refused():
    def of_1000(size):
        return pyro.plate("data", 1000, subsample=torch.arange(size))

    with pytest.raises(InputError, match="a batch is 15 of them, which stand for 1000 by their plate or scale"):
        fit_quickly(*regression(of_1000))


class Regression(PyroModule):
    def __init__(self, plate):
        super().__init__()
        self.plate = plate
        self.linear = PyroModule[nn.Linear](WIDTH, 1)
        self.linear.weight = PyroSample(dist.Normal(0.0, 1.0).expand([1, WIDTH]).to_event(2))

    def forward(self, x, y):
        mean = self.linear(x).squeeze(-1)
        with self.plate(len(x)):
            pyro.sample("y", dist.Normal(mean, 1.0), obs=y)


@pytest.mark.parametrize("auto", [AutoNormal, AutoMultivariateNormal])
def test_autoguides_of_shared_latents_are_told_apart_by_their_model(auto):
    model = Regression(plain)
    with pytest.raises(InputError, match=r"share the latent 'linear.weight'"):
        fit_quickly(model, auto(model))
    model = Regression(subsampled)
    fit_quickly(model, auto(model))


@pytest.mark.parametrize("name", ["data", "batch"])
def test_an_autoguide_of_rows_is_not_trained_on_other_rows(name):
    def model(x, y):
        with pyro.plate(name, len(x)):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.sample("y", dist.Normal(z, 1.0), obs=y)

    guide = AutoNormal(model)
    with pytest.raises(InputError, match="AutoNormal makes parameters for each row of its first batch, 15 of 60"):
        fit_quickly(model, guide)
    fit_quickly(model, guide, batch_size=SIZE)  # nothing of 15 rows is left in it


@config_enumerate
def mixture(x, y):
    weights = pyro.sample("weights", dist.Dirichlet(torch.ones(2)))
    with pyro.plate("data", len(x)):
        which = pyro.sample("which", dist.Categorical(weights))
        pyro.sample("y", dist.Normal(which.float(), 1.0), obs=y)


def test_what_is_summed_out_may_be_the_models_alone():
    guide = AutoNormal(poutine.block(mixture, hide=["which"]))
    elbo = TraceEnum_ELBO(max_plate_nesting=1)
    with pytest.raises(InputError, match="share the latent 'weights'"):
        fit_quickly(mixture, guide, elbo=elbo)
    fit_quickly(mixture, guide, elbo=elbo, batch_size=SIZE)


def local(x, y):
    loc = pyro.param("loc", torch.zeros(()))
    with pyro.plate("data", len(x)):
        pyro.sample("z", dist.Normal(loc.expand(len(x)), 1.0))


def penalty(x, y):
    weight = pyro.param("weight", torch.ones(()))
    pyro.factor("penalty", -weight.square())
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(weight, 1.0))
        pyro.sample("y", dist.Normal(z, 1.0), obs=y)


def by_hand(x, y):
    """A likelihood that the program sums by itself: it is not shared, though its shape is one number's."""
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
    pyro.factor("likelihood", dist.Normal(z, 1.0).log_prob(y).sum())


def rows_as_events(x, y):
    z = pyro.sample("z", dist.Normal(torch.zeros(len(x)), 1.0).to_event(1))
    pyro.sample("y", dist.Normal(z, 1.0).to_event(1), obs=y)


def rows_as_events_guide(x, y):
    loc = pyro.param("loc", torch.zeros(()))
    pyro.sample("z", dist.Normal(loc.expand(len(x)), 1.0).to_event(1))


def as_many_features_as_rows(x, y):
    with pyro.plate("features", 15):
        weights = pyro.sample("weights", dist.Normal(0.0, 1.0))
    with pyro.plate("rows", len(x)):
        pyro.sample("y", dist.Normal(weights.sum(), 1.0), obs=y)


def features_guide(x, y):
    loc = pyro.param("loc", torch.zeros(15))
    with pyro.plate("features", 15):
        pyro.sample("weights", dist.Normal(loc, 1.0))


SHARED = {
    "a penalty": (penalty, local, {"penalty"}),
    "a sum by hand": (by_hand, local, set()),
    "events": (rows_as_events, rows_as_events_guide, set()),
    "as many features": (as_many_features_as_rows, features_guide, {"weights"}),
    "regression": (*regression(), {"weights"}),
}


@pytest.mark.parametrize("kind", SHARED)
def test_what_is_shared_is_found_by_its_shape_and_value_not_by_its_plate(kind):
    model, guide, names = SHARED[kind]
    pyro.clear_param_store()
    assert shared_sites(model, guide, (INPUTS, Y), 15) == names
    assert shared_sites(model, guide, (INPUTS[:1], Y[:1]), 1) == names
    if names:
        with pytest.raises(InputError, match=f"share the (latent|term) '{names.pop()}'"):
            fit_quickly(model, guide)
    else:
        fit_quickly(model, guide)
    fit_quickly(model, guide, batch_size=SIZE)


@pytest.mark.parametrize("plate", [plain, subsampled, scaled])
def test_check_finds_no_mistake_in_a_shared_latent_and_warns_of_none(plate):
    pyro.clear_param_store()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert check(*regression(plate), (INPUTS, Y)) == []
