# %% [markdown]
# # What if y has several values for an x?
#
# *"The conditional probability is a bit more free: a mixture density network deals with multi-modal situations, each
# requiring a different distribution."*
#
# $y = 7 \sin(0.75\,x) + 0.5\,x + \epsilon$ is a function of x. Turned round, one y belongs to up to five x. A network
# trained by least squares gives their mean, where there are none. A mixture density network (Bishop 1994) gives
#
# $$p(x \mid y) = \sum_{k=1}^{5} \pi_k(y) \, \mathcal{N}(x; \mu_k(y), \sigma_k(y)^2)$$
#
# with as many modes as there are answers. Both networks here have one hidden layer of 20 tanh units and the same data.
# Because the data are simulated, the true density is known, and with it the best figure that any model can reach.
#
#     python examples/mixture_density_network.py                           # about 30 seconds
#     python examples/mixture_density_network.py --epochs 8000 --starts 5  # until nothing changes, about 5 minutes

# %%
import argparse
import math
import sys
from pathlib import Path

import pyro
import torch
from pyro.infer import TraceEnum_ELBO
from torch import nn
from torchvision.ops import MLP

from ppl_vae import LogEvidence, cooldown, fit, no_guide
from ppl_vae.models import MixtureDensityNetwork
from ppl_vae.plots.mixtures import conditional_density
from ppl_vae.plots.style import PALETTE, new_figure, show

parser = argparse.ArgumentParser(description="What if y has several values for an x?")
parser.add_argument("--epochs", type=int, default=3000)
parser.add_argument("--starts", type=int, default=2, help="random starts; the best one on the training data is kept")
parser.add_argument("--figure", type=Path, default=Path("runs/mixture_density_network.png"))
options = parser.parse_args([] if "ipykernel" in sys.modules else None)  # a notebook has no command line

# %% [markdown]
# ## The data, and the density they come from
#
# x is uniform, so Bayes' rule on a grid of x gives p(x | y).

# %%
ROWS = 1000


def inverse_sinusoid(rows: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """What is asked for, x in [-10.5, 10.5], and what is given, y."""
    generator = torch.Generator().manual_seed(seed)
    x = 21 * torch.rand(rows, 1, generator=generator) - 10.5
    return x, 7 * (0.75 * x).sin() + 0.5 * x + torch.randn(rows, 1, generator=generator)


def true_log_density(x: torch.Tensor, y: torch.Tensor) -> float:
    """The mean of log p(x | y) under the density that the data come from, in nats."""
    grid = torch.linspace(-10.5, 10.5, 2001)
    noise = torch.distributions.Normal(0.0, 1.0)
    joint, own = (noise.log_prob(y - 7 * (0.75 * part).sin() - 0.5 * part) for part in (grid, x))
    return float(own.mean() - joint.logsumexp(1).mean() - math.log(21 / 2000))


x, y = inverse_sinusoid(ROWS, seed=0)
test_x, test_y = inverse_sinusoid(10 * ROWS, seed=1)

# %% [markdown]
# ## Least squares

# %%
pyro.set_rng_seed(0)
plain = MLP(1, [20, 1], activation_layer=nn.Tanh)
unit, shift = y.std(), y.mean()
optimizer = torch.optim.Adam(plain.parameters(), lr=0.01)
for _ in range(options.epochs):
    optimizer.zero_grad()
    (plain((y - shift) / unit) - x).square().mean().backward()
    optimizer.step()
with torch.no_grad():
    residuals = torch.distributions.Normal(0.0, (plain((y - shift) / unit) - x).std())
    squares = residuals.log_prob(plain((test_y - shift) / unit) - test_x)

# %% [markdown]
# ## The mixture density network
#
# `LogEvidence` maximizes log p(x | y) itself: the component is summed out, so no guide is needed. Pyro's
# `TraceEnum_ELBO` sums it out too, and gives the same number.

# %%
fits = []
for seed in range(options.starts):
    pyro.set_rng_seed(seed)
    model = MixtureDensityNetwork(1, 5, 1, hidden=(20,), activation=nn.Tanh).standardize(x, y)
    settings = {"epochs": options.epochs, "batch_size": ROWS, "lr": 0.02, "schedule": cooldown, "device": "cpu"}
    fit(model, no_guide, (x, y), elbo=LogEvidence(), seed=seed, progress=False, **settings)
    with torch.no_grad():
        fits.append((float(model.log_evidence(x, y).mean()), model))
train, best = max(fits, key=lambda fitted: fitted[0])
enumerated = -TraceEnum_ELBO(max_plate_nesting=1).loss(best, no_guide, x, y) / ROWS
with torch.no_grad():
    mixture = best.log_evidence(test_x, test_y)
truth = true_log_density(test_x, test_y)
print(f"{'log p(x | y), nats a point':<34}{'training':>10}{'test':>10}")
print(f"{'least squares':<34}{'':>10}{squares.mean():>10.3f}")
print(f"{'mixture density network':<34}{train:>10.3f}{mixture.mean():>10.3f}   (summed out by Pyro: {enumerated:.3f})")
print(f"{'the true density':<34}{true_log_density(x, y):>10.3f}{truth:>10.3f}")

# %% [markdown]
# ## What each says at y = 0

# %%
ask = torch.zeros(1, 1)
with torch.no_grad():
    average = float(plain((ask - shift) / unit))
    weights, means, scales = (part.squeeze(0) for part in best.modes(ask))
    inside = torch.cat([torch.stack(best.interval(part, 0.9)) for part in test_y.split(2000)], 1)
    share = float(((test_x > inside[0]) & (test_x < inside[1])).float().mean())
print(f"least squares: {average:.2f}; the mixture:")
for weight, mean, scale in zip(weights, means[:, 0], scales[:, 0], strict=True):
    print(f"  {weight:.2f} at {mean:6.2f} ± {scale:.2f}")
print(f"its 90% intervals hold {share:.1%} of the test points")

# %%
figure = new_figure(11, 4.2)
panels = figure.subplots(1, 3, sharey=True)
span = (-14.0, 14.0)
line = torch.linspace(*span, 400)[:, None]
titles = ("least squares: the mean of the answers", "mixture: p(x | y), darker is denser", "drawn from the mixture")
for axes, title in zip(panels, titles, strict=True):
    axes.set_title(title, fontsize=10)
    axes.set(xlabel="y, given", xlim=span, ylim=(-13, 13))
panels[0].set_ylabel("x, asked for")
with torch.no_grad():
    panels[0].plot(y, x, ".", markersize=2, color="0.6")
    panels[0].plot(line, plain((line - shift) / unit), color=PALETTE[1])
    conditional_density(best.log_evidence, span, (-13.0, 13.0), panels[1])
    panels[1].plot(y, x, ".", markersize=1, color="0.4", alpha=0.5)
    panels[2].plot(y, best.predictive(y).sample(), ".", markersize=2, color=PALETTE[0])
show(figure, options.figure)

# %%
error = float((mixture - squares).std()) / len(mixture) ** 0.5
print(
    f"The mean of several answers is no answer: the mixture's density of a new x is {(mixture - squares).mean():.2f} ± "
    f"{error:.2f} nats higher than that of least squares, and within {truth - float(mixture.mean()):.2f} nats of the "
    "true density."
)
