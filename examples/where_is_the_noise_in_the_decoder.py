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
#     python examples/where_is_the_noise_in_the_decoder.py                            # 8x8 digits, about 40 seconds
#     python examples/where_is_the_noise_in_the_decoder.py --data mnist --epochs 20   # about 10 minutes

# %%
import argparse
import math
import sys
import warnings
from pathlib import Path

import pyro
import torch
from torch import Tensor
from torch.nn.functional import pad

from ppl_vae import TrainingWarning, fit, information, load, warm_up
from ppl_vae.guides import Amortized, Diagonal
from ppl_vae.models import VAE
from ppl_vae.plots.images import reconstruct
from ppl_vae.plots.style import PALETTE, new_figure, show, tidy

parser = argparse.ArgumentParser(description="Where is the noise in the decoder?")
parser.add_argument("--data", default="digits", help="digits, mnist, fashion-mnist, or a .npy file of images")
parser.add_argument("--epochs", type=int, default=100)
parser.add_argument("--latents", type=int, default=8)
parser.add_argument("--hidden", type=int, nargs="+", default=[100], help="widths of the hidden layers")
parser.add_argument("--warm-up", type=float, default=0.5, help="share of the training; 0 for none")
parser.add_argument("--figure", type=Path, default=Path("runs/where_is_the_noise_in_the_decoder.png"))
options = parser.parse_args([] if "ipykernel" in sys.modules else None)  # a notebook has no command line

# %% [markdown]
# One VAE for each $\sigma$, with the same networks and the same start. `scale=None` learns $\sigma$ with everything
# else. It starts at the spread of the data, where the latents are worth little, and there lies a trap: without the
# warm-up of the KL a deeper network may never come to use its latents (try `--hidden 200 200 --warm-up 0`). A fixed
# $\sigma$ can be too large for any latent to pay: with a linear decoder that is so where no direction of the data has a
# variance above $\sigma^2$. `fit` warns of latents that stay unused; here the warning is silenced, since the table
# shows it as a rate of 0 bits.

# %%
warnings.filterwarnings("ignore", "posterior collapse", TrainingWarning)
images = load(options.data)
test = images.test[:500]
pixels = images.train.shape[1]


def trained(likelihood: str, sigma: float | None) -> tuple[VAE, Amortized]:
    """A VAE fitted to the training images; the Bernoulli one to bits drawn from the grey levels."""
    pyro.set_rng_seed(0)
    hidden = tuple(options.hidden)
    model = VAE(pixels, options.latents, likelihood, hidden=hidden, scale=sigma).initialize(images.train)
    guide = Amortized(Diagonal(options.latents), pixels, hidden=hidden)
    fit(
        model,
        guide,
        images.train,
        transform=torch.bernoulli if likelihood == "bernoulli" else None,
        kl_weight=warm_up(options.warm_up) if options.warm_up else 1.0,
        epochs=options.epochs,
        lr=2e-3,
        seed=0,
        progress=False,
    )
    return model, guide


def edges(x: Tensor) -> float:
    """The mean squared difference between neighbouring pixels: large in a sharp image, small in a blurred one."""
    square = x.reshape(-1, *images.shape)
    return float(square.diff(dim=1).square().mean() + square.diff(dim=2).square().mean())


widest = float(torch.linalg.eigvalsh(images.train.T.cov())[-1])
print(f"the largest variance of the data in any direction: {widest:.2f}, so its standard deviation {widest**0.5:.2f}")
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
# The squared error is a special case: times $-1/(2\sigma^2)$ and up to the constant above, it *is* the log-likelihood,
# for every image. And the Bernoulli likelihood needs no $\sigma$, since a bit's variance follows from its mean; its
# ELBO is one of bits, not of grey levels, so only its pictures can be compared.

# %%
model, guide = trained("gaussian", 0.1)
with torch.no_grad():
    z = guide.posterior(test)()
    density = model.likelihood(z)
    squared_error = (test - density.mean).square().sum(-1)
    constant = pixels / 2 * math.log(2 * math.pi * 0.1**2)
    exact = density.log_prob(test).double()
    difference = float((exact + squared_error / (2 * 0.1**2) + constant).abs().max() / exact.abs().mean())
print(f"log p(x | z) against minus the squared error / 0.02 minus {constant:.2f}: equal but for {difference:.0e} of it")
bits = trained("bernoulli", None)
pictures["Bernoulli"] = reconstruct(*bits, test)[:10]

# %%
figure = new_figure(11, 5.4)
curves, gallery = figure.subfigures(1, 2, width_ratios=(5, 6))
upper, lower = (tidy(axes) for axes in curves.subplots(2, 1, sharex=True))
at = [row["sigma"] for row in swept]
lowest = 2 * swept[-1]["elbo"] - learned["elbo"]  # the smallest sigmas lie far below
above = [row for row in swept if row["elbo"] > lowest]
upper.plot([row["sigma"] for row in above], [row["elbo"] for row in above], "o-", color=PALETTE[0])
for row in swept:
    if row["elbo"] <= lowest:
        upper.plot(row["sigma"], lowest, "v", color=PALETTE[0])
        upper.annotate(f"{row['elbo']:.0f}", (row["sigma"], lowest), (7, 0), textcoords="offset points")
upper.plot(learned["sigma"], learned["elbo"], "*", color=PALETTE[1], markersize=14, zorder=3)
label = f"learned: {learned['sigma']:.3f}"
upper.annotate(label, (learned["sigma"], learned["elbo"]), (10, 5), textcoords="offset points", color=PALETTE[1])
upper.margins(y=0.15)
upper.set(xscale="log", ylabel="ELBO, nats per image", title="How good a density it is")
lower.plot(at, [100 * row["edges"] for row in swept], "o-", color=PALETTE[0])
lower.plot(learned["sigma"], 100 * learned["edges"], "*", color=PALETTE[1], markersize=14, zorder=3)
lower.set(xlabel="σ of the likelihood", ylabel="edges kept, % of the data's", title="How sharp it draws", ylim=(0, 100))
height, width = images.shape
strips = [
    pad(pictured.reshape(-1, height, width), (1, 1, 1, 1), value=1.0).transpose(0, 1).flatten(1)
    for pictured in (test[:10], *pictures.values())
]
axes = gallery.subplots()
axes.imshow(torch.cat(strips), cmap="gray", vmin=0, vmax=1)
axes.set_yticks([(height + 2) * (row + 0.5) for row in range(len(strips))], ["test image", *pictures])
axes.set(xticks=[], title="Reconstructions")
axes.tick_params(length=0)
axes.spines[:].set_visible(False)
show(figure, options.figure)

# %%
print(
    f"The noise is in the density: learned, σ is {learned['sigma']:.3f} and the ELBO {learned['elbo']:.1f} nats per "
    f"image; hard-coded to 1 it is {swept[-1]['elbo']:.1f}, with {swept[-1]['edges']:.0%} of the edges and a rate of "
    f"{swept[-1]['rate']:.1f} instead of {learned['rate']:.1f} bits."
)
