"""Which gradient for discrete latents? The same VAEs trained by each estimator for equally many steps.

z has no gradient here, so "move z a little and see" is not to be had. The score function asks only how likely each z was,
and pays with variance; what follows are ways to buy some of it back: subtract a baseline (a running mean, a network of x,
the other draws), use each draw with its mirror image (DisARM), subtract a relaxed version of the model whose mean is known
(RELAX), or give up on an unbiased gradient (Gumbel-softmax, straight-through).

The models are those of the literature: 200 Bernoulli latents with one linear layer on each side ("linear"), or with two
layers of 200 tanh units ("nonlinear"), batches of 24; and 20 categorical latents of 10 values. The ELBO that is printed
is measured afterwards on the same images for all, with discrete draws: what a relaxed estimator saw while training is no
bound. Every estimator gets the same first parameters, the same images in the same order, and two runs of the model for each
image and step, but RELAX, whose three are of one draw.

    python examples/discrete_latents.py --data mnist --steps 4000
"""

import argparse
import time
from collections.abc import Iterable
from pathlib import Path

import torch
from matplotlib.figure import Figure
from torch import Tensor

from ppl_vae import bounds, fit, load
from ppl_vae.estimators import ESTIMATORS, estimator
from ppl_vae.guides import Amortized, Bernoulli, Categorical
from ppl_vae.iwelbo import average
from ppl_vae.models import BernoulliVAE, CategoricalVAE
from ppl_vae.programs import FamilyGuide, LatentVariableModel, JointMLP

BITS = ("reinforce", "running-mean", "neural-baseline", "rloo", "disarm", "relax", "gumbel-softmax", "straight-through")
ONE_HOT = ("reinforce", "rloo", "gumbel-softmax", "straight-through")
TWO_RUNS = ("reinforce", "running-mean", "neural-baseline", "rloo", "disarm", "gumbel-softmax", "straight-through")


def pair(name: str, pixels: int, latents: int) -> tuple[LatentVariableModel, FamilyGuide]:
    """The model and guide of that name, the same first parameters at every call."""
    torch.manual_seed(0)
    if name == "categorical":
        groups = max(1, latents // 10)
        return CategoricalVAE(pixels, groups, hidden=(200,)), Amortized(Categorical(groups), pixels, hidden=(200,))
    widths = {"linear": [], "nonlinear": [200, 200]}[name]
    decoder, encoder = (
        JointMLP(inside, [*widths, outside], activation_layer=torch.nn.Tanh)
        for inside, outside in ((latents, pixels), (pixels, latents))
    )
    return BernoulliVAE(pixels, latents, decoder=decoder), Amortized(Bernoulli(latents), encoder=encoder)


def main(
    data: str = "digits", steps: int = 2000, latents: int = 200, epochs: int | None = None, points: int = 10,
    only: str = "linear,nonlinear,categorical",
) -> None:  # fmt: skip
    """Trains each model with each estimator, prints the ELBO on the test images, draws it against steps and seconds."""
    images = load(data)
    if epochs is not None:  # for a quick look
        steps, latents, points = epochs * 10, 10, 1
    test = images.test[:1000].bernoulli()
    names = only.split(",")
    figure = Figure(figsize=(9, 3.5 * len(names)), layout="constrained")
    grid = figure.subplots(len(names), 2, squeeze=False)
    for row, name in zip(grid, names, strict=True):
        print(f"\n{name}, {data}, {steps} steps: ELBO on {len(test)} test images, nats per image")
        curves = {}
        for label in ONE_HOT if name == "categorical" else BITS:
            model, guide = pair(name, test.shape[1], latents)
            elbo = estimator(label, 2 if label in TWO_RUNS else None)
            curve, seconds = [], 0.0
            kept: list[torch.optim.Optimizer] = []

            def adam(parameters: Iterable[Tensor], kept: list[torch.optim.Optimizer] = kept) -> torch.optim.Optimizer:
                """One optimizer for all parts of the training: its moments go on."""
                kept += [] if kept else [torch.optim.Adam(parameters, lr=1e-3)]
                return kept[0]

            for part in range(points):
                generator = torch.Generator().manual_seed(part)
                chosen = torch.randint(len(images.train), (24 * (steps // points),), generator=generator)
                start = time.perf_counter()
                fit(model, guide, images.train[chosen], elbo, adam, 1, batch_size=24,
                    transform=torch.bernoulli, progress=False, seed=part, device="cpu")  # fmt: skip
                seconds += time.perf_counter() - start
                torch.manual_seed(0)
                found = bounds(model, guide, test, particles=10, curve=(1,))
                curve.append(((part + 1) * (steps // points), seconds, *average(found.elbo, found.elbo_se)))
            curves[label] = curve
            mark = "  biased" if ESTIMATORS[label].biased else ""
            print(f"{label:<18}{curve[-1][2]:>10.2f} ± {curve[-1][3]:.2f}{seconds:>8.0f} s{mark}", flush=True)
        for axes, column, what in ((row[0], 0, "steps"), (row[1], 1, "seconds")):
            for label, curve in curves.items():
                style = ":" if ESTIMATORS[label].biased else "-"
                axes.plot([point[column] for point in curve], [point[2] for point in curve], style, marker=".", label=label)
            values = [point[2] for curve in curves.values() for point in curve[1:] or curve]
            axes.set(xlabel=what, ylabel="ELBO, nats per image", title=name, ylim=(min(values) - 1, max(values) + 1))
        row[1].legend(fontsize=7)
    place = Path("runs/discrete_latents.png")
    place.parent.mkdir(exist_ok=True)
    figure.savefig(place, dpi=120)
    print(f"\n{place} (dotted: biased)")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="digits", help="digits, mnist, ...")
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--latents", type=int, default=200)
    parser.add_argument("--only", default="linear,nonlinear,categorical")
    parser.add_argument("--epochs", type=int, default=None, help="a quick look: ten steps for each")
    main(**vars(parser.parse_args()))
