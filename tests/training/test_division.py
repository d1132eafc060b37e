"""A step of several processes is that of one: the same random numbers for each row, sums of losses and gradients."""

import numpy as np
import pyro.distributions as dist
import pytest
import torch
from divided import taken
from pyro.infer import JitTrace_ELBO, RenyiELBO, Trace_ELBO, TraceGraph_ELBO
from torch import nn
from zoo import BATCH, DISCRETE, FAMILIES, LATENT, Case

from ppl_vae import Guide, InputError
from ppl_vae.estimators import ESTIMATORS
from ppl_vae.guides import Amortized, Categorical, Diagonal
from ppl_vae.models import VAE, CategoricalVAE

MODEL_OF = {guide: model for model, guide in DISCRETE.items()}
PARTICLES = 3  # as many as latents, and as the first of two processes has rows of five: no size tells them apart


def many():
    return Trace_ELBO(num_particles=PARTICLES, vectorize_particles=True)


def require_same(make, elbo=many, processes=2, **options):
    one, (after,) = taken(make, elbo, 1, **options)
    divided, states = taken(make, elbo, processes, **options)
    for whole, total in zip(one, divided, strict=True):
        assert (whole is None) == (total is None)
        if whole is not None:
            torch.testing.assert_close(total, whole, rtol=1e-9, atol=1e-12 + 1e-9 * float(whole.norm()))
    assert all(torch.equal(state, after) for state in states)  # the next batch is drawn alike everywhere


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_under_two_processes(family):
    assert BATCH - BATCH // 2 == PARTICLES == LATENT
    require_same(Case(MODEL_OF.get(family, "vae"), family).make)


@pytest.mark.parametrize(
    "case",
    [
        Case("categorical-vae", "prior", "of-a-model"),
        Case("two-layer-vae", "two-layer", "of-a-model"),
        Case("vae", "diagonal", "per-datapoint"),
        Case("vae", "diagonal", "semi-amortized"),
        Case("gaussian-mixture", "exact", "of-a-model"),
        Case("conditional-vae", "low-rank"),
        Case("vae-gaussian", "diagonal"),
        Case("mixture-density-network", "one-hot"),
    ],
    ids=str,
)
def test_every_source_and_likelihood_under_three_processes(case):
    require_same(case.make, processes=3)


def estimator_cases():
    found = []
    for name, entry in ESTIMATORS.items():
        for model, guide in (("vae", "diagonal"), *list(DISCRETE.items())[:2]):
            fits = entry.fits(model == "vae", model != "vae", guide == "bernoulli")
            if fits and (name, model) != ("score-function", "vae"):  # a reparameterized guide, which it refuses
                found.append(pytest.param(name, Case(model, guide), id=f"{name}-{guide}"))
    return found


@pytest.mark.parametrize(("name", "case"), estimator_cases())
def test_every_estimator_under_two_processes(name, case):
    entry = ESTIMATORS[name]
    particles = 2 * PARTICLES if name == "disarm" else max(PARTICLES, entry.particles)
    require_same(case.make, lambda: entry.make(particles))


def test_a_captured_step_under_two_processes():
    require_same(Case("categorical-vae", "categorical").make, capture=True, steps=4)


class Drawing(Guide):
    """A Gaussian whose means get noise of the program's own, drawn in one of many ways."""

    def __init__(self, way):
        super().__init__()
        self.way, self.encoder = way, nn.Linear(12, 6)

    def posterior(self, x):
        probs = self.encoder(x).unflatten(-1, (3, 2)).softmax(-1)
        noise = self.way(probs.detach())
        return dist.Normal(probs[..., 0] + noise, probs[..., 1]).to_event(1)


OWN = {
    "multinomial of flattened rows": lambda p: torch.multinomial(p.reshape(-1, 2), 1).reshape(p.shape[:-1]),
    "multinomial, rows inside": lambda p: torch.multinomial(p.transpose(0, 1).reshape(-1, 2), 1).reshape(3, -1).T,
    "rand": lambda p: torch.rand(len(p), 3, dtype=p.dtype),
    "rand, rows last": lambda p: torch.rand(3, len(p), dtype=p.dtype).T,
    "randn in one dimension": lambda p: torch.randn(3 * len(p), dtype=p.dtype).reshape(-1, 3),
    "randint": lambda p: torch.randint(0, 4, (len(p), 3)),
    "in place": lambda p: torch.empty_like(p[..., 0]).exponential_(),
    "dropout": lambda p: nn.functional.dropout(p[..., 0], 0.5),
    "of no row": lambda p: torch.randn(3, dtype=p.dtype),
}


def drawing(way):
    def make():
        torch.manual_seed(0)
        return VAE(12, 3, hidden=(8,)).double(), Drawing(way).double(), (torch.rand(5, 12).double().bernoulli(),)

    return make


@pytest.mark.parametrize("way", OWN)
def test_draws_of_the_programs_own_under_two_processes(way):
    require_same(drawing(OWN[way]), Trace_ELBO)


REFUSED = {
    "gamma": (
        lambda p: dist.Gamma(1 + p[..., 0], 1.0).sample(),
        "aten._standard_gamma.default takes as many random numbers as its values ask for",
    ),
    "numpy": (
        lambda p: torch.as_tensor(np.random.randn(len(p), 3)),
        "of a batch are not the sums of those of two parts .* numpy's random numbers",
    ),
    "a mean over rows": (
        lambda p: torch.randn_like(p[..., 0]) + p[..., 0].mean(0),
        "of a batch are not the sums of those of two parts of it",
    ),
    "a permutation of rows": (
        lambda p: torch.randn_like(p[..., 0])[torch.randperm(len(p))],
        r"aten.randperm.default draws random numbers of shape \[5\] for 5 rows and \[4\] for 4",
    ),
    "a size of no meaning": (
        lambda p: torch.randn(len(p) + 1, 3, dtype=p.dtype)[1:],
        r"aten.randn.default draws random numbers of shape \[6, 3\] for 5 rows and \[5, 3\] for 4, of which",
    ),
    "a draw for each row": (
        lambda p: torch.stack([torch.randn_like(row[:, 0]) for row in p]),
        "the program draws random numbers 6 times for 5 rows and 5 times, or otherwise, for 4",
    ),
}


@pytest.mark.parametrize("way", REFUSED)
def test_what_cant_be_divided_is_refused_in_one_sentence(way):
    draw, message = REFUSED[way]
    with pytest.raises(InputError, match=message) as caught:
        taken(drawing(draw), Trace_ELBO, 2)
    assert "\n" not in str(caught.value)


def test_a_guide_that_is_sure_of_itself_is_divided_rightly_all_the_same():
    """Its draws are the same wherever the noise lies, until it learns."""

    def make():
        torch.manual_seed(0)
        guide = Amortized(Categorical(3, 4), 12, hidden=(8,))
        with torch.no_grad():
            guide.encoder[-2].weight.mul_(1e3)
        x = torch.rand(6, 12).double().bernoulli()
        return CategoricalVAE(12, 3, categories=4, hidden=(8,)).double(), guide.double(), (x,)

    require_same(make, TraceGraph_ELBO)


def test_batch_normalization_in_training_is_refused():
    def make():
        torch.manual_seed(0)
        network = nn.Sequential(nn.Linear(12, 8), nn.BatchNorm1d(8), nn.Linear(8, 6))
        model = VAE(12, 3, hidden=(8,)).double()
        return model, Amortized(Diagonal(3), encoder=network).double(), (torch.rand(8, 12).double().bernoulli(),)

    with pytest.raises(InputError, match="batch normalization"):
        taken(make, Trace_ELBO, 2)


def test_renyis_bound_under_two_processes():
    require_same(Case("vae", "diagonal").make, lambda: RenyiELBO(0.5, num_particles=3, vectorize_particles=True))


def test_compiled_elbos_are_refused():
    with pytest.raises(InputError, match="JitTrace_ELBO replays its first batch, of which 2 processes can't take"):
        taken(Case("vae", "diagonal").make, JitTrace_ELBO, 2)


def test_draws_that_change_later_are_refused():
    calls = iter(range(100))

    def moody(p):
        return torch.randn_like(p[..., 0]) + (torch.rand(len(p), 3) if next(calls) > 8 else 0)

    with pytest.raises(InputError, match="the program draws other random numbers than at its first step"):
        taken(drawing(moody), Trace_ELBO, 2, steps=9)
