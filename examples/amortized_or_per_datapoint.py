# %% [markdown]
# # An encoder, or a row of numbers for each data point?
#
# *"We have a separate $q_i$ for each data point, which means we will have to store $N \times (|\mu_i| + |\sigma_i|)$
# parameters. $N$ is usually in millions, making this model unwieldily big. By adapting $q$ to be a learnable network,
# the model size does not depend on the number of data points anymore."*
#
# So a table grows with $N$, and an encoder does not. What does the encoder cost in exchange? Its gap is larger:
#
# $$\log p(x) - \text{ELBO} = \underbrace{\mathrm{KL}(q^*_x \,\|\, p(z \mid x))}_{\text{the table's, too}} +
# \underbrace{\text{ELBO}^* - \text{ELBO}}_{\text{amortization}}$$
#
# One decoder with two latents is trained and frozen, so that $\log p(x)$ is known by quadrature. Then an encoder, a
# table and an encoder with five gradient steps for each image (semi-amortized) are fitted to it, on 100, 300 and 1000
# images. The gap is measured on 50 images that are in each of these sets, and on 50 that are in none.
#
#     python examples/amortized_or_per_datapoint.py                # 8x8 digits, one to two minutes
#     python examples/amortized_or_per_datapoint.py --data mnist --sizes 100,1000,10000 --epochs 200  # about 20 minutes

# %%
import argparse
import sys
import time
from pathlib import Path

import pyro
import torch
from pyro.infer import TraceMeanField_ELBO
from torch import nn

from ppl_vae import bounds, cooldown, fit, freeze, load, warm_up
from ppl_vae.evidence import quadrature
from ppl_vae.guides import Amortized, Diagonal, PerDatapoint, SemiAmortized
from ppl_vae.models import VAE
from ppl_vae.plots.style import PALETTE, new_figure, show, tidy

parser = argparse.ArgumentParser(description="An encoder, or a row of numbers for each data point?")
parser.add_argument("--data", default="digits", help="digits, mnist, fashion-mnist, or a .npy file of images")
parser.add_argument("--sizes", default="100,300,1000", help="numbers of images to fit the guides to")
parser.add_argument("--epochs", type=int, default=150, help="passes of each guide over its images")
parser.add_argument("--figure", type=Path, default=Path("runs/amortized_or_per_datapoint.png"))
options = parser.parse_args([] if "ipykernel" in sys.modules else None)  # a notebook has no command line

# %%
images = load(options.data)
pixels, hidden = images.train.shape[1], (200, 200)
sizes = [int(size) for size in options.sizes.split(",")]
pyro.set_rng_seed(0)
train, unseen = images.train.bernoulli(), images.test[:50].bernoulli()
seen = train[:50]
model = VAE(pixels, 2, hidden=hidden)
how = {"epochs": min(60, options.epochs), "lr": 2e-3, "kl_weight": warm_up(0.5), "seed": 0, "progress": False}
fit(model, Amortized(Diagonal(2), pixels, hidden=hidden), images.train, transform=torch.bernoulli, **how)
freeze(model)
evidence = {id(x): quadrature(model, x, nodes=101).log_evidence for x in (seen, unseen)}

# %% [markdown]
# The last argument of a table is the index of each image, so it has nothing to say about an image that it was not
# fitted to. A pass steps each row once, and the encoder with each batch; so the table gets four times the
# passes.


# %%
def gap(guide: nn.Module, x: torch.Tensor) -> float:
    """log p(x) less the ELBO, nats per image."""
    data = (x, torch.arange(len(x))) if isinstance(guide, PerDatapoint) else x
    bound = bounds(model, guide, data, particles=1000, curve=[1], seed=0, progress=False)
    return float((evidence[id(x)] - bound.elbo).mean())


def fitted(kind: str, count: int) -> dict[str, float]:
    """Fits one guide to the first images; its numbers, memory, seconds and gaps."""
    pyro.set_rng_seed(0)
    encoder = Amortized(Diagonal(2), pixels, hidden=hidden)
    guide = {
        "encoder": encoder,
        "table": PerDatapoint(Diagonal(2), count),
        "semi-amortized": SemiAmortized(encoder, model),
    }[kind]
    data = (train[:count], torch.arange(count)) if kind == "table" else train[:count]
    how = {"lr": 0.1 if kind == "table" else 2e-3, "schedule": cooldown, "capture": kind != "table"}
    passes = options.epochs * (4 if kind == "table" else 1)
    start = time.perf_counter()
    fit(model, guide, data, elbo=TraceMeanField_ELBO(), epochs=passes, seed=0, progress=False, **how)
    seconds = time.perf_counter() - start
    numbers = sum(parameter.numel() for parameter in guide.parameters())
    return {
        "numbers": numbers,
        "MiB": 3 * 4 * numbers / 2**20,  # of float32, with the two means that Adam keeps of each
        "seconds": seconds,
        "gap": gap(guide, seen),
        "unseen": float("nan") if kind == "table" else gap(guide, unseen),
    }


rows = {}
print(f"{'guide':>16}{'N':>8}{'numbers':>10}{'MiB':>7}{'seconds':>9}{'gap, nats':>11}{'gap, unseen':>13}")
for kind in ("encoder", "table", "semi-amortized"):
    for count in sizes:
        rows[kind, count] = row = fitted(kind, count)
        told = f"{row['unseen']:.3f}" if kind != "table" else "no guide"
        print(f"{kind:>16}{count:>8}{row['numbers']:>10}{row['MiB']:>7.2f}{row['seconds']:>9.1f}", end="")
        print(f"{row['gap']:>11.3f}{told:>13}")

# %%
row_numbers = Diagonal(2).num_params
crossing = rows["encoder", sizes[0]]["numbers"] // row_numbers
figure = new_figure(11, 4)
titles = {"numbers": "Numbers to store", "seconds": "Seconds to fit", "gap": "Gap, nats per image"}
for axes, (key, title) in zip(figure.subplots(1, 3), titles.items(), strict=True):
    tidy(axes)
    for number, kind in enumerate(("encoder", "table", "semi-amortized")):
        values = [rows[kind, count][key] for count in sizes]
        axes.plot(sizes, values, "o--" if (kind, key) == ("semi-amortized", "numbers") else "o-", color=PALETTE[number])
        if key == "gap":
            axes.plot(sizes, [rows[kind, count]["unseen"] for count in sizes], "o:", color=PALETTE[number])
            axes.text(sizes[-1] * 1.15, values[-1], kind, color=PALETTE[number], va="center")
    axes.set(xscale="log", xlabel="N, images fitted to")
    axes.set_xticks(sizes, [str(count) for count in sizes])
    axes.minorticks_off()
    axes.set_title(title, loc="left")
    if key == "gap":
        axes.set_ylim(0, None)
        axes.text(0.02, 0.03, "dotted: images it was not fitted to", transform=axes.transAxes, fontsize=8)
    else:
        axes.set_yscale("log")
show(figure, options.figure)

# %%
last = {kind: rows[kind, sizes[-1]] for kind in ("encoder", "table", "semi-amortized")}
print(
    f"With N = {sizes[-1]} the gap is {last['encoder']['gap']:.2f} nats by the encoder, {last['table']['gap']:.2f} by "
    f"the table and {last['semi-amortized']['gap']:.2f} by the encoder with steps; the table stores {row_numbers} "
    f"numbers an image, more than the whole encoder from N = {crossing} on, and has none for a new image."
)
