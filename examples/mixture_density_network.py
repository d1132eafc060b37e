# %% [markdown]
# # What if y has several values for an x?
#
# *"The conditional probability is a bit more free: a mixture density network deals with multi-modal situations, each
# requiring a different distribution."*
#
# $y = 7 \sin(0.75\,x) + 0.5\,x + \epsilon$ is a function of x. Turned round, one y belongs to up to five x. A network
# trained by least squares gives their mean, which need be none of them. A mixture density network (Bishop 1994) gives
#
# $$p(x \mid y) = \sum_{k=1}^{5} \pi_k(y) \, \mathcal{N}(x; \mu_k(y), \sigma_k(y)^2)$$
#
# with as many modes as there are answers. Three networks are compared: least squares, which gives one number and has
# one width for all y; a single Gaussian, whose width depends on y; and the mixture. All have one hidden layer of 20
# tanh units, the same data, the same training and as many starts. Because the data are simulated, the true density is
# known, and with it the best figure that a model can reach, on average over new data.
#
#     python examples/mixture_density_network.py                           # about a minute
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


def true_log_density(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """log p(x | y) of each row under the density that the data come from, in nats."""
    grid = torch.linspace(-10.5, 10.5, 2001)
    noise = torch.distributions.Normal(0.0, 1.0)
    joint, own = (noise.log_prob(y - 7 * (0.75 * part).sin() - 0.5 * part) for part in (grid, x))
    return own[:, 0] - joint.logsumexp(1) - math.log(21 / 2000)


x, y = inverse_sinusoid(ROWS, seed=0)
test_x, test_y = inverse_sinusoid(10 * ROWS, seed=1)

# %% [markdown]
# ## Least squares
#
# Its density of a new x is a Gaussian around the answer, as wide as the residuals of the training data.

# %%
unit, shift = y.std(), y.mean()
x_unit, x_shift = x.std(), x.mean()
LR = 0.02


def least_squares(seed: int) -> tuple[float, nn.Module]:
    """The training error, and a network of the standardized y that gives the standardized x."""
    pyro.set_rng_seed(seed)
    network = MLP(1, [20, 1], activation_layer=nn.Tanh)
    optimizer = torch.optim.Adam(network.parameters(), lr=LR)
    rate = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda epoch: cooldown(epoch / options.epochs))
    for _ in range(options.epochs):
        optimizer.zero_grad()
        loss = (network((y - shift) / unit) - (x - x_shift) / x_unit).square().mean()
        loss.backward()
        optimizer.step()
        rate.step()
    return float(loss.detach()), network


plain = min((least_squares(seed) for seed in range(options.starts)), key=lambda fitted: fitted[0])[1]


def answer(given: torch.Tensor) -> torch.Tensor:
    """What least squares says x is."""
    return x_shift + x_unit * plain((given - shift) / unit)


with torch.no_grad():
    residuals = torch.distributions.Normal(0.0, (answer(y) - x).std())
    squares_train = float(residuals.log_prob(answer(y) - x).mean())
    squares = residuals.log_prob(answer(test_y) - test_x)[:, 0]

# %% [markdown]
# ## The mixture density network
#
# `LogEvidence` maximizes log p(x | y) itself: the component is summed out, so no guide is needed. Pyro's
# `TraceEnum_ELBO` sums it out too, and gives the same number.


# %%
def trained(components: int) -> tuple[float, MixtureDensityNetwork]:
    """The best of the starts by its log p(x | y) of the training data, and that number."""
    fits = []
    settings = {"epochs": options.epochs, "batch_size": ROWS, "lr": LR, "schedule": cooldown, "device": "cpu"}
    for seed in range(options.starts):
        pyro.set_rng_seed(seed)
        model = MixtureDensityNetwork(1, components, 1, hidden=(20,), activation=nn.Tanh).standardize(x, y)
        fit(model, no_guide, (x, y), elbo=LogEvidence(), seed=seed, progress=False, **settings)
        with torch.no_grad():
            fits.append((float(model.log_evidence(x, y).mean()), model))
    return max(fits, key=lambda fitted: fitted[0])


def with_error(values: torch.Tensor) -> str:
    """The mean over the test points, and its error."""
    return f"{values.mean():.3f} ± {float(values.std()) / len(values) ** 0.5:.3f}"


single_train, single = trained(1)
train, best = trained(5)
enumerated = -TraceEnum_ELBO(max_plate_nesting=1).loss(best, no_guide, x, y) / ROWS
with torch.no_grad():
    one_gaussian, mixture = (model.log_evidence(test_x, test_y) for model in (single, best))
truth = true_log_density(test_x, test_y)
print(f"{'log p(x | y), nats a point':<34}{'training':>10}{'test':>10}")
for name, training, tested in (
    ("least squares", squares_train, squares),
    ("one Gaussian", single_train, one_gaussian),
    ("mixture density network", train, mixture),
    ("the true density", float(true_log_density(x, y).mean()), truth),
):
    print(f"{name:<34}{training:>10.3f}{with_error(tested):>18}")
print(f"(the mixture on the training data, summed out by Pyro: {enumerated:.3f})")

# %% [markdown]
# ## What each says at y = 3
#
# Beside each answer stands the density of the truth there.

# %%
ask = torch.full((1, 1), 3.0)
with torch.no_grad():
    average = float(answer(ask))
    weights, means, scales = (part.squeeze(0) for part in best.modes(ask))
    inside = torch.cat([torch.stack(best.interval(part, 0.9)) for part in test_y.split(2000)], 1)
    share = float(((test_x > inside[0]) & (test_x < inside[1])).float().mean())


def true_density(point: float) -> float:
    """The true density of x at y = 3."""
    return float(true_log_density(torch.full((1, 1), point), ask).exp())


highest = max(true_density(float(point)) for point in torch.linspace(-10.5, 10.5, 211))
at_average = true_density(average)
print(
    f"least squares: {average:.2f}, true density {at_average:.1g} (the highest of all x: {highest:.2f}); the mixture:"
)
for weight, mean, scale in zip(weights, means[:, 0], scales[:, 0], strict=True):
    print(f"  {weight:.2f} at {mean:6.2f} ± {scale:.2f}, true density {true_density(float(mean)):.2g}")
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
    panels[0].plot(line, answer(line), color=PALETTE[1])
    conditional_density(best.log_evidence, span, (-13.0, 13.0), panels[1])
    panels[1].plot(y, x, ".", markersize=1, color="0.4", alpha=0.5)
    panels[2].plot(y, best.predictive(y).sample(), ".", markersize=2, color=PALETTE[0])
show(figure, options.figure)

# %%
lead = "The mean of several answers need be no answer" if at_average < 0.01 * highest else "The mean is an answer here"
print(
    f"{lead}: at y = 3 least squares says x = {average:.2f}, where the true density is {at_average:.1g}. Log density "
    f"of a new x, mixture less least squares: {with_error(mixture - squares)} nats; less one Gaussian: "
    f"{with_error(mixture - one_gaussian)}; the true density less the mixture: {with_error(truth - mixture)}."
)
