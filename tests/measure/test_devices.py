"""Data and parameters may lie on different devices: every measurement moves what it runs, and gives the same figures.

The other device is one of the tests' own (see ``elsewhere``); where there is a GPU, it is that too.
"""

from contextlib import contextmanager

import numpy as np
import pyro
import pytest
import torch
import xarray as xr
from elsewhere import elsewhere
from pyro.infer import Trace_ELBO
from zoo import COVERING, Case

from ppl_vae import (
    annealed,
    bounds,
    check,
    compare,
    fit,
    freeze,
    generalization,
    gradient_statistics,
    information,
    log_weights,
    reference_gradient,
    refine,
    sandwich,
    tightness,
    to_arviz,
)
from ppl_vae.evidence import exact_evidence, quadrature, simulate
from ppl_vae.guides import Amortized, Diagonal, ExactPosterior
from ppl_vae.models import VAE, BernoulliVAE, LinearGaussian
from ppl_vae.plots.images import manifold, reconstructions, samples

X = torch.bernoulli(torch.full((6, 8), 0.4), generator=torch.Generator().manual_seed(0))
QUIET = {"progress": False, "seed": 3}
MEASURES = {
    "log_weights": lambda model, guide, x: log_weights(model, guide, x, particles=5, seed=3).detach(),
    "bounds": lambda model, guide, x: bounds(model, guide, x, particles=100, **QUIET),
    "information": lambda model, guide, x: information(model, guide, x, **QUIET),
    "tightness": lambda model, guide, x: tightness(
        model, guide, x, particles=100, split=True, refinement={"steps": 3, "rounds": 1}, **QUIET
    ),
    "generalization": lambda model, guide, x: list(
        generalization(model, guide, x, held_out=x, particles=100, **QUIET).values()
    ),
    "annealed": lambda model, guide, x: annealed(model, guide, x, steps=2, chains=2, leapfrog=2, **QUIET),
    "annealed from the prior": lambda model, guide, x: annealed(model, None, x, steps=2, chains=2, leapfrog=2, **QUIET),
    "sandwich": lambda model, guide, x: sandwich(model, x, steps=2, chains=2, leapfrog=2, **QUIET)[1],
    "simulate": lambda model, guide, x: simulate(model, x)[0][0],
    "quadrature": lambda model, guide, x: quadrature(model, x, nodes=11),
    "refine": lambda model, guide, x: refine(model, guide, x, steps=3, rounds=1, **QUIET).held.detach(),
    "check": lambda model, guide, x: [len(check(model, guide, x))],
    "gradient_statistics": lambda model, guide, x: gradient_statistics(
        model, guide, x, elbo=Trace_ELBO(), draws=20, **QUIET
    )["mean"],
    "reference_gradient": lambda model, guide, x: reference_gradient(model, guide, x, draws=20, **QUIET).mean,
    "to_arviz": lambda model, guide, x: to_arviz(model, guide, x, chains=2, draws=20, **QUIET)["importance"].khat,
    "pictures": lambda model, guide, x: [
        len(figure.axes)
        for figure in (
            reconstructions({"one": (model, guide)}, x, (2, 4)),
            samples(model, (2, 4), side=2),
            manifold(model, (2, 4), side=2),
        )
    ],
}


def devices():
    return ["own", *(["cuda"] if torch.cuda.is_available() else [])]


@contextmanager
def another(device):
    if device == "own":
        with elsewhere() as place:
            yield place
    else:
        yield torch.device(device)


def numbers(result):
    """What a measure gives as numbers on the CPU; an error where it left something elsewhere."""
    if isinstance(result, xr.Dataset):
        return np.concatenate([values.values.ravel() for _, values in sorted(result.data_vars.items())])
    if isinstance(result, torch.Tensor):
        return result.cpu().numpy().ravel()
    return np.asarray(result).ravel()


@pytest.mark.parametrize("device", devices())
@pytest.mark.parametrize("measure", MEASURES)
def test_every_measure_moves_what_it_runs(measure, device):
    pyro.set_rng_seed(0)
    model, guide = VAE(8, 2, hidden=(16,)), Amortized(Diagonal(2), 8, hidden=(16,))
    pyro.set_rng_seed(0)
    expected = MEASURES[measure](model, guide, X)
    with another(device) as place:
        model.to(place), guide.to(place)
        pyro.set_rng_seed(0)
        result = MEASURES[measure](model, guide, X)
        assert all(leaf.device == place for part in (model, guide) for leaf in part.parameters())
        if isinstance(result, torch.Tensor) and measure in ("log_weights", "simulate"):
            assert result.device == X.device
        if device == "own":
            np.testing.assert_allclose(numbers(result), numbers(expected), rtol=2e-4, atol=1e-5)
        else:
            assert numbers(result).shape == numbers(expected).shape


@pytest.mark.parametrize("device", devices())
@pytest.mark.parametrize("case", COVERING, ids=str)
def test_every_pair_has_the_same_weights(case: Case, device):
    model, guide, batch = case.make()
    expected = log_weights(model, guide, batch, particles=3, seed=1).detach()
    model, guide, _ = case.make()  # the same, without what autograd has attached
    with another(device) as place:
        model.to(place), guide.to(place)
        weights = log_weights(model, guide, batch, particles=3, seed=1)
        assert weights.device == batch[0].device
        assert weights.shape == expected.shape
        if device == "own":
            torch.testing.assert_close(weights.detach(), expected)


@pytest.mark.parametrize("device", devices())
def test_exact_evidence_moves_what_it_runs(device):
    pyro.set_rng_seed(0)
    for model, x in ((LinearGaussian(8, 2), torch.randn(5, 8)), (BernoulliVAE(8, 3, hidden=(4,)), X)):
        expected = exact_evidence(model, x).log_evidence
        with another(device) as place:
            model.to(place)
            found = exact_evidence(model, x).log_evidence
        np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize("device", devices())
def test_what_fit_leaves_elsewhere_is_measured_with_data_here(device):
    """As on a machine with a GPU, where fit moves the pair and leaves it there."""
    pyro.set_rng_seed(0)
    model, guide = LinearGaussian(8, 2), Amortized(Diagonal(2), 8, hidden=(16,))
    x = torch.randn(20, 8)
    with another(device) as place:
        options = {"optimizer": lambda leaves: torch.optim.SGD(leaves, lr=1e-4, foreach=False), "progress": False}
        fit(model, guide, x, epochs=2, batch_size=10, device=place, capture=False, **options)
        assert next(model.parameters()).device == place
        assert np.isfinite(bounds(model, guide, x, particles=10, progress=False).elbo).all()
        guides = {"amortized": guide, "exact": ExactPosterior(model)}
        options |= {"batch_size": 10, "device": place, "capture": False, "particles": 50}
        table = compare(model, guides, x, test=x, epochs=1, **options)
        assert {row.guide for row in table.rows} == set(guides)
        assert not any(part.requires_grad for pair in table.pairs.values() for part in freeze(pair[0]).parameters())
