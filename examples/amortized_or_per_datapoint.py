# %% [markdown]
# # An encoder, or a row of numbers for each data point?
#
# *"We have a separate $q_i$ for each data point, which means we will have to store $N \times (|\mu_i| + |\sigma_i|)$
# parameters. $N$ is usually in millions, making this model unwieldily big. By adapting $q$ to be a learnable network,
# the model size does not depend on the number of data points anymore."*
#
# So a table grows with $N$, and an encoder does not. What does the encoder cost in exchange? Its gap can be larger:
#
# $$\log p(x) - \text{ELBO} = \underbrace{\mathrm{KL}(q^*_x \,\|\, p(z \mid x))}_{\text{the best of the family}} +
# \underbrace{\text{ELBO}^* - \text{ELBO}}_{\text{amortization}}$$
#
# One decoder with two latents is trained and frozen, so that $\log p(x)$ is known by quadrature. Then an encoder, a
# table and an encoder with five gradient steps for each image (semi-amortized) are fitted to it, on 100, 300 and 1000
# images, each with the same number of steps. The gap is measured on 50 images that are in each of these sets, and on 50
# that are in none. For $\text{ELBO}^*$, the best of the family, `refine` optimizes each of the 50 images by itself.
#
#     python examples/amortized_or_per_datapoint.py                # 8x8 digits, one to two minutes
#     python examples/amortized_or_per_datapoint.py --data mnist --sizes 100,1000,10000 --steps 5000  # some 20 minutes

# %%
import argparse
import math
import sys
import time
from pathlib import Path

import pyro
import torch
from pyro.infer import TraceMeanField_ELBO
from torch import nn

from ppl_vae import bounds, cooldown, fit, freeze, load, refine, warm_up
from ppl_vae.evidence import quadrature
from ppl_vae.guides import Amortized, Diagonal, PerDatapoint, SemiAmortized
from ppl_vae.measure.bounds import average
from ppl_vae.models import VAE
from ppl_vae.plots.style import PALETTE, new_figure, show, tidy

parser = argparse.ArgumentParser(description="An encoder, or a row of numbers for each data point?")
parser.add_argument("--data", default="digits", help="digits, mnist, fashion-mnist, or a .npy file of images")
parser.add_argument("--sizes", default="100,300,1000", help="numbers of images to fit the guides to")
parser.add_argument("--epochs", type=int, default=60, help="of the model's training")
parser.add_argument("--steps", type=int, default=600, help="of each guide's training")
parser.add_argument("--figure", type=Path, default=Path("runs/amortized_or_per_datapoint.png"))
options = parser.parse_args([] if "ipykernel" in sys.modules else None)  # a notebook has no command line

# %%
images = load(options.data)
pixels, hidden = images.train.shape[1], (200, 200)
sizes = [int(size) for size in options.sizes.split(",")]
if min(sizes) < 50 or max(sizes) > len(images.train):
    parser.error(f"--sizes is {options.sizes}; each is a number of images, from 50 to {len(images.train)}")
pyro.set_rng_seed(0)
train, unseen = images.train.bernoulli(), images.test[:50].bernoulli()
seen = train[:50]
model = VAE(pixels, 2, hidden=hidden)
how = {"epochs": options.epochs, "lr": 2e-3, "kl_weight": warm_up(0.5), "seed": 0, "progress": False}
fit(model, Amortized(Diagonal(2), pixels, hidden=hidden), images.train, transform=torch.bernoulli, **how)
freeze(model)
evidence = {id(x): quadrature(model, x, nodes=101).log_evidence for x in (seen, unseen)}

# %% [markdown]
# The last argument of a table is the index of each image, so it has nothing to say about an image that it was not
# fitted to. A step of the table is a step of each row; a step of an encoder is a step with a batch of at most 128.


# %%
BATCH = 128


def gap(guide: nn.Module, x: torch.Tensor, indexed: bool = False) -> tuple[float, float]:
    """log p(x) less the ELBO, nats per image, and its Monte Carlo error."""
    data = (x, torch.arange(len(x))) if indexed else x
    bound = bounds(model, guide, data, particles=1000, curve=[1], seed=0, progress=False)
    return average(evidence[id(x)] - bound.elbo, bound.elbo_se)


def fitted(kind: str, count: int) -> tuple[nn.Module, dict[str, float]]:
    """Fits one guide to the first images; the guide, and its numbers, memory, seconds and gaps."""
    pyro.set_rng_seed(0)
    encoder = Amortized(Diagonal(2), pixels, hidden=hidden)
    guide = {
        "encoder": encoder,
        "table": PerDatapoint(Diagonal(2), count),
        "semi-amortized": SemiAmortized(encoder, model),
    }[kind]
    table = kind == "table"
    data = (train[:count], torch.arange(count)) if table else train[:count]
    batch = count if table else BATCH
    how = {"lr": 0.1 if table else 2e-3, "schedule": cooldown, "capture": not table, "batch_size": batch}
    passes = math.ceil(options.steps / math.ceil(count / batch))
    start = time.perf_counter()
    fit(model, guide, data, elbo=TraceMeanField_ELBO(), epochs=passes, seed=0, progress=False, **how)
    seconds = time.perf_counter() - start
    numbers = sum(parameter.numel() for parameter in guide.parameters())
    of_seen, of_unseen = gap(guide, seen, table), (math.nan, math.nan) if table else gap(guide, unseen)
    return guide, {
        "numbers": numbers,
        "MiB": 3 * 4 * numbers / 2**20,  # of float32, with the two means that Adam keeps of each
        "seconds": seconds,
        "gap": of_seen[0],
        "gap_se": of_seen[1],
        "unseen": of_unseen[0],
        "unseen_se": of_unseen[1],
    }


def told(row: dict[str, float], key: str) -> str:
    """A gap and its error."""
    return f"{row[key]:.3f} ± {row[f'{key}_se']:.3f}"


rows = {}
print(f"{'guide':>16}{'N':>8}{'numbers':>10}{'MiB':>7}{'seconds':>9}{'gap, nats':>16}{'gap, unseen':>16}")
for kind in ("encoder", "table", "semi-amortized"):
    for count in sizes:
        guide, row = fitted(kind, count)
        rows[kind, count] = row
        if kind == "encoder":
            encoder = guide
        of_unseen = "no guide" if kind == "table" else told(row, "unseen")
        print(f"{kind:>16}{count:>8}{row['numbers']:>10}{row['MiB']:>7.2f}{row['seconds']:>9.1f}", end="")
        print(f"{told(row, 'gap'):>16}{of_unseen:>16}")
best = {}
for key, x in (("gap", seen), ("unseen", unseen)):
    optimal = refine(model, encoder, x, steps=min(300, options.steps), rounds=3, seed=0, progress=False)
    best[key], best[f"{key}_se"] = gap(optimal, x, indexed=True)
print(f"{'best of family':>16}{'':>34}{told(best, 'gap'):>16}{told(best, 'unseen'):>16}")
print("(±: the Monte Carlo error, for these 50 images and these trainings)")

# %%
row_numbers = Diagonal(2).num_params
crossing = rows["encoder", sizes[0]]["numbers"] // row_numbers + 1
figure = new_figure(11, 4)
titles = {"numbers": "Numbers to store", "seconds": "Seconds to fit", "gap": "Gap, nats per image"}
for axes, (key, title) in zip(figure.subplots(1, 3), titles.items(), strict=True):
    tidy(axes)
    for number, kind in enumerate(("encoder", "table", "semi-amortized")):
        values = [rows[kind, count][key] for count in sizes]
        axes.plot(
            sizes,
            values,
            "o--" if (kind, key) == ("semi-amortized", "numbers") else "o-",
            color=PALETTE[number],
            label=kind,
        )
        if key == "gap":
            axes.plot(sizes, [rows[kind, count]["unseen"] for count in sizes], "o:", color=PALETTE[number])
    axes.set(xscale="log", xlabel="N, images fitted to")
    axes.set_xticks(sizes, [str(count) for count in sizes])
    axes.minorticks_off()
    axes.set_title(title, loc="left")
    if key == "gap":
        axes.set_ylim(0, None)
        axes.axhline(best["gap"], color="black", linewidth=1)
        axes.text(
            0.98,
            0.97,
            "dotted: images it was not fitted to\nblack: the best of the family",
            va="top",
            ha="right",
            transform=axes.transAxes,
            fontsize=8,
        )
        axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    else:
        axes.set_yscale("log")
show(figure, options.figure)

# %%
last = {kind: rows[kind, sizes[-1]] for kind in ("encoder", "table", "semi-amortized")}
print(
    f"With N = {sizes[-1]} and {options.steps} steps of training the gap is {told(last['encoder'], 'gap')} nats by the "
    f"encoder ({told(last['encoder'], 'unseen')} on images it was not fitted to), {told(last['table'], 'gap')} by the "
    f"table and {told(last['semi-amortized'], 'gap')} by the encoder with steps, where the best of the family has "
    f"{told(best, 'gap')}; the table stores {row_numbers} numbers an image, more than the whole encoder from "
    f"N = {crossing} on, and has none for a new image."
)
