# %% [markdown]
# # Why is one gradient less noisy than the other?
#
# *"Without the reparameterization trick you get stuck at $z$: you cannot backpropagate through a sampled value, and
# will have to seek help from policy gradient. But both are unbiased. Why is one of them so much noisier?"*
#
# Both estimate the gradient of $\mathbb{E}_{q}[f(z)]$:
#
# $$\underbrace{\nabla_z f(z)\, \nabla_\phi (\mu + \sigma \varepsilon)}_{\text{pathwise}} \qquad
# \underbrace{f(z)\, \nabla_\phi \log q(z)}_{\text{score function}}$$
#
# The first knows the slope of $f$. The second must find it from the values of $f$ alone, so its noise grows with the
# size of $f$ itself. This page measures both: on a quadratic, where both variances are known, and on a VAE, where only
# the guide's switch differs, and the ELBO that goes with it.
#
#     python examples/reparameterized_or_score_function.py                          # 8x8 digits, under a minute
#     python examples/reparameterized_or_score_function.py --data mnist --epochs 5 --draws 500    # some minutes

# %%
import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pyro.infer import Trace_ELBO, TraceGraph_ELBO
from torch import Tensor

from ppl_vae import fit, gradient_statistics, load
from ppl_vae.estimators import estimator
from ppl_vae.guides import Amortized, Diagonal
from ppl_vae.measure.known_variances import known_variances, quadratic
from ppl_vae.models import VAE
from ppl_vae.plots.style import PALETTE, new_figure, show, tidy

parser = argparse.ArgumentParser(description="Why is one gradient less noisy than the other?")
parser.add_argument("--data", default="digits", help="digits, mnist, fashion-mnist, or a .npy file of images")
parser.add_argument("--epochs", type=int, default=20)
parser.add_argument("--latents", default="2,10,50", help="comma-separated")
parser.add_argument("--draws", type=int, default=300, help="gradients for each variance")
parser.add_argument("--figure", type=Path, default=Path("runs/reparameterized_or_score_function.png"))
options = parser.parse_args([] if "ipykernel" in sys.modules else None)  # a notebook has no command line


# %%
def variance(model: Any, guide: Any, name: str, x: Tensor, draws: int, seed: int = 0) -> tuple[float, float, float]:
    """The summed variance of the guide's gradient and its 95% interval.

    The score function needs draws without a gradient. The model's gradient is left out: both estimate it alike.
    """
    guide.reparameterized = name == "pathwise"
    found = gradient_statistics(model, guide, x, elbo=estimator(name), draws=draws, seed=seed, progress=False)
    guide.reparameterized = True
    of_guide = found.sel(group="guide")
    return float(of_guide.variance), float(of_guide.variance_low), float(of_guide.variance_high)


def interval(low: float, high: float, digits: int) -> str:
    """A 95% interval in words; there is none where a single draw makes up most of a variance."""
    if not np.isfinite([low, high]).all():
        return "no interval can be told: more --draws"
    return f"95% interval: {low:.{digits}f} to {high:.{digits}f}"


# %% [markdown]
# First $f(z) = (z - k)^2$ under $z \sim N(\mu, 1)$. With $d = \mu - k$ the pathwise variance is 4, wherever $\mu$ is,
# and that of the score function $d^4 + 14 d^2 + 15$: it is worst far from the goal, where a gradient is needed most.

# %%
FORMS = {"pathwise": "pathwise", "score-function": "score function"}
distances = (0.0, 1.0, 2.0, 4.0)
toy = {}
print(f"variance of the gradient of E[(z - k)^2], {80 * options.draws} draws: measured, known")
for name, form in FORMS.items():
    for distance in distances:
        toy_model, toy_guide, one = quadratic(distance, held=name != "pathwise")
        toy[name, distance] = variance(toy_model, toy_guide, name, one, 80 * options.draws, int(distance))
        value, low, high = toy[name, distance]
        known = known_variances(distance)[form]
        print(f"  {form:<16}d = {distance:g}: {value:8.3f} ({interval(low, high, 3)}), known {known:g}")

# %% [markdown]
# Then a VAE, after some training, with more and more latents. The interval of a ratio takes the ends of both intervals
# at once, which is cautious.

# %%
BATCH = 100
images = load(options.data)
pixels = images.train.shape[1]
torch.manual_seed(0)
x = images.train[:BATCH].bernoulli()
counts = [int(count) for count in options.latents.split(",")]


def trained(latents: int, elbo: Any, reparameterized: bool = True) -> tuple[VAE, Amortized, list[float]]:
    """A VAE trained by one of Pyro's two classes, and its training curve."""
    torch.manual_seed(0)
    model = VAE(pixels, latents, hidden=(200,))
    guide = Amortized(Diagonal(latents), pixels, hidden=(200,), reparameterized=reparameterized)
    history = fit(
        model,
        guide,
        images.train,
        elbo=elbo,
        epochs=options.epochs,
        batch_size=BATCH,
        transform=torch.bernoulli,
        seed=0,
        progress=False,
    )
    return model, guide, history.elbo


ratios, by_path = [], []
print(f"variance of the gradient of a VAE's guide, {BATCH} images, after {options.epochs} epochs by Trace_ELBO")
for count in counts:
    model, guide, by_path = trained(count, Trace_ELBO())
    path, score = (variance(model, guide, name, x, options.draws) for name in FORMS)
    ratios.append((score[0] / path[0], score[1] / path[2], score[2] / path[1]))
    print(f"  {count:3d} latents: pathwise {path[0]:.4g}, score function {score[0]:.4g}: ", end="")
    print(f"{ratios[-1][0]:.1f} times as much ({interval(*ratios[-1][1:], 1)})")
_, _, by_score = trained(counts[-1], TraceGraph_ELBO(), reparameterized=False)
for name, curve in (("Trace_ELBO, pathwise", by_path), ("TraceGraph_ELBO, score function", by_score)):
    print(f"  {name}, {counts[-1]} latents: training ELBO {curve[-1]:.2f} nats per image in the last epoch")

# %%
figure = new_figure(12, 4)
left, middle, right = (tidy(axes) for axes in figure.subplots(1, 3))
fine = np.linspace(min(distances), max(distances), 100)
for (name, form), color in zip(FORMS.items(), PALETTE, strict=False):
    left.plot(fine, [known_variances(d)[form] for d in fine], color="black", linewidth=1)
    value, low, high = np.array([toy[name, distance] for distance in distances]).T
    left.errorbar(distances, value, (value - low, high - value), fmt="o", color=color)
    left.annotate(
        form,
        (2.1, known_variances(2.0)[form]),
        xytext=(0, 8 if form == "pathwise" else -14),
        textcoords="offset points",
        color=color,
    )
left.set(yscale="log", xlabel="d, the distance from the goal", ylabel="variance of the gradient")
left.set_title("A quadratic (black: known)", fontsize=10)
value, low, high = np.array(ratios).T
middle.errorbar(counts, value, (value - low, high - value), fmt="o-", capsize=3, color=PALETTE[2])
middle.set(
    xscale="log",
    ylim=(0, 1.1 * float(np.nanmax([value, high]))),
    xlabel="latents",
    ylabel="score function over pathwise",
)
middle.set_xticks(counts, [str(count) for count in counts])
middle.xaxis.minorticks_off()
middle.set_title("Variances for a VAE's guide (95% intervals)", fontsize=10)
for form, curve, color in zip(FORMS.values(), (by_path, by_score), PALETTE, strict=False):
    right.plot(range(1, len(curve) + 1), curve, color=color)
    right.annotate(
        form,
        (len(curve), curve[-1]),
        xytext=(0, 5 if form == "pathwise" else -16),
        textcoords="offset points",
        ha="right",
        color=color,
    )
right.margins(y=0.15)
right.set(xlabel="epoch", ylabel="training ELBO, nats per image")
right.set_title(f"What they train, {counts[-1]} latents", fontsize=10)
show(figure, options.figure)

# %%
ratio, low_ratio, high_ratio = ratios[-1]
print(
    f"With {counts[-1]} latents the score function's gradient of the guide has {ratio:.0f} times the variance of the "
    f"pathwise one ({interval(low_ratio, high_ratio, 0)})."
)
