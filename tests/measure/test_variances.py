"""What each estimator is for: a variance below its simpler sibling's, by both intervals, where theory says so.

That their means are right is in test_gradients.py.
"""

from functools import cache

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import TraceEnum_ELBO
from torch import nn

from ppl_vae import Guide, LatentVariableModel, gradient_statistics, reference_gradient
from ppl_vae.estimators import (
    ESTIMATORS,
    IWAE,
    RELAX,
    VIMCO,
    DisARM,
    DReG,
    Enumeration,
    GumbelSoftmax,
    LeaveOneOut,
    LogWeightELBO,
    NeuralBaseline,
    Pathwise,
    PathwiseKL,
    Reinforce,
    RunningMean,
    ScoreFunction,
    StickingTheLanding,
    StraightThrough,
    estimator,
)
from ppl_vae.estimators.base import detached
from ppl_vae.estimators.pathwise import log_mean
from ppl_vae.guides import Amortized, Bernoulli, Diagonal, OneHot
from ppl_vae.models import BernoulliVAE
from ppl_vae.networks import JointMLP

PIXELS, LATENTS = 6, 3


def _mlp(*widths):
    return JointMLP(widths[0], list(widths[1:]), activation_layer=nn.Tanh)


class Gaussian(LatentVariableModel):
    """z ~ N(0, 1), x ~ N(a z, sigma), all independent: q of the right form can be exact."""

    def __init__(self, slope=1.0, sigma=1.0):
        super().__init__(LATENTS)
        self.slope, self.sigma = nn.Parameter(torch.tensor(slope)), sigma

    def likelihood(self, z):
        return dist.Normal(self.slope * z, self.sigma).to_event(1)


class OneOfThree(LatentVariableModel):
    """A one-hot z, x ~ N(W z, 1)."""

    def __init__(self):
        super().__init__(3)
        self.means = nn.Linear(3, PIXELS)

    def prior(self, *given):
        return dist.OneHotCategorical(logits=torch.zeros(3))

    def likelihood(self, z, *given):
        return dist.Normal(self.means(z), 1.0).to_event(1)


class Mean(Guide):
    """q(z | x) = N(x B + c, scale) with three scales of its own."""

    def __init__(self, slope, scale):
        super().__init__()
        self.slope = nn.Parameter(torch.tensor(slope))
        self.log_scale = nn.Parameter(torch.full((LATENTS,), scale).log())

    def posterior(self, x):
        return dist.Normal(self.slope * x, self.log_scale.exp()).to_event(1)


def bits():
    x = torch.cat([torch.zeros(2, PIXELS), torch.ones(2, PIXELS)])
    model = BernoulliVAE(PIXELS, LATENTS, decoder=_mlp(LATENTS, 4, PIXELS))
    with torch.no_grad():
        list(model.parameters())[-1].fill_(2.0)  # ones are likely, zeros are not: signals differ from row to row
    return model, Amortized(Bernoulli(LATENTS), encoder=_mlp(PIXELS, 4, LATENTS)), x


def one_hot():
    return OneOfThree(), Amortized(OneHot(3), encoder=nn.Linear(PIXELS, 3)), torch.randn(3, PIXELS)


def continuous():
    return Gaussian(), Amortized(Diagonal(LATENTS), encoder=nn.Linear(LATENTS, 2 * LATENTS)), torch.randn(3, LATENTS)


def scores():
    """The same, for Pyro's own score function."""
    model, guide, x = continuous()
    guide.reparameterized = False
    return model, guide, x


def near_posterior():
    """The posterior is N(x / 2, 1 / 2)."""
    return Gaussian(), Mean(0.51, 0.71), torch.randn(3, LATENTS)


def little_to_learn():
    """A likelihood that hardly looks at z: what is left is the divergence, known in closed form."""
    return Gaussian(slope=0.01), Mean(0.3, 0.8), torch.randn(3, LATENTS)


def between():
    """A guide that is off by some: the weights of ten particles differ, and none has all."""
    return Gaussian(), Mean(0.3, 0.8), torch.randn(3, LATENTS)


class MultiSampleScore(LogWeightELBO):
    """What VIMCO is without its baseline: the bound times the score of every particle."""

    fewest = 2

    def objective(self, model, guide, batch):
        run = self.run(model, guide, batch, draw=detached)
        bound = log_mean(run.log_weights)
        return bound.detach(), bound + bound.detach() * run.proposed.sum(0)


# better, its simpler sibling, the pair, and whose parameters
LAWS = {
    "running-mean": (RunningMean, Reinforce, bits, "guide"),
    "neural-baseline": (NeuralBaseline, RunningMean, bits, "guide"),
    "rloo": (lambda: LeaveOneOut(2), lambda: Reinforce(2), bits, "guide"),
    "rloo, one of three": (lambda: LeaveOneOut(2), lambda: Reinforce(2), one_hot, "guide"),
    "rloo, continuous": (lambda: LeaveOneOut(4), lambda: Reinforce(4), continuous, "guide"),
    "vimco": (lambda: VIMCO(5), lambda: MultiSampleScore(5), bits, "guide"),
    "vimco, continuous": (lambda: VIMCO(5), lambda: MultiSampleScore(5), continuous, "guide"),
    "disarm": (lambda: DisARM(2), lambda: LeaveOneOut(2), bits, "guide"),
    "relax": (RELAX, Reinforce, bits, "guide"),
    "relax, against a baseline": (RELAX, NeuralBaseline, bits, "guide"),  # which it is where draws are not coupled
    "gumbel-softmax": (GumbelSoftmax, Reinforce, one_hot, "guide"),
    "straight-through": (StraightThrough, Reinforce, one_hot, "guide"),
    "straight-through-gumbel": (lambda: GumbelSoftmax(hard=True), Reinforce, one_hot, "guide"),
    "pathwise": (Pathwise, Reinforce, continuous, "guide"),
    "sticking-the-landing": (StickingTheLanding, Pathwise, near_posterior, "guide"),
    "pathwise-kl": (PathwiseKL, Pathwise, little_to_learn, "guide"),
    "iwae": (lambda: IWAE(5), lambda: MultiSampleScore(5), continuous, "guide"),
    "iwae, by particles": (lambda: IWAE(10), lambda: IWAE(2), continuous, "model"),
    "dreg": (lambda: DReG(10), lambda: IWAE(10), between, "guide"),
}
EQUAL = {"score-function": (ScoreFunction, scores, Reinforce, continuous)}
EXACT = {"enumeration": Enumeration, "Pyro's enumeration": lambda: TraceEnum_ELBO(max_plate_nesting=1)}


@cache
def variance(make, pair, group):
    """Its 95% interval."""
    pyro.set_rng_seed(0)
    model, guide, x = pair()
    pyro.set_rng_seed(1)
    found = gradient_statistics(model, guide, x, elbo=make(), draws=2000).sel(group=group)
    return float(found.variance_low), float(found.variance), float(found.variance_high)


@pytest.mark.parametrize("law", LAWS)
def test_its_variance_is_below_its_simpler_siblings(law):
    better, simpler, pair, group = LAWS[law]
    assert variance(better, pair, group)[2] < variance(simpler, pair, group)[0]


@pytest.mark.parametrize("name", [name for name, entry in ESTIMATORS.items() if entry.biased])
def test_a_biased_gradient_is_near_the_exact_one(name):
    """What is bought with the bias; the divergence's gradient alone is as far off as the exact one is long."""
    pyro.set_rng_seed(0)
    model, guide, x = one_hot()
    own = sum(leaf.numel() for leaf in guide.parameters())  # the last components
    exact = reference_gradient(model, guide, x).mean[-own:]
    mean = torch.tensor(gradient_statistics(model, guide, x, elbo=estimator(name), draws=1000)["mean"].values[-own:])
    assert (mean - exact).norm() < 0.3 * exact.norm()


@pytest.mark.parametrize("law", EQUAL)
def test_the_same_estimator_by_another_way_has_the_same_variance(law):
    one, its_pair, two, other_pair = EQUAL[law]
    (low, _, high), (other_low, _, other_high) = variance(one, its_pair, "guide"), variance(two, other_pair, "guide")
    assert max(low, other_low) < min(high, other_high)


class ScalarBits(nn.Module):
    """One bit for each row, as Pyro enumerates it; a model where ``obs`` is given, else a guide."""

    def __init__(self, observes):
        super().__init__()
        self.observes, self.logit = observes, nn.Parameter(torch.tensor(0.3))

    def forward(self, x):
        with pyro.plate("data", len(x)):
            prior = dist.Bernoulli(logits=self.logit.expand(len(x)))
            z = pyro.sample("z", prior, infer={} if self.observes else {"enumerate": "parallel"})
            if self.observes:
                pyro.sample("x", dist.Normal(z, 1.0), obs=x)


@pytest.mark.parametrize("name", EXACT)
def test_enumeration_has_no_variance(name):
    torch.manual_seed(0)
    model, guide, x = (ScalarBits(True), ScalarBits(False), torch.randn(4)) if name != "enumeration" else bits()
    total = gradient_statistics(model, guide, x, elbo=EXACT[name](), draws=200).sel(group="total")
    assert float(total.variance) < 1e-10 * float(total.mean_norm) ** 2
    assert float(total.mean_norm) > 0.01


def test_every_estimator_has_such_a_law():
    covered = (
        {law.partition(",")[0] for law in LAWS} | set(EQUAL) | {"enumeration", "reinforce"}
    )  # which all others beat
    assert covered == set(ESTIMATORS)
