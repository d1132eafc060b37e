# %% [markdown]
# # How does it look without `fit`?
#
# *"I have a training loop in Pyro. Do I have to give it up to measure how tight my bound is?"*
#
# No. The models and guides of this project are Pyro programs, so `SVI.step` trains them as ever, and the bounds are
# measured on what was trained:
#
# $$\mathrm{IWELBO}_K = \mathbb{E}\left[\log \frac{1}{K} \sum_{k=1}^{K} \frac{p(x, z_k)}{q(z_k \mid x)}\right]
# \le \log p(x), \qquad z_k \sim q(z \mid x), \qquad \mathrm{IWELBO}_1 = \mathrm{ELBO}$$
#
# This page trains a VAE twice, with a loop over `SVI.step` and with `fit`, and measures both in the same way.
#
#     python examples/plain_svi.py                              # 8x8 digits, about 30 seconds
#     python examples/plain_svi.py --data mnist --epochs 20     # about 10 minutes

# %%
import argparse
import sys
import time
from pathlib import Path

import pyro
import torch
from pyro.infer import SVI, Trace_ELBO
from pyro.optim import Adam

from ppl_vae import bounds, fit, load
from ppl_vae.guides import Amortized, Full
from ppl_vae.measure.bounds import average
from ppl_vae.models import VAE
from ppl_vae.plots.style import PALETTE, new_figure, show, tidy

parser = argparse.ArgumentParser(description="How does it look without fit?")
parser.add_argument("--data", default="digits", help="digits, mnist, fashion-mnist, or a .npy file of images")
parser.add_argument("--epochs", type=int, default=50)
parser.add_argument("--figure", type=Path, default=Path("runs/plain_svi.png"))
options = parser.parse_args([] if "ipykernel" in sys.modules else None)  # a notebook has no command line

# %%
images = load(options.data)
pixels = images.train.shape[1]
torch.manual_seed(0)
test = images.test[:1000].bernoulli()


def start() -> tuple[VAE, Amortized]:
    """A model and a guide with a full covariance, the same ones each time."""
    pyro.clear_param_store()  # SVI keeps its parameters there, by name
    pyro.set_rng_seed(0)
    return VAE(pixels, latent_dim=8), Amortized(Full(8), pixels)


# %% [markdown]
# The loop, as in any Pyro script. `x.bernoulli()` draws black and white pixels anew in each epoch.

# %%
model, guide = start()
svi = SVI(model, guide, Adam({"lr": 1e-3}), Trace_ELBO())
began, by_hand = time.perf_counter(), []
for _ in range(options.epochs):
    shuffled = images.train[torch.randperm(len(images.train))].bernoulli()
    losses = [svi.step(x) for x in shuffled.split(128)]
    by_hand.append(-sum(losses) / len(shuffled))
seconds_by_hand = time.perf_counter() - began
of_the_loop = bounds(model, guide, test, particles=1000, seed=0, progress=False)

# %% [markdown]
# The same in one call, which also captures the step as a graph of tensor operations.

# %%
pair = start()
began = time.perf_counter()
history = fit(
    *pair,
    images.train,
    elbo=Trace_ELBO(),
    lr=1e-3,
    batch_size=128,
    transform=torch.bernoulli,
    epochs=options.epochs,
    seed=0,
    progress=False,
)
seconds_of_fit = time.perf_counter() - began
of_fit = bounds(*pair, test, particles=1000, seed=0, progress=False)

# %%
print(f"{'':>12}{'ELBO':>20}{'IWELBO, K = 1000':>20}{'seconds':>10}")
elbos = {}
for name, found, seconds in (
    ("SVI.step", of_the_loop, seconds_by_hand),
    ("fit", of_fit, seconds_of_fit),
):
    elbos[name] = average(found.elbo, found.elbo_se)
    last = average(found.iwelbo[-1], found.iwelbo_se[-1])
    cells = [f"{value:.2f} ± {error:.2f}" for value, error in (elbos[name], last)]
    print(f"{name:>12}{cells[0]:>20}{cells[1]:>20}{seconds:>10.1f}")
print("(nats per test image; ±: the Monte Carlo error of the measurement)")

# %%
figure = new_figure(10, 4)
left, right = (tidy(axes) for axes in figure.subplots(1, 2))
curves = {"SVI.step": (by_hand, of_the_loop, "-"), "fit": (history.elbo, of_fit, "--")}
for (name, (curve, found, line)), color in zip(curves.items(), PALETTE, strict=False):
    left.plot(range(1, len(curve) + 1), curve, line, color=color, label=name)
    right.plot(found.K, found.iwelbo.mean("data"), f"o{line}", color=color, label=name)
low = sorted(by_hand)[len(by_hand) // 10]
left.set(xlabel="epoch", ylabel="training ELBO, nats per image", title="The training")
left.set_ylim(low, None)  # the first epochs lie far below
right.set(xscale="log", xlabel="K, draws of z for each image", ylabel="IWELBO, nats per test image", title="The bounds")
left.legend(frameon=False, loc="lower right")
show(figure, options.figure)

# %%
print(
    f"Without fit the bounds are measured as ever: the ELBO is {elbos['SVI.step'][0]:.2f} ± {elbos['SVI.step'][1]:.2f} "
    f"nats per test image after SVI.step and {elbos['fit'][0]:.2f} ± {elbos['fit'][1]:.2f} after fit, which in this "
    f"run took {seconds_of_fit / seconds_by_hand:.2f} of the time."
)
