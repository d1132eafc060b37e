# %% [markdown]
# # Which gradient for discrete latents?
#
# *"We can take the gradient through a Gaussian sample by reparametrizing it. What if $z$ is a bit, or a category?"*
#
# Then $z$ has no gradient, and "move $z$ a little and see" is not to be had. The score function asks only how likely
# each $z$ was, and pays with variance; a baseline $b$ that does not depend on $z$ buys some of it back without a bias:
#
# $$\nabla_\phi \mathbb{E}_{q_\phi}[\log w] = \mathbb{E}_{q_\phi}\bigl[(\log w - b)\, \nabla_\phi \log q_\phi(z)\bigr]$$
#
# The baseline may be a running mean, a network of $x$, or the other draws (`rloo`). DisARM uses each draw with its
# mirror image, RELAX subtracts a relaxed version of the model whose mean is known; Gumbel-softmax and straight-through
# give up on an unbiased gradient. All start from the same parameters, see the same images in the same order, and run
# the model twice for each image and step (RELAX: three times). What is printed is measured afterwards with discrete
# draws, because what a relaxed estimator saw in training is no bound.
#
#     python examples/discrete_latents.py    # 8x8 digits, one model, about a minute
#     python examples/discrete_latents.py --data mnist --steps 20000 --latents 200 --only linear,nonlinear,categorical
#
# The second form takes some hours. Its models are those of the literature: 200 Bernoulli latents with one linear layer
# on each side, or with two layers of 200 tanh units, and 20 categories of 10 values, all in batches of 24.

# %%
import argparse
import math
import sys
import time
from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.optim import Adam

from ppl_vae import bounds, fit, load
from ppl_vae.estimators import ESTIMATORS, estimator
from ppl_vae.guides import Amortized, Bernoulli, Categorical
from ppl_vae.measure.bounds import average
from ppl_vae.models import BernoulliVAE, CategoricalVAE
from ppl_vae.networks import JointMLP
from ppl_vae.plots.style import PALETTE, new_figure, show, tidy
from ppl_vae.programs import FamilyGuide, LatentVariableModel

parser = argparse.ArgumentParser(description="Which gradient for discrete latents?")
parser.add_argument("--data", default="digits", help="digits, mnist, fashion-mnist, or a .npy file of images")
parser.add_argument("--steps", type=int, default=400)
parser.add_argument("--latents", type=int, default=50)
parser.add_argument("--only", default="linear", help="some of linear, nonlinear and categorical, comma-separated")
parser.add_argument("--points", type=int, default=4, help="so many points of each curve; they divide the steps")
parser.add_argument("--figure", type=Path, default=Path("runs/discrete_latents.png"))
options = parser.parse_args([] if "ipykernel" in sys.modules else None)  # a notebook has no command line
if options.points < 1 or options.steps < 1 or options.steps % options.points:
    parser.error(f"--steps {options.steps} must be a multiple of --points {options.points}")

# %%
BATCH = 24
BITS = ("reinforce", "running-mean", "neural-baseline", "rloo", "disarm", "relax", "gumbel-softmax", "straight-through")
MODELS = {
    "linear": BITS,
    "nonlinear": BITS,
    "categorical": tuple(name for name in BITS if name not in ("disarm", "relax")),  # these two are for bits
}
images = load(options.data)
pixels = images.train.shape[1]
torch.manual_seed(0)
test = images.test[:1000].bernoulli()


def pair(name: str) -> tuple[LatentVariableModel, FamilyGuide]:
    """The model and guide of that name, the same first parameters at every call."""
    torch.manual_seed(0)
    if name == "categorical":
        groups = max(1, options.latents // 10)
        return CategoricalVAE(pixels, groups, hidden=(200,)), Amortized(Categorical(groups), pixels, hidden=(200,))
    widths = [] if name == "linear" else [200, 200]
    decoder = JointMLP(options.latents, [*widths, pixels], activation_layer=nn.Tanh)
    encoder = JointMLP(pixels, [*widths, options.latents], activation_layer=nn.Tanh)
    return BernoulliVAE(pixels, options.latents, decoder=decoder), Amortized(
        Bernoulli(options.latents), encoder=encoder
    )


# %% [markdown]
# A training goes on in parts, with one Adam for all of them, and the bound is measured after each part.

# %%
Curve = list[tuple[int, float, float, float]]


def train(name: str, label: str) -> Curve:
    """At each point the steps, the seconds of training, the ELBO on the test images and its Monte Carlo error."""
    model, guide = pair(name)
    elbo = estimator(label, None if label == "relax" else 2)
    made: list[Adam] = []

    def one_adam(parameters: Iterable[Tensor]) -> Adam:
        if not made:
            made.append(Adam(parameters, lr=1e-3))
        return made[0]

    curve, seconds = Curve(), 0.0
    for part in range(options.points):
        generator = torch.Generator().manual_seed(part)
        chosen = torch.randint(len(images.train), (BATCH * (options.steps // options.points),), generator=generator)
        began = time.perf_counter()
        fit(
            model,
            guide,
            images.train[chosen],
            elbo=elbo,
            optimizer=one_adam,
            epochs=1,
            batch_size=BATCH,
            transform=torch.bernoulli,
            progress=False,
            seed=part,
            device="cpu",
        )
        seconds += time.perf_counter() - began
        found = bounds(model, guide, test, particles=10, curve=(1,), seed=0, progress=False)
        curve.append(((part + 1) * (options.steps // options.points), seconds, *average(found.elbo, found.elbo_se)))
    return curve


curves: dict[str, dict[str, Curve]] = {}
for name in options.only.split(","):
    print(f"{name}, {options.data}, {options.steps} steps: ELBO, nats per test image")
    curves[name] = {}
    for label in MODELS[name]:
        curves[name][label] = curve = train(name, label)
        _, seconds, elbo, error = curve[-1]
        print(f"  {label:<18}{elbo:>10.2f} ± {error:.2f}{seconds:>8.0f} s", end="", flush=True)
        print("  (a biased gradient)" if ESTIMATORS[label].biased else "")

# %%
figure = new_figure(11, 4 * len(curves))
for (left, right), (name, by_label) in zip(figure.subplots(len(curves), 2, squeeze=False), curves.items(), strict=True):
    tidy(left), tidy(right)
    for (label, curve), color in zip(by_label.items(), PALETTE, strict=False):
        steps, _, elbos, _ = zip(*curve, strict=True)
        left.plot(steps, elbos, ":" if ESTIMATORS[label].biased else "-", marker="o", markersize=3, color=color)
    ranked = sorted(by_label, key=lambda label: by_label[label][-1][2])
    for place, label in enumerate(ranked):
        _, _, elbo, error = by_label[label][-1]
        color = PALETTE[list(by_label).index(label)]
        right.errorbar(elbo, place, xerr=2 * error, fmt="o", color=color)
    right.set_yticks(
        range(len(ranked)), [f"{label} (biased)" if ESTIMATORS[label].biased else label for label in ranked]
    )
    left.set(xlabel="steps", ylabel="ELBO, nats per test image", title=f"{name} (dotted: a biased gradient)")
    right.set(xlabel="ELBO at the end, nats per test image")
show(figure, options.figure)

# %%
first = {label: curve[-1] for label, curve in next(iter(curves.values())).items()}
fair = [label for label in first if not ESTIMATORS[label].biased]
unbiased = max(fair, key=lambda label: first[label][2])
_, _, highest, highest_se = first[unbiased]
near = [label for label in fair if highest - first[label][2] < 2 * math.hypot(highest_se, first[label][3])]
near.remove(unbiased)
beside = f" ({', '.join(near)} within two Monte Carlo errors of it)" if near else ""
print(
    f"Of the unbiased gradients {unbiased} ended highest{beside}, in one training of each: after {options.steps} steps "
    f"the ELBO is {highest:.2f} ± {highest_se:.2f} nats per test image, and {first['reinforce'][2]:.2f} ± "
    f"{first['reinforce'][3]:.2f} by the plain score function."
)
