# %% [markdown]
# # Why encode a variance?
#
# *"Why do people train variational autoencoders to encode means and variances, and then sample a random Gaussian,
# rather than simply encode latent vectors? I wonder what would happen if you didn't let the encoder produce $\sigma$ at
# all and had it hard-coded to 1.0."*
#
# The encoder is a channel: $z = \mu(x) + \sigma(x)\,\varepsilon$. The noise limits how much of an image passes through
# it, and what passes has a price, the rate:
#
# $$\mathrm{ELBO} = \underbrace{\mathbb{E}_{q(z \mid x)}[\log p(x \mid z)]}_{-\text{distortion}} -
# \underbrace{\mathrm{KL}(q(z \mid x) \,\|\, p(z))}_{\text{rate}}$$
#
# This page climbs a ladder of guides, and trains a model for each: no noise at all (`delta`: an autoencoder whose codes
# $\log p(z)$ pulls to 0), no signal at all (`prior`: $z$ is drawn without a look at $x$), $\sigma$ hard-coded to 1
# (`unit`) or to 0.5 (`fixed-scale`), $\sigma$ encoded (`diagonal`), and then more than a $\sigma$ (`full` covariance,
# `flow`).
#
#     python examples/why_encode_a_variance.py    # 8x8 digits, about a minute
#     python examples/why_encode_a_variance.py --data mnist --epochs 20 --latents 16 --lr 1e-3    # about 15 minutes
#
# The second form gave an ELBO of -198.8 nats per image (prior), -126.8 (unit), -104.6 (fixed-scale), -97.2 (diagonal)
# and -97.7 (full), at rates of 0.0, 33.1, 28.9, 28.5 and 26.7 bits; the flow was not measured there. So most of what is
# won against $\sigma = 1$ is had by a better constant already.

# %%
import argparse
import math
import sys
import warnings
from pathlib import Path
from typing import Any

import torch
from pyro.infer import ELBO, Trace_ELBO, TraceMeanField_ELBO
from torch import Tensor, nn

from ppl_vae import TrainingWarning, compare, cooldown, load
from ppl_vae.guides import IAF, Amortized, Delta, Diagonal, FixedScale, Full, Prior, Unit
from ppl_vae.models import VAE
from ppl_vae.plots.images import show_image
from ppl_vae.plots.style import colors, new_figure, show, tidy

parser = argparse.ArgumentParser(description="Why encode a variance?")
parser.add_argument("--data", default="digits", help="digits, mnist, fashion-mnist, or a .npy file of images")
parser.add_argument("--epochs", type=int, default=40)
parser.add_argument("--lr", type=float, default=3e-3)
parser.add_argument("--latents", type=int, default=16)
parser.add_argument("--images", type=int, default=2000, help="measure on so many test images")
parser.add_argument("--figure", type=Path, default=Path("runs/why_encode_a_variance.png"))
options = parser.parse_args([] if "ipykernel" in sys.modules else None)  # a notebook has no command line

# %% [markdown]
# Each rung starts from the same model and the same kind of encoder. Only what the encoder says of $z$ differs.

# %%
images = load(options.data)
test = torch.bernoulli(images.test[: options.images], generator=torch.Generator().manual_seed(0))
pixels = images.train.shape[1]

torch.manual_seed(0)
model = VAE(pixels, options.latents)
families = {"delta": Delta, "unit": Unit, "fixed-scale": FixedScale, "diagonal": Diagonal, "full": Full, "flow": IAF}
guides: dict[str, nn.Module] = {name: Amortized(family(options.latents), pixels) for name, family in families.items()}
ladder = ("delta", "prior", *list(families)[1:])
guides = {name: Prior(model) if name == "prior" else guides[name] for name in ladder}


def estimator(guide: nn.Module) -> ELBO:
    """The KL in closed form where the family has one: fewer steps to the same place."""
    return TraceMeanField_ELBO() if isinstance(guide, Amortized) else Trace_ELBO()


warnings.simplefilter("ignore", TrainingWarning)  # k-hat is high for fixed-scale: log p(x) is a lower bound below
found = compare(
    model,
    guides,
    images.train,
    test=test,
    joint=True,
    transform=torch.bernoulli,  # binarized anew at each draw
    elbo=estimator,
    epochs=options.epochs,
    lr=options.lr,
    schedule=cooldown,
    particles=500,
    columns=(500,),
    seed=0,
    progress=False,
)

# %%
print(f"{'guide':<13}{'ELBO':>10}{'rate, bits':>12}{'distortion':>12}{'log p(x)':>10}{'active units':>14}")
rows: dict[str, dict[str, Any]] = {}
by_name = {row.guide: row for row in found.rows}
for name in ladder:
    row = by_name[name]
    rows[name] = {
        "elbo": row.elbo,
        "error": row.elbo_se,
        "rate": row.rate,
        "distortion": float(found.bounds.distortion.sel(guide=name).mean()),
    }
    bits = "-" if row.rate is None else f"{row.rate / math.log(2):.1f}"
    evidence = f"{row.log_evidence:.2f}" if row.is_bound and row.log_evidence is not None else "-"
    print(f"{name:<13}{row.elbo:>10.2f}{bits:>12}{rows[name]['distortion']:>12.2f}{evidence:>10}", end="")
    print(f"{row.active_units:>14}" + ("" if row.is_bound else "  not a bound"))
print(f"(nats per test image, Monte Carlo errors below {max(row.elbo_se for row in found.rows):.3f};")
print(" log p(x): IWELBO at K = 500, a lower bound; active units: latents whose mean depends on the image)")

# %% [markdown]
# Without noise a code may tell everything, but nothing makes the decoder draw well between the codes of its images. And
# the "ELBO" of a point is no bound on $\log p(x)$, because a point has no density. Below are images that each model
# draws from the prior, and the way from the code of one test image to that of another.


# %%
def between(name: str, steps: int = 8) -> Tensor:
    """The mean of p(x | z) along the line between the posterior means of two test images."""
    own_model, guide = found.pairs[name]
    with torch.no_grad():
        first, last = guide.posterior(test[:2].to(own_model.prior_loc)).expand((200, 2))().mean(0)
        share = torch.linspace(0, 1, steps, device=first.device)[:, None]
        return own_model.likelihood((1 - share) * first + share * last).mean


def drawn(name: str, count: int = 8) -> Tensor:
    """Images from the prior: the mean of p(x | z)."""
    own_model, _ = found.pairs[name]
    torch.manual_seed(1)
    with torch.no_grad():
        return own_model.generate(count)[1].mean


figure = new_figure(10, 8.5)
upper, lower = figure.subfigures(2, 1, height_ratios=(2, 3))
axes = tidy(upper.subplots(1, 1))
palette = colors(ladder)
bounded = [name for name in ladder if by_name[name].is_bound]
for name, row in rows.items():
    rate = row["rate"] or 0.0
    axes.barh(name, row["distortion"], color=palette[name])
    axes.barh(name, rate, left=row["distortion"], color=palette[name], alpha=0.45)
    words = f" ELBO {row['elbo']:.1f}" if name in bounded else " no noise: no rate and no bound"
    axes.text(row["distortion"] + rate, name, words, va="center", fontsize=9)
axes.invert_yaxis()
axes.set_xlim(0, 1.25 * max(row["distortion"] + (row["rate"] or 0.0) for row in rows.values()))
axes.set(xlabel="distortion (full) + rate (pale), nats per image", title="What each guide pays: minus its ELBO")
left, right = lower.subfigures(1, 2)
for part, title, pictured in ((left, "drawn from the prior", drawn), (right, "between two test images", between)):
    part.suptitle(title, fontsize=10)
    for line, name in zip(part.subplots(len(ladder), 8), ladder, strict=True):
        if part is left:
            line[0].set_ylabel(name, rotation=0, ha="right", va="center", fontsize=9)
        for cell, picture in zip(line, pictured(name), strict=True):
            show_image(cell, picture, images.shape)
show(figure, options.figure)


# %%
def worth(other: str) -> tuple[float, float]:
    """How much higher the ELBO is with an encoded sigma than with another rung, and the Monte Carlo error."""
    gain = rows["diagonal"]["elbo"] - rows[other]["elbo"]
    return gain, math.hypot(rows["diagonal"]["error"], rows[other]["error"])


gains = {"1": worth("unit"), "0.5": worth("fixed-scale")}
constant = min(gains, key=lambda sigma: gains[sigma][0])  # the better one
value, error = gains[constant]
verdict = "is worth" if value > 2 * error else "can't be told from" if value > -2 * error else "is worse by"
amount = f" {abs(value):.2f} ± {error:.2f} nats per image" if abs(value) > 2 * error else " a good constant"
print(
    f"In these trainings, one for each rung, an encoded variance {verdict}{amount} beside sigma = {constant}, the "
    f"better of the two constants ({gains['1'][0]:.2f} ± {gains['1'][1]:.2f} beside 1, {gains['0.5'][0]:.2f} ± "
    f"{gains['0.5'][1]:.2f} beside 0.5); the ELBO is {rows['diagonal']['elbo']:.1f} with it, and "
    f"{rows['prior']['elbo']:.1f} where z is blind to x."
)
