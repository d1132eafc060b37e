# %% [markdown]
# # Where is the noise in the decoder?
#
# *"The generation network is 100% deterministic. So where is the stochastic bit of the generation network? Why is
# $p(x \mid z)$ a distribution?"*
#
# The network gives the *parameters* of a density, and the noise is in that density. With a Gaussian likelihood the
# network's output $f(z)$ is the mean, and $\sigma$ says how far a pixel may lie from it:
#
# $$\log p(x \mid z) = -\frac{\lVert x - f(z) \rVert^2}{2\sigma^2} - \frac{D}{2} \log(2\pi\sigma^2)$$
#
# Where $\sigma$ is fixed, the second term is a constant, and maximizing the likelihood is minimizing the squared error.
# But $\sigma$ is the exchange rate between that error and the rate $\mathrm{KL}(q(z \mid x) \,\|\, p(z))$: it decides
# how much of an image is worth encoding. This page sweeps it from 0.01 to 1, learns it, and compares with a Bernoulli
# likelihood.
#
#     python examples/where_is_the_noise_in_the_decoder.py                # 8x8 digits, about 30 seconds
#     python examples/where_is_the_noise_in_the_decoder.py --data mnist   # about 15 minutes

# %%
import argparse
import math
import sys
from pathlib import Path

import pyro
import torch
from torch import Tensor

from ppl_vae import fit, information, load
from ppl_vae.guides import Amortized, Diagonal
from ppl_vae.models import VAE
from ppl_vae.plots.images import reconstruct, show_image
from ppl_vae.plots.style import PALETTE, new_figure, show, tidy

parser = argparse.ArgumentParser(description="Where is the noise in the decoder?")
parser.add_argument("--data", default="digits", help="digits, mnist, fashion-mnist, or a .npy file of images")
parser.add_argument("--epochs", type=int, default=100)
parser.add_argument("--latents", type=int, default=8)
parser.add_argument("--figure", type=Path, default=Path("runs/where_is_the_noise_in_the_decoder.png"))
options = parser.parse_args([] if "ipykernel" in sys.modules else None)  # a notebook has no command line

# %% [markdown]
# One VAE for each $\sigma$, with the same networks and the same start. `scale=None` learns $\sigma$ with everything
# else.

# %%
images = load(options.data)
test = images.test[:500]
pixels = images.train.shape[1]


def trained(likelihood: str, sigma: float | None) -> tuple[VAE, Amortized]:
    """A VAE fitted to the training images; the Bernoulli one to bits drawn from the grey levels."""
    pyro.set_rng_seed(0)
    model = VAE(pixels, options.latents, likelihood, hidden=(200, 200), scale=sigma).initialize(images.train)
    guide = Amortized(Diagonal(options.latents), pixels, hidden=(200, 200))
    transform = torch.bernoulli if likelihood == "bernoulli" else None
    fit(model, guide, images.train, transform=transform, epochs=options.epochs, lr=2e-3, seed=0, progress=False)
    return model, guide


def edges(x: Tensor) -> float:
    """The mean squared difference between neighbouring pixels: large in a sharp image, small in a blurred one."""
    square = x.reshape(-1, *images.shape)
    return float(square.diff(dim=1).square().mean() + square.diff(dim=2).square().mean())


sigmas: list[float | None] = [0.01, 0.03, 0.1, 0.2, 0.3, 1.0, None]
rows = []
pictures = {}
print(f"{'sigma':>16}{'ELBO, nats':>13}{'rate, bits':>12}{'error':>8}{'edges kept':>12}")
for sigma in sigmas:
    pair = trained("gaussian", sigma)
    measured = information(*pair, test, particles=50, seed=0, progress=False)
    rate, distortion = float(measured.rate.mean()), float(measured.distortion.mean())
    again = reconstruct(*pair, test)
    row = {
        "sigma": float(pair[0].scale.detach()),
        "elbo": -rate - distortion,
        "rate": rate / math.log(2),
        "error": float((again - test).square().mean().sqrt()),
        "edges": edges(again) / edges(test),
    }
    rows.append(row)
    name = f"learned, {row['sigma']:.3f}" if sigma is None else f"{sigma}"
    pictures[f"σ = {name}" if sigma else f"σ {name}"] = again[:10]
    print(f"{name:>16}{row['elbo']:>13.2f}{row['rate']:>12.1f}{row['error']:>8.3f}{row['edges']:>12.0%}")
*swept, learned = rows
print("(error: root mean square per pixel; edges kept: 100% is as sharp as the data)")

# %% [markdown]
# The squared error is a special case: up to the constant above it *is* the log-likelihood, for every image. And the
# Bernoulli likelihood needs no $\sigma$, since a bit's variance follows from its mean; its ELBO is one of bits, not of
# grey levels, so only its pictures can be compared.

# %%
model, guide = trained("gaussian", 0.1)
with torch.no_grad():
    z = guide.posterior(test)()
    density = model.likelihood(z)
    squared_error = (test - density.mean).square().sum(-1)
    constant = pixels / 2 * math.log(2 * math.pi * 0.1**2)
    exact = density.log_prob(test).double()
    difference = float(((exact + squared_error / (2 * 0.1**2) + constant) / exact).abs().max())
print(f"log p(x | z) against minus the squared error / 0.02 minus {constant:.2f}: equal to a share of {difference:.0e}")
bits = trained("bernoulli", None)
pictures["Bernoulli"] = reconstruct(*bits, test)[:10]

# %%
figure = new_figure(10, 6.5)
upper, lower = figure.subfigures(2, 1, height_ratios=(2, 3))
left, right = (tidy(axes) for axes in upper.subplots(1, 2))
at = [row["sigma"] for row in swept]
left.plot(at, [row["elbo"] for row in swept], "o-", color=PALETTE[0])
left.plot(learned["sigma"], learned["elbo"], "*", color=PALETTE[1], markersize=13)
left.annotate("learned", (learned["sigma"], learned["elbo"]), xytext=(0, -16), textcoords="offset points", ha="center")
best = max(row["elbo"] for row in rows)
left.set(xscale="log", xlabel="σ of the likelihood", ylabel="ELBO, nats per image", title="How good a density it is")
left.set_ylim(best - 2.2 * (best - swept[-1]["elbo"]), None)  # at 0.01 it lies far below
right.plot(at, [100 * row["edges"] for row in swept], "o-", color=PALETTE[0])
right.plot(learned["sigma"], 100 * learned["edges"], "*", color=PALETTE[1], markersize=13)
right.set(xscale="log", xlabel="σ of the likelihood", ylabel="edges kept, % of the data's", title="How sharp it draws")
grid = lower.subplots(len(pictures) + 1, 10)
for line, (name, pictured) in zip(grid, {"image": test[:10], **pictures}.items(), strict=True):
    line[0].set_ylabel(name, rotation=0, ha="right", va="center", fontsize=8)
    for axes, picture in zip(line, pictured, strict=True):
        show_image(axes, picture, images.shape)
show(figure, options.figure)

# %%
print(
    f"The noise is in the density: learned, σ is {learned['sigma']:.3f} and the ELBO {learned['elbo']:.1f} nats per "
    f"image; hard-coded to 1 it is {swept[-1]['elbo']:.1f}, with {swept[-1]['edges']:.0%} of the edges and a rate of "
    f"{swept[-1]['rate']:.1f} instead of {learned['rate']:.1f} bits."
)
