# %% [markdown]
# # Is log p(x) really the ELBO plus a KL, at every step?
#
# *"When we optimize w.r.t. q, we make the bound tighter; when we optimize w.r.t. p, we make a better model. Only in
# theory, because we don't know whether the bound is tight or not."*
#
# For any model and any $q$, trained or not,
#
# $$\log p(x) = \underbrace{\mathbb{E}_{q}\left[\log p(x, z) - \log q(z)\right]}_{\mathrm{ELBO}} +
# \mathrm{KL}\left(q(z) \,\|\, p(z \mid x)\right)$$
#
# A step on $q$ can't move the left side, so all that the ELBO gains, the KL loses. A step on $p$ moves all three. This
# page alternates the two kinds of steps on models where each number can be computed exactly, by code of its own, and
# looks whether they add up. Then it does the same with a $q$ that can't fit the posterior, and there the second half of
# the sentence fails: the ELBO rises, and the model gets worse.
#
#     python examples/log_evidence_equals_elbo_plus_kl.py                       # iris, about 20 seconds
#     python examples/log_evidence_equals_elbo_plus_kl.py --data old-faithful   # of R, data/faithful.csv; as long

# %%
import argparse
import sys
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import pyro
import torch
from matplotlib.axes import Axes
from torch.distributions import MultivariateNormal, kl_divergence
from torch.optim import Adam

from ppl_vae import LatentVariableModel
from ppl_vae.data.tables import load_table
from ppl_vae.estimators import Enumeration, LogWeightELBO
from ppl_vae.estimators.enumeration import GaussHermite
from ppl_vae.guides import OneHot, PerDatapoint, Unit
from ppl_vae.models import GaussianMixture, LinearGaussian
from ppl_vae.plots.style import PALETTE, new_figure, show, tidy

parser = argparse.ArgumentParser(description="Is log p(x) really the ELBO plus a KL, at every step?")
parser.add_argument("--data", default="iris", help="iris, old-faithful, or a .csv file of numbers")
parser.add_argument("--epochs", type=int, default=5, help="rounds, each of some steps on q and then as many on p")
parser.add_argument("--steps", type=int, default=15, help="gradient steps of each kind in a round")
parser.add_argument("--components", type=int, default=3, help="Gaussians in the mixture")
parser.add_argument("--figure", type=Path, default=Path("runs/log_evidence_equals_elbo_plus_kl.png"))
options = parser.parse_args([] if "ipykernel" in sys.modules else None)  # a notebook has no command line

# %% [markdown]
# Three numbers, three ways. $\log p(x)$ comes from the model's own closed form. The ELBO comes from the log-weights of
# the pair of Pyro programs: a sum over all states of a discrete $z$, or Gauss-Hermite quadrature over a Gaussian one,
# which is exact here since $\log p(x, z) - \log q(z)$ is a quadratic function of $z$. The KL comes from PyTorch's
# formulas for two known distributions, $q$ and the exact posterior. All are means over the data.


# %%
class Step(NamedTuple):
    """What holds after one gradient step, in nats per data point."""

    moved: str  # q or p
    evidence: float
    elbo: float
    divergence: float


def gaussian(q: torch.distributions.Distribution) -> torch.distributions.Distribution:
    """Independent normals as one multivariate normal, for which PyTorch knows the KL; a discrete q as it is."""
    return q if q.has_enumerate_support else MultivariateNormal(q.mean, scale_tril=q.stddev.diag_embed())


@torch.no_grad()
def measured(moved: str, model: LatentVariableModel, guide: PerDatapoint, elbo: LogWeightELBO) -> Step:
    """The three numbers as model and guide stand now."""
    evidence = model.log_evidence(x).mean()
    bound = -elbo.loss(model, guide, x, index) / len(x)
    divergence = kl_divergence(gaussian(guide.posterior(x, index)), model.posterior(x)).mean()
    return Step(moved, float(evidence), bound, float(divergence))


def alternated(model: LatentVariableModel, guide: PerDatapoint, elbo: LogWeightELBO, lr: float) -> list[Step]:
    """Trains q for some steps, then p for as many, and so on; the first entry is the start."""
    steps = [measured("q", model, guide, elbo)]
    optimizers = {"q": Adam(guide.parameters(), lr=lr), "p": Adam(model.parameters(), lr=0.02)}
    for _ in range(options.epochs):
        for moved, optimizer in optimizers.items():
            for _ in range(options.steps):
                optimizer.zero_grad()
                (elbo.differentiable_loss(model, guide, x, index) / len(x)).backward()
                optimizer.step()
                steps.append(measured(moved, model, guide, elbo))
    return steps


x = load_table(options.data).values.double()
x = (x - x.mean(0)) / x.std(0)
index = torch.arange(len(x))

# %% [markdown]
# ## A q that can fit: a mixture of Gaussians
#
# $z$ says which Gaussian a data point comes from. Each data point has a row of its own in a table for its $q_i(z)$,
# which can be any distribution over the components, so the KL can fall to 0.

# %%
pyro.set_rng_seed(0)
mixture = GaussianMixture(x.shape[1], options.components).double().initialize(x)
table = PerDatapoint(OneHot(options.components), count=len(x)).double()
fitting = alternated(mixture, table, Enumeration(), lr=0.2)

# %% [markdown]
# ## A q that can't: a unit Gaussian
#
# The model is probabilistic PCA with one latent, $x = Wz + b + \text{noise}$, and it starts from the best there is, the
# maximum of the likelihood in closed form. But $q_i(z) = \mathcal{N}(\mu_i, 1)$ has its scale hard-coded to 1, and the
# true posterior is narrower. The steps on $p$ now bend the model until its posterior is more like $q$.

# %%
best = LinearGaussian.maximum_likelihood(x, latent_dim=1)
narrow = PerDatapoint(Unit(1), count=len(x)).double()
misfitting = alternated(best, narrow, GaussHermite(), lr=0.1)

# %%
print(f"{'':<28}{'log p(x)':>10}{'ELBO':>10}{'KL':>9}{'ELBO + KL - log p(x)':>23}   (nats per data point)")
for name, steps in (("mixture", fitting), ("PCA, unit q", misfitting)):
    for number in (0, options.steps, 2 * options.steps, len(steps) - 1):
        at = steps[number]
        what = "the start" if not number else f"after step {number}, on {at.moved}"
        difference = at.elbo + at.divergence - at.evidence
        print(f"{name + ', ' + what:<28}{at.evidence:>10.4f}{at.elbo:>10.4f}{at.divergence:>9.4f}{difference:>23.0e}")
largest = max(abs(step.elbo + step.divergence - step.evidence) for step in fitting + misfitting)

# %%
figure = new_figure(10, 4.6)


def draw(axes: Axes, steps: list[Step], title: str) -> None:
    """Stacks the KL on the ELBO, step after step."""
    tidy(axes).grid(visible=False)
    numbers = range(len(steps))
    elbo, evidence = [step.elbo for step in steps], [step.evidence for step in steps]
    low, high = elbo[options.steps], max(evidence)
    bottom, top = low - 0.3 * (high - low), high + 0.18 * (high - low)  # the first few steps come from far below
    axes.fill_between(numbers, bottom, elbo, color=PALETTE[5], alpha=0.5, linewidth=0)
    axes.fill_between(numbers, elbo, [step.elbo + step.divergence for step in steps], color=PALETTE[4], linewidth=0)
    axes.plot(numbers, evidence, color="black", linewidth=2)
    for half, moved in enumerate("qp" * options.epochs):
        if half:
            axes.axvline(half * options.steps, color="0.5", linewidth=0.6, linestyle=":")
        axes.text((half + 0.5) * options.steps, top, moved, ha="center", va="top", style="italic")
    axes.set(xlim=(0, len(steps) - 1), ylim=(bottom, top), xlabel="gradient step, on q or on p as marked above")
    axes.set_title(title)


left, right = figure.subplots(1, 2)
draw(left, fitting, "A mixture: q can become the posterior")
draw(right, misfitting, "PCA with a unit-variance q: it can't")
left.set_ylabel("nats per data point")
for axes, steps in ((left, fitting), (right, misfitting)):
    bottom, top = axes.get_ylim()
    axes.text(2, steps[0].evidence - 0.1 * (top - bottom), "KL", weight="bold")
    axes.text(len(steps) / 2, 0.75 * bottom + 0.25 * top, "ELBO", ha="center", color=PALETTE[0], weight="bold")
left.annotate("log p(x)", (0.75 * len(fitting), fitting[-1].evidence), (0, 6), textcoords="offset points", ha="center")
right.axhline(misfitting[0].evidence, color="black", linestyle="--", linewidth=1)
right.annotate(
    "log p(x) of the best model",
    (len(misfitting) - 4, misfitting[0].evidence),
    (0, 4),
    textcoords="offset points",
    ha="right",
)
show(figure, options.figure)


# %%
def gained(what: str, steps: list[Step]) -> float:
    """What all steps on p add to one of the three numbers."""
    pairs = pairwise(steps)
    return sum(getattr(after, what) - getattr(before, what) for before, after in pairs if after.moved == "p")


followed = gained("elbo", fitting), gained("evidence", fitting)
bent = gained("elbo", misfitting), gained("evidence", misfitting)
print(
    f"{'Yes' if largest < 1e-6 else 'No'}: ELBO + KL is log p(x) to {largest:.0e} nats after each of "
    f"{len(fitting + misfitting) - 2} steps. The steps on p change the ELBO by {followed[0]:+.2f} nats and log p(x) by "
    f"{followed[1]:+.2f} where q can follow; where it can't, they change the ELBO by {bent[0]:+.2f} and log p(x) by "
    f"{bent[1]:+.2f}."
)
