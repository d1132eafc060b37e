# %% [markdown]
# # Can an estimate of log p(x) be trusted?
#
# *"My importance-weighted estimate of $\log p(x)$ comes with a tiny standard error. Does that mean that it is right?"*
#
# $$\log \hat p(x) = \log \frac{1}{K} \sum_{k=1}^{K} \frac{p(x, z_k)}{q(z_k \mid x)}, \qquad z_k \sim q(z \mid x)$$
#
# Not if $q$ never visits a part of the posterior: the draws cannot tell of a place where none of them has been. This
# page makes four checks, each against something known: annealing against an exact $\log p(x)$; a posterior with four
# modes, of which the guide covers one; both sides of $\log p(x)$ for images that a VAE drew; and how often an interval
# of 1.96 times the error, standard error and bias together, holds the exact value.
#
#     python examples/can_the_evidence_be_trusted.py                                                 # about a minute
#     python examples/can_the_evidence_be_trusted.py --longest 3000 --repeats 100 --points 100       # about 15 minutes

# %%
import argparse
import math
import sys
from pathlib import Path

import numpy as np
import pyro.distributions as dist
import torch
import xarray as xr
from scipy.stats import binomtest
from torch import Tensor, nn

from ppl_vae import LatentVariableModel, annealed, bounds, cooldown, fit, freeze, load, sandwich, tightness
from ppl_vae.evidence import quadrature
from ppl_vae.guides import Amortized, Diagonal
from ppl_vae.measure.bounds import average
from ppl_vae.models import VAE, LinearGaussian
from ppl_vae.plots.style import PALETTE, new_figure, show, tidy

parser = argparse.ArgumentParser(description="Can an estimate of log p(x) be trusted?")
parser.add_argument("--data", default="digits", help="images for the third check")
parser.add_argument("--epochs", type=int, default=100)
parser.add_argument("--scales", default="0.35,0.15", help="of the likelihood in the second check, comma-separated")
parser.add_argument("--points", type=int, default=40, help="data points in the second check")
parser.add_argument("--repeats", type=int, default=20, help="estimates in the fourth check")
parser.add_argument("--longest", type=int, default=300, help="the longest annealing")
parser.add_argument("--figure", type=Path, default=Path("runs/can_the_evidence_be_trusted.png"))
options = parser.parse_args([] if "ipykernel" in sys.modules else None)  # a notebook has no command line
scales = [float(scale) for scale in options.scales.split(",")]
lengths = [steps for steps in (10, 30, 100, 300, 1000, 3000) if steps <= options.longest]

# %% [markdown]
# **1. Annealing against the exact value**, by the number of distributions between the prior and the posterior: a
# linear-Gaussian model with 10 latents. No error is told where the chains of a short annealing differ too much.

# %%
torch.manual_seed(0)
linear = freeze(LinearGaussian(20, 10, scale=0.5).double())
drawn = linear.generate(20)[1].sample()
known = linear.log_evidence(drawn).numpy()
off_by_length = {}
print("1. annealed - exact, nats per data point")
for steps in lengths:
    run = annealed(linear, None, drawn, steps=steps, seed=0, progress=False)
    value, error = average(run.log_evidence - known, run.log_evidence_se, run.log_evidence_bias)
    off_by_length[steps] = value, error
    accepted = f"acceptance {float(run.acceptance.mean()):.2f}"
    print(f"   {steps:5d} distributions: {value:+.3f} ± {error:.3f}, {accepted}".replace("± nan", "(no error)"))

# %% [markdown]
# **2. Four modes.** With $x \sim \mathcal{N}(z^2, s^2)$ the sign of each $z$ is lost, so two latents leave four modes.
# The guide starts at one of them and stays there. It sees a quarter of $p(x)$, so it misses $\log 4$ nats. The modes
# touch where $s$ is large: some draws then come near another mode, their weights are large, and k-hat, the diagnostic
# of the weights, rises. Where $s$ is small, hardly any does. The truth is found by quadrature.


# %%
class Squares(LatentVariableModel):
    """z ~ N(0, I), x ~ N(z^2, scale^2)."""

    def __init__(self, scale: float) -> None:
        super().__init__(2)
        self.scale = scale

    def likelihood(self, z: Tensor, *given: Tensor) -> dist.TorchDistribution:
        """The density of x given z."""
        return dist.Normal(z.square(), self.scale).to_event(1)


def one_mode() -> Amortized:
    """A guide that starts near the mode where both latents are above 0."""
    encoder = nn.Linear(2, 4)
    with torch.no_grad():
        encoder.weight.zero_()
        encoder.bias.copy_(torch.tensor([1.0, 1.0, -2.0, -2.0]))
    return Amortized(Diagonal(2), encoder=encoder).double()


torch.manual_seed(0)
x = 1 + 0.1 * torch.randn(options.points, 2, dtype=torch.float64)
modes: dict[float, dict[str, np.ndarray]] = {}
print(f"2. four modes (log 4 = {math.log(4):.3f}), mean of {options.points} data points, nats")
for scale in scales:
    squares, at_one = Squares(scale).double(), one_mode()
    fit(squares, at_one, x, epochs=options.epochs, batch_size=10, lr=1e-2, schedule=cooldown, seed=0, progress=False)
    truth = quadrature(squares, x).log_evidence.values
    weighted = tightness(squares, at_one, x, particles=2000, seed=0, progress=False)
    run = annealed(squares, None, x, steps=min(200, options.longest), chains=64, seed=0, progress=False)
    modes[scale] = found = {
        "weighted": weighted.log_evidence.values - truth,
        "annealed": run.log_evidence.values - truth,
        "khat": weighted.khat.values,
        "too high": weighted.khat.values > weighted.attrs["khat_threshold"],
    }
    print(f"   s = {scale:g}, k-hat too high for {found['too high'].mean():.0%}")
    for name, errors in (("weighted", weighted.log_evidence_se.values), ("annealed", run.log_evidence_se.values)):
        has = np.isfinite(errors)
        found[f"{name}_se"] = errors
        print(f"     {name} - exact {found[name].mean():+.3f}; {has.mean():.0%} have a standard error", end="")
        if has.any():
            print(f", median {np.median(errors[has]):.3f}, and these are off by {found[name][has].mean():+.3f}", end="")
        print()
threshold = weighted.attrs["khat_threshold"]

# %% [markdown]
# **3. From both sides.** For images that the model drew, annealing from their own latents backwards bounds
# $\log p(x)$ from above, so the width between the two bounds is a certificate that needs no known value. Both bounds
# hold on average over the draws: up to their errors the lower one may lie above the upper one.

# %%
images = load(options.data)
torch.manual_seed(0)
pixels = images.train.shape[1]
vae, guide = VAE(pixels, 10, hidden=(200, 200)), Amortized(Diagonal(10), pixels, hidden=(200, 200))
fit(
    vae,
    guide,
    images.train,
    transform=torch.bernoulli,
    epochs=options.epochs // 2 + 1,
    schedule=cooldown,
    progress=False,
)
freeze(vae)
sides = {}
errors_of_sides = {}
print("3. log p(x) of 10 images that a VAE drew, from below and from above, nats per image")
for steps in lengths:
    _, run = sandwich(vae, images.test[:10].bernoulli(), steps=steps, seed=1, progress=False)
    (low, low_error), (high, high_error) = (average(run[side], run[f"{side}_se"]) for side in ("lower", "upper"))
    sides[steps], errors_of_sides[steps] = (low, high), (low_error, high_error)
    text = f"{low:.3f} ± {low_error:.3f} to {high:.3f} ± {high_error:.3f}, width {high - low:+.3f}"
    print(f"   {steps:5d} distributions: {text}".replace("± nan", "(no error)"))


# %% [markdown]
# **4. Coverage.** Where the guide is good, do the errors hold what they promise? A 95% interval is 1.96 times the
# standard error and the bias together, on either side, where an error can be told at all.


# %%
def held(off: xr.DataArray, error: xr.DataArray, bias: xr.DataArray) -> np.ndarray:
    """1 where a 95% interval holds the exact value, 0 where it does not, NaN where there is none."""
    inside = np.abs(off) <= 1.96 * np.hypot(error, bias)
    return inside.where(error.notnull()).values.astype(float)


torch.manual_seed(0)
small = freeze(LinearGaussian(20, 4, scale=1.0).double())
seen = small.generate(20)[1].sample()
exact = small.log_evidence(seen).numpy()
good = Amortized(Diagonal(4), 20, hidden=()).double()
fit(small, good, seen, epochs=5 * options.epochs, lr=1e-2, seed=0, progress=False)
held_by: dict[str, list[np.ndarray]] = {"importance\nweights": [], "annealed": []}
for seed in range(options.repeats):
    found = bounds(small, good, seen, particles=1000, curve=(1000,), seed=seed, progress=False).isel(K=0)
    held_by["importance\nweights"].append(held(found.iwelbo - exact, found.iwelbo_se, found.bias))
    run = annealed(small, None, seen, steps=min(100, options.longest), chains=16, seed=seed, progress=False)
    held_by["annealed"].append(held(run.log_evidence - exact, run.log_evidence_se, run.log_evidence_bias))
print(f"4. how many of the 95% intervals hold the exact value, {options.repeats} for each of 20 data points")
coverage, coverage_interval = {}, {}
for name, inside in held_by.items():
    told = np.isfinite(inside)
    hits, count = int(np.nansum(inside)), int(told.sum())
    coverage[name], interval = hits / count, binomtest(hits, count).proportion_ci(method="wilson")
    coverage_interval[name] = interval.low, interval.high
    print(
        f"   {' '.join(name.split())}: {coverage[name]:.1%} ({interval.low:.1%} to {interval.high:.1%}) of those ",
        end="",
    )
    print(f"for which an error can be told, {told.mean():.1%}")

# %%
figure = new_figure(11, 7)
first, second, third, fourth = (tidy(axes) for axes in figure.subplots(2, 2).flat)
value, spread = np.array(list(off_by_length.values())).T
first.errorbar(lengths, value, 1.96 * spread, fmt="o-", capsize=3, color=PALETTE[0])
first.axhline(0, color="black", linewidth=1)
first.set(xscale="log", xlabel="distributions", ylabel="annealed - exact, nats", title="1. Annealing, by its length")
for number, (scale, off) in enumerate(modes.items()):
    color = PALETTE[number + 1]
    second.plot(off["weighted"], off["khat"], ".", color=color, label=f"importance weights, s = {scale:g}")
    strip = second.get_xaxis_transform()  # annealing has no k-hat: its dots lie in a strip at the bottom
    height = np.full(len(x), 0.05 + 0.05 * number)
    second.plot(
        off["annealed"], height, "x", color=color, markersize=4, transform=strip, label=f"annealed, s = {scale:g}"
    )
second.axhline(threshold, color="black", linestyle="--", linewidth=1)
second.axvline(0, color="black", linewidth=1)
second.axvline(-math.log(4), color="black", linestyle=":", linewidth=1)
second.annotate(" -log 4", (-math.log(4), 1), xycoords=("data", "axes fraction"), va="top")
second.legend(frameon=False, fontsize=8, loc="upper right")
second.set(xlabel="estimate - exact, nats", ylabel="k-hat (dashed: too high)", title="2. Four modes, a guide for one")
for side, label, color in ((0, "from below", PALETTE[0]), (1, "from above", PALETTE[1])):
    ends = [sides[steps][side] for steps in lengths]
    bars = [1.96 * errors_of_sides[steps][side] for steps in lengths]
    third.errorbar(lengths, ends, bars, fmt="o-", capsize=3, color=color, label=label)
third.legend(frameon=False)
third.set(xscale="log", xlabel="distributions", ylabel="log p(x), nats per image", title="3. Images that a VAE drew")
around = [
    [100 * abs(end - coverage[name]) for name, end in zip(coverage, ends, strict=True)]
    for ends in zip(*coverage_interval.values(), strict=True)
]
fourth.bar(
    list(coverage),
    [100 * share for share in coverage.values()],
    color=[PALETTE[1], PALETTE[0]],
    width=0.5,
    yerr=around,
    capsize=4,
)
fourth.axhline(95, color="black", linestyle="--", linewidth=1)
fourth.set(ylim=(0, 105), ylabel="intervals that hold the exact value, %", title="4. Coverage (dashed: 95%)")
show(figure, options.figure)


# %%
def miss(off: np.ndarray) -> str:
    """The mean over the data points, and its error: these points' own spread."""
    return f"{off.mean():+.3f} ± {off.std() / len(off) ** 0.5:.3f}"


told = []
for scale, found in modes.items():
    errors = found["weighted_se"][np.isfinite(found["weighted_se"])]
    error = f"{np.median(errors):.3f}" if len(errors) else "untold"
    told.append(
        f"at s = {scale:g} importance weighting is off by {miss(found['weighted'])} nats where the median of its "
        f"standard errors is {error}, and k-hat warns of {found['too high'].mean():.0%} of the data; annealing is off "
        f"by {miss(found['annealed'])}"
    )
silent = [scale for scale, found in modes.items() if found["weighted"].mean() < -0.5 and found["too high"].mean() < 0.5]
lead = "A small standard error is no proof, and a low k-hat is none" if silent else "Two methods say more than one"
print(f"{lead}: with four modes (log 4 is {math.log(4):.2f}), {'; '.join(told)}.")
