# %% [markdown]
# # Where do the images go in the latent space?
#
# *"The encoder gives a mean and a variance, and we force them to be a unit normal. So eventually, the encoder should
# only give us a zero and a one for all images?"* — *"The z values will form a continuum around the origin, out to a
# radius of ~3. The model will learn to place inputs that are similar to each other into nearby positions."*
#
# It is not each $q(z \mid x)$ that has to become the prior, or $z$ would tell nothing about $x$. It is their average,
# the aggregate posterior
#
# $$q(z) = \frac{1}{N} \sum_{n=1}^{N} q(z \mid x_n)$$
#
# which the decoder must meet where the prior draws from, since that is where new images come from. With two latents the
# whole space fits on a page: what the decoder draws at each place, where the test images go, and how far from the
# origin. Under the prior the radius is Rayleigh distributed, $P(|z| < r) = 1 - e^{-r^2 / 2}$, so 98.9% lies within 3.
#
#     python examples/latent_manifold.py                            # 8x8 digits, about 40 seconds
#     python examples/latent_manifold.py --data mnist --epochs 20   # about 3 minutes

# %%
import argparse
import math
import sys
from pathlib import Path

import pyro
import torch
from torch.nn.functional import pad

from ppl_vae import fit, information, load
from ppl_vae.guides import Amortized, Diagonal
from ppl_vae.models import VAE
from ppl_vae.plots.style import PALETTE, new_figure, show, tidy

parser = argparse.ArgumentParser(description="Where do the images go in the latent space?")
parser.add_argument("--data", default="digits", help="digits, mnist, fashion-mnist, or a .npy file of images")
parser.add_argument("--epochs", type=int, default=150)
parser.add_argument("--figure", type=Path, default=Path("runs/latent_manifold.png"))
options = parser.parse_args([] if "ipykernel" in sys.modules else None)  # a notebook has no command line

# %%
images = load(options.data)
pixels = images.train.shape[1]
pyro.set_rng_seed(0)
test = images.test[:1000].bernoulli()
model, guide = VAE(pixels, latent_dim=2), Amortized(Diagonal(2), pixels)
fit(model, guide, images.train, transform=torch.bernoulli, epochs=options.epochs, seed=0, progress=False)

# %% [markdown]
# The radius is that of draws from $q(z)$: an image at random, then a $z$ from its $q(z \mid x)$. The second measure
# needs no picture and works for any number of latents: the mean rate $\mathrm{KL}(q(z \mid x) \,\|\, p(z))$ is the
# mutual information of $z$ and the number $n$ of the image, which is what the code is for, plus
# $\mathrm{KL}(q(z) \,\|\, p(z))$, which is what still separates the average from the prior. Both are of these $N$
# images: $z$ cannot tell more of them apart than $\ln N$ nats, and of a larger set the first would be larger and the
# second smaller.

# %%
with torch.no_grad():
    draws = guide.posterior(test).sample((100,))
radius = draws.norm(dim=-1).flatten()
shares = {}
print(f"{'radius':>8}{'q(z) within':>14}{'prior within':>14}")
for limit in (0.5, 1.0, 2.0, 3.0, 4.0):
    shares[limit] = float((radius < limit).float().mean())
    print(f"{limit:>8}{shares[limit]:>14.1%}{1 - math.exp(-(limit**2) / 2):>14.1%}")
measured = information(model, guide, test, particles=100, marginal=None, seed=0, progress=False)
rate, kept, left_over = float(measured.rate.mean()), measured.mutual_information, measured.marginal_kl
cap = math.log(len(test))
print(f"rate {rate:.2f} = mutual information {kept:.2f} + KL(q(z) || p(z)) {left_over:.2f} nats")
print(
    f"(the mutual information of z and which of {len(test)} test images it is: at most ln {len(test)} = {cap:.2f} nats)"
)

# %%
figure = new_figure(13, 4.6)
drawn, placed, spread = figure.subplots(1, 3)
reach, side = 3.4, 15
ticks = torch.linspace(-reach, reach, side)
grid = torch.cartesian_prod(-ticks, ticks).flip(1)  # from the top left, line by line
with torch.no_grad():
    pictures = model.likelihood(grid).mean.reshape(side, side, *images.shape)
pictures = pad(pictures, (1, 1, 1, 1), value=0.35)
canvas = pictures.permute(0, 2, 1, 3).flatten(2).flatten(0, 1)
edge = reach * side / (side - 1)  # the outermost pictures are centred at the reach
drawn.imshow(canvas, cmap="gray", vmin=0, vmax=1, extent=(-edge, edge, -edge, edge))
drawn.set_title("What the decoder draws at each z")
labels = torch.zeros(len(test)).long() if images.test_labels is None else images.test_labels[: len(test)]
for label in labels.unique().tolist():
    marker = "." if images.test_labels is None else f"${label}$"
    x, y = draws[0, labels == label].T.numpy()
    placed.scatter(x, y, marker=marker, s=28, linewidths=0.3, color=PALETTE[label % len(PALETTE)])
placed.set_title("Where the test images go: one draw each")
angle = torch.linspace(0, 2 * math.pi, 200)
for axes, color in ((drawn, PALETTE[4]), (placed, "black")):
    axes.plot(3 * angle.cos(), 3 * angle.sin(), color=color, linewidth=1.5)
    axes.set(xlim=(-edge, edge), ylim=(-edge, edge), aspect="equal", xlabel="$z_1$", ylabel="$z_2$")
placed.text(0, 3.05, "radius 3", ha="center", va="bottom", fontsize=9)
tidy(spread)
at = torch.linspace(0, 4, 200)
spread.plot(at, 100 * (1 - (-(at**2) / 2).exp()), color="black", linestyle="--")
spread.plot(radius.sort().values.numpy(), torch.linspace(0, 100, len(radius)), color=PALETTE[1], linewidth=2)
spread.axvline(3, color="0.5", linewidth=0.8)
spread.annotate(
    "prior, exact", (1.6, 100 * (1 - math.exp(-(1.6**2) / 2))), (-10, 8), textcoords="offset points", ha="right"
)
spread.annotate(
    "test images",
    (1.8, 100 * float((radius < 1.8).float().mean())),
    (12, -12),
    textcoords="offset points",
    color=PALETTE[1],
)
spread.set(xlim=(0, 4), ylim=(0, 102), xlabel="radius |z|", ylabel="draws within the radius, %")
spread.set_title("How far out they lie")
show(figure, options.figure)

# %%
print(
    f"Of the draws from q(z) {shares[3.0]:.1%} lie within a radius of 3, where the prior has {1 - math.exp(-4.5):.1%}; "
    f"of the rate of {rate:.2f} nats, {left_over:.2f} ± {measured.marginal_kl_se:.2f} are the KL from the average q(z) "
    f"of {len(test)} test images to the prior."
)
