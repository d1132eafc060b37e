"""Draws the picture at the top of the README, docs/picture.png: how tight four bounds are, and what the model draws.

    python docs/picture.py    # about two minutes

One VAE with two latents is trained on the 8x8 handwritten digits and frozen; each guide is then trained on it.
"""

import argparse
from pathlib import Path

import pyro
import torch
from matplotlib.axes import Axes
from torch.nn.functional import pad

from ppl_vae import Comparison, compare, fit, load
from ppl_vae.guides import IAF, Amortized, Diagonal, Full, Unit
from ppl_vae.models import VAE
from ppl_vae.plots.style import PALETTE, new_figure, show, tidy

PARTICLES = 1000
FARTHEST = 1.0  # nats below log p(x), beyond which an ELBO would squeeze the others together
FAMILIES = {"flow": IAF, "full covariance": Full, "diagonal": Diagonal, "unit variance": Unit}


def compared(epochs: int) -> tuple[VAE, Comparison]:
    """Trains the model with a diagonal guide, then every guide on the frozen model."""
    digits = load("digits")
    pyro.set_rng_seed(0)
    model = VAE(observed_dim=64, latent_dim=2)
    guides = {name: Amortized(family(2), 64) for name, family in FAMILIES.items()}
    fit(model, Amortized(Diagonal(2), 64), digits.train, transform=torch.bernoulli, epochs=epochs, seed=0)
    test = digits.test.bernoulli()
    settings = {"transform": torch.bernoulli, "epochs": epochs, "particles": PARTICLES, "seed": 0}
    return model, compare(model, guides, digits.train, test=test, **settings)


def draw_bounds(axes: Axes, comparison: Comparison) -> None:
    """The bounds against the number of draws, with the gap of each ELBO in nats beside it."""
    tidy(axes)
    evidence = comparison.rows[0].log_evidence
    axes.axhline(evidence, color="black", linewidth=1.5, linestyle="--")
    axes.text(PARTICLES, evidence, "log p(x)", ha="right", va="bottom", weight="bold")
    curves = {name: comparison.bounds.sel(guide=name).iwelbo.mean("data") for name in FAMILIES}
    shown = [name for name in FAMILIES if float(curves[name][0]) > evidence - FARTHEST]
    low = min(float(curves[name][0]) for name in shown)
    room = evidence - low
    label = evidence
    for color, name in zip(PALETTE, FAMILIES, strict=False):
        curve, gap = curves[name], evidence - float(curves[name][0])
        axes.plot(curve.K, curve, "o-", color=color, markersize=4, linewidth=2)
        if name in shown:
            label = min(float(curve[0]), label - 0.16 * room)  # not onto the one above
            axes.text(0.8, label, f"{name}: {gap:.2f} nats", color=color, ha="right", va="center")
        else:
            axes.text(PARTICLES, low, f"{name}:\n{gap:.1f} nats", color=color, ha="right", va="top")
    axes.set(xscale="log", xlim=(0.012, 1.3 * PARTICLES), ylim=(low - 0.5 * room, evidence + 0.25 * room))
    axes.set_xticks([1, 10, 100, 1000], ["1\n(the ELBO)", "10", "100", "1000"])
    axes.set_xticks([], minor=True)
    axes.set(
        xlabel="draws in the bound", ylabel="nats per image", title="How far below log p(x) is each guide's bound?"
    )


def draw_manifold(axes: Axes, model: VAE, side: int = 13) -> None:
    """The mean image at each place of the two latents, at the prior's quantiles."""
    ticks = torch.distributions.Normal(0.0, 1.0).icdf(torch.linspace(0.5 / side, 1 - 0.5 / side, side))
    with torch.no_grad():
        images = model.likelihood(torch.cartesian_prod(-ticks, ticks).flip(1)).mean.reshape(side, side, 8, 8)
    canvas = pad(images, (1, 1, 1, 1), value=0.0).permute(0, 2, 1, 3).flatten(2).flatten(0, 1)
    axes.imshow(1 - canvas, cmap="gray", vmin=0, vmax=1)
    axes.set(xticks=[], yticks=[], xlabel="$z_1$", ylabel="$z_2$", title="What the model draws at each z")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--figure", type=Path, default=Path(__file__).with_name("picture.png"))
    options = parser.parse_args()
    model, comparison = compared(options.epochs)
    figure = new_figure(10, 4.2)
    left, right = figure.subplots(1, 2, width_ratios=(1.45, 1))
    draw_bounds(left, comparison)
    draw_manifold(right, model)
    show(figure, options.figure)
