"""An objective with weights, such as a KL weight beta, is not called a bound; the bounds of its pair are its own."""

from functools import partial

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import Trace_ELBO, TraceMeanField_ELBO
from torch.optim import Adam

from ppl_vae import bounds, fit
from ppl_vae.plots.bounds import training_curves

X = torch.linspace(-2, 2, 20)
LOC = 0.4


def pair(beta=1.0, around="latent", plate=None):
    """q(z) = N(LOC, 1) against p(z) = N(0, 1): a KL of LOC^2 / 2 for each point, whatever x is."""

    def weighted(where):
        return poutine.scale(scale=beta) if around == where else poutine.scale(scale=1.0)

    def model(x):
        with weighted("everything"), plate(x) if plate else pyro.plate("data", len(x)):
            with weighted("latent"):
                z = pyro.sample("z", dist.Normal(0.0, 1.0))
            with weighted("likelihood"):
                pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    def guide(x):
        loc = pyro.param("loc", torch.tensor(LOC))
        with weighted("everything"), plate(x) if plate else pyro.plate("data", len(x)), weighted("latent"):
            pyro.sample("z", dist.Normal(loc.expand(len(x)), 1.0))

    return model, guide


def trained(model, guide, elbo=None, x=X, **options):
    pyro.clear_param_store()
    still = partial(Adam, lr=1e-9)
    return fit(model, guide, x, elbo=elbo, optimizer=still, **({"epochs": 1, "progress": False, "seed": 0} | options))


KL = LOC**2 / 2
LIKELIHOOD = float((dist.Normal(LOC, 1.0).log_prob(X) - 0.5).mean())  # E_q[log p(x | z)], by hand


@pytest.mark.parametrize("around", ["latent", "likelihood", "everything"])
@pytest.mark.parametrize("beta", [0.1, 4.0, torch.tensor(0.5)])
def test_a_weighted_objective_is_not_called_a_bound(beta, around):
    history = trained(*pair(beta, around))
    assert history.weighted
    assert not history.is_bound
    assert history.note == "weighted objective, not a bound"


def test_what_the_curve_holds_is_the_weighted_objective():
    """E[log p(x | z)] - beta KL, within 4 standard errors of its draws: far above log p(x) where beta is small."""
    history = trained(*pair(0.1), TraceMeanField_ELBO(1000, vectorize_particles=True, max_plate_nesting=1))
    error = float(((X - LOC).square() + 0.5).sqrt().mean()) / (1000 * len(X)) ** 0.5
    assert history.elbo[0] == pytest.approx(LIKELIHOOD - 0.1 * KL, abs=4 * error)
    assert not history.is_bound


@pytest.mark.parametrize("beta", [0.1, 4.0])
def test_the_bounds_of_the_pair_have_no_weights(beta):
    pyro.clear_param_store()
    pyro.set_rng_seed(0)
    found = bounds(*pair(beta), X, particles=2000)
    assert found.attrs["is_bound"] == 1
    error = float((found.elbo_se**2).sum() ** 0.5) / len(X)
    assert float(found.elbo.mean()) == pytest.approx(LIKELIHOOD - KL, abs=4 * error)
    assert bool((found.iwelbo.isel(K=-1) < dist.Normal(0.0, 2**0.5).log_prob(X).numpy() + 0.1).all())


def subsampled(x):
    return pyro.plate("data", len(X), subsample=x)


@pytest.mark.parametrize(("plate", "batch_size"), [(None, 20), (None, 7), (subsampled, 5), (subsampled, 20)])
@pytest.mark.parametrize("elbo", [Trace_ELBO, TraceMeanField_ELBO])
def test_the_scale_of_a_plate_that_subsamples_is_no_weight(plate, batch_size, elbo):
    history = trained(*pair(plate=plate), elbo(), batch_size=batch_size)
    assert history.is_bound
    assert not history.weighted
    assert history.note == ""


def test_a_weight_beside_subsampling_is_one():
    assert trained(*pair(0.5, plate=subsampled), batch_size=5).weighted


def test_curves_and_progress_say_so(capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")  # standard error counts as a terminal
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "140")
    history = trained(*pair(0.1), progress=True, description="beta")
    assert "beta (weighted objective, not a bound)" in capsys.readouterr().err
    labels = [text.get_text() for text in training_curves({"beta": history}).axes[0].texts if text.get_text()]
    assert labels == ["beta (weighted objective, not a bound)"]
