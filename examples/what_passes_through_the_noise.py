# %% [markdown]
# # What passes through the noise?
#
# *"The noise limits the information passed between the encoder and the decoder (otherwise $\mu$ and $\Sigma$, being
# made up of real numbers, would carry an infinite number of bits). Somehow this prevents similar $z$ being decoded
# into wildly different images. What would happen if you didn't let the encoder produce $\sigma$ at all and had it
# hard-coded to 1.0?"*
#
# The ELBO charges for what the code says: the rate $\mathrm{KL}(q(z \mid x) \,\|\, p(z))$, in bits if the logarithm is
# to base 2. For $q = \mathcal N(\mu(x), \sigma^2 I)$ with $D$ latents it is
#
# $$\text{rate} = \frac{1}{\ln 2} \left( \frac{\lVert \mu(x) \rVert^2}{2} + D \, \frac{\sigma^2 - 1}{2} \right) +
# D \log_2 \frac{1}{\sigma}$$
#
# Halve the noise, and the last term grows by one bit for each latent; without noise it is infinite. (The term with
# $\sigma^2$ falls, too, which no longer matters where $\sigma$ is small.) This page hard-codes $\sigma$ from 1 down to
# 1/64, lets the encoder choose it, takes it away, and looks at three things: what the code costs, how much it really
# tells (the mutual information of $z$ and which of the test images it is), and how far the decoded image jumps when $z$
# moves by a tenth of the codes' standard deviation. That step grows with the codes, since an encoder may shrink or
# stretch them all, and the decoder follow, without any change in what they say.
#
#     python examples/what_passes_through_the_noise.py                            # 8x8 digits, about 50 seconds
#     python examples/what_passes_through_the_noise.py --data mnist --epochs 20   # about 15 minutes

# %%
import argparse
import math
import sys
from pathlib import Path

import pyro
import torch

from ppl_vae import fit, information, load, warm_up
from ppl_vae.guides import Amortized, Delta, Diagonal, Family, FixedScale
from ppl_vae.models import VAE
from ppl_vae.plots.images import show_image
from ppl_vae.plots.style import PALETTE, new_figure, show, tidy

parser = argparse.ArgumentParser(description="What passes through the noise?")
parser.add_argument("--data", default="digits", help="digits, mnist, fashion-mnist, or a .npy file of images")
parser.add_argument("--epochs", type=int, default=100)
parser.add_argument("--latents", type=int, default=8)
parser.add_argument("--figure", type=Path, default=Path("runs/what_passes_through_the_noise.png"))
options = parser.parse_args([] if "ipykernel" in sys.modules else None)  # a notebook has no command line

# %% [markdown]
# One VAE for each noise, from the same start: `FixedScale` hard-codes $\sigma$, `Diagonal` lets the encoder choose it
# for each image and latent, and `Delta` has none. The images are binarized anew whenever they are drawn.

# %%
images = load(options.data)
pixels, latents = images.train.shape[1], options.latents
pyro.set_rng_seed(0)
test = images.test[:500].bernoulli()


def trained(family: Family) -> tuple[VAE, Amortized]:
    """A VAE whose encoder gives the parameters of this family."""
    pyro.set_rng_seed(0)
    model, guide = VAE(pixels, latents, hidden=(200, 200)), Amortized(family, pixels, hidden=(200, 200))
    how = {"epochs": options.epochs, "lr": 2e-3, "kl_weight": warm_up(0.5), "seed": 0, "progress": False}
    fit(model, guide, images.train, transform=torch.bernoulli, **how)
    return model, guide


@torch.no_grad()
def jump(model: VAE, guide: Amortized) -> tuple[float, float]:
    """How far the decoded image moves with a step of 0.1 sd of the codes: root mean square over the pixels; the sd."""
    pyro.set_rng_seed(1)
    z = guide.posterior(test)()
    sd = z.var(0).mean().sqrt()
    anywhere = torch.randn_like(z)
    moved = z + 0.1 * sd * anywhere / anywhere.norm(dim=-1, keepdim=True)
    return float((model.likelihood(moved).mean - model.likelihood(z).mean).square().mean().sqrt()), float(sd)


sigmas = [2.0**-power for power in range(7)]
families: dict[str, Family] = {
    "1" if sigma == 1 else f"1/{round(1 / sigma)}": FixedScale(latents, sigma) for sigma in sigmas
}
families |= {"learned": Diagonal(latents), "none": Delta(latents)}
rows, walks = {}, {}
steps = torch.arange(12) / 5
direction = torch.ones(latents) / latents**0.5
print(f"{'noise':>8}{'rate, bits':>13}{'of the image':>15}{'ELBO, nats':>13}{'sd of codes':>13}{'jump':>8}")
for name, family in families.items():
    pair = trained(family)
    measured = information(*pair, test, particles=50, seed=0, progress=False)
    rate, distortion = float(measured.rate.mean()), float(measured.distortion.mean())
    moved, sd = jump(*pair)
    rows[name] = {
        "rate": rate / math.log(2),
        "told": measured.attrs["mutual_information"] / math.log(2),
        "elbo": -rate - distortion,
        "sd": sd,
        "jump": moved,
    }
    with torch.no_grad():
        start = pair[1].posterior(test[:1])().expand(len(steps), -1)
        walks[name] = pair[0].likelihood(start + sd * steps[:, None] * direction).mean
    noiseless = name == "none"
    cells = (
        ["infinite", "", "not a bound"] if noiseless else [f"{rows[name][key]:.2f}" for key in ("rate", "told", "elbo")]
    )
    print(f"{name:>8}{cells[0]:>13}{cells[1]:>15}{cells[2]:>13}{sd:>13.2f}{moved:>8.3f}")
    if name == "learned":
        learned_model, learned_guide = pair
most = math.log2(len(test))
print(
    f"(of the image: mutual information of z and which of the {len(test)} test images it is, at most {most:.1f} bits)"
)

# %% [markdown]
# The slope can be told without any training. We keep the means of the encoder that chose its own noise, put noise of
# one size around them, and measure the rate by drawing: it follows the formula above, and for small $\sigma$ each
# halving adds one bit for each latent.

# %%
with torch.no_grad():
    means = learned_guide.posterior(test).mean


class AroundTheMeans(Amortized):
    """The trained encoder's means, with another noise around them."""

    def params(self, x: torch.Tensor, *given: torch.Tensor) -> torch.Tensor:
        """The first half of the encoder's output: the means."""
        return super().params(x, *given).chunk(2, -1)[0]


frozen_sigmas = [2.0**-power for power in range(10)]
frozen, theory = [], []
for sigma in frozen_sigmas:
    noisy = AroundTheMeans(FixedScale(latents, sigma), encoder=learned_guide.encoder)
    measured = information(learned_model, noisy, test, particles=200, marginal=2, seed=0, progress=False)
    frozen.append(float(measured.rate.mean()) / math.log(2))
    nats = float(means.square().sum(-1).mean()) / 2 + latents * (sigma**2 - 1) / 2
    theory.append(nats / math.log(2) + latents * math.log2(1 / sigma))
slope, first = frozen[-1] - frozen[-2], frozen[1] - frozen[0]
print(
    f"the encoder's means with σ = 1/256, then 1/512: {frozen[-2]:.2f}, {frozen[-1]:.2f} bits, "
    f"{slope:.2f} for a halving (from σ = 1 to 1/2: {first:.2f})"
)

# %% [markdown]
# Below the curves, the pictures start at the code of one test image and move away from it in one direction, the same
# for all.

# %%
figure = new_figure(11, 7.5)
upper, lower = figure.subfigures(2, 1, height_ratios=(4, 5))
left, middle, right = (tidy(axes) for axes in upper.subplots(1, 3))
swept = [rows[name] for name in list(families)[: len(sigmas)]]
learned = rows["learned"]
halvings = range(len(sigmas))
for axes in (left, middle, right):
    axes.set_xticks(list(halvings), list(families)[: len(sigmas)])
    axes.set_xlabel("σ, hard-coded noise of the code")
for axes, key in ((middle, "elbo"), (right, "jump")):
    axes.plot(halvings, [row[key] for row in swept], "o-", color=PALETTE[0])
    axes.axhline(learned[key], color=PALETTE[2], linestyle="--")
left.plot(halvings, theory[: len(sigmas)], color="black", linewidth=1)
left.plot(halvings, [row["rate"] for row in swept], "o", color=PALETTE[0])
left.plot(halvings, [row["told"] for row in swept], "s-", color=PALETTE[1])
left.set_title("Bits per image", loc="left")
left.set_ylim(0, 1.25 * swept[-1]["rate"])
left.text(
    0.1,
    0.93 * swept[-1]["rate"],
    "what it costs (line: the formula\nat the learned encoder's means)",
    color=PALETTE[0],
)
left.text(len(sigmas) - 1, most + 0.03 * swept[-1]["rate"], "what it tells", color=PALETTE[1], ha="right")
middle.set_title("ELBO, nats per image", loc="left")
middle.text(len(sigmas) - 1, learned["elbo"] + 0.2, "σ from the encoder", color=PALETTE[2], ha="right", va="bottom")
middle.set_ylim(None, learned["elbo"] + 2.5)
right.set_title("Jump of a pixel as z moves by 0.1 sd", loc="left")
right.axhline(rows["none"]["jump"], color=PALETTE[3], linestyle="--")
right.text(0, rows["none"]["jump"], "no noise at all", color=PALETTE[3], va="bottom")
right.text(len(sigmas) - 1, learned["jump"] - 0.001, "σ from the encoder", color=PALETTE[2], ha="right", va="top")
right.set_ylim(0, 1.15 * max(row["jump"] for row in rows.values()))
shown = {name: "σ = " + name for name in ("1", "1/4", "1/16", "1/64")} | {"learned": "σ learned", "none": "no noise"}
for line, (name, label) in zip(lower.subplots(len(shown), len(steps)), shown.items(), strict=True):
    line[0].set_ylabel(label, rotation=0, ha="right", va="center", fontsize=8)
    for axes, picture, step in zip(line, walks[name], steps, strict=True):
        show_image(axes, picture, images.shape)
        if name == "1":
            axes.set_title(f"+ {step:.1f} sd" if step else "z", fontsize=8)
show(figure, options.figure)


# %%
def said(bits: float) -> str:
    """The bits that a code tells; where it tells all test images apart, there was no more to tell."""
    return f"at least {bits:.1f} (it tells all {len(test)} images apart)" if bits > most - 0.2 else f"{bits:.1f}"


smallest = list(families)[len(sigmas) - 1]
print(
    f"With σ hard-coded to 1 an image's code tells {said(swept[0]['told'])} bits. At fixed means each halving of a "
    f"small σ costs {slope:.2f} bits more, one for each of the {latents} latents; with means trained anew the "
    f"last halving costs {swept[-1]['rate'] - swept[-2]['rate']:.2f}. Left to the encoder, the noise lets through "
    f"{said(learned['told'])} bits for {learned['rate']:.1f}, and the ELBO is {learned['elbo']:.2f} nats, against "
    f"{swept[0]['elbo']:.2f} at σ = 1 and {swept[-1]['elbo']:.2f} at σ = {smallest}."
)
