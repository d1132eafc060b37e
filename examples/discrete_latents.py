"""Which gradient for discrete latents? The same VAEs trained by each estimator for equally many steps.

z has no gradient here, so "move z a little and see" is not to be had. The score function asks only how likely each z
was, and pays with variance. What follows are ways to buy some of it back: subtract a baseline (a running mean, a of
x, the other draws), use each draw with its mirror image (DisARM), subtract a relaxed version of the model whose mean
is known (RELAX), or give up on an unbiased gradient (Gumbel-softmax, straight-through).

The models are those of the literature: 200 Bernoulli latents with one linear layer on each side ("linear"), or with two
layers of 200 tanh units ("nonlinear"), batches of 24; and 20 categorical latents of 10 values. The ELBO that is printed
is measured afterwards on the same images for all, with discrete draws: what a relaxed estimator saw while training is
no bound. Every estimator gets the same first parameters, the same images in the same order, and two runs of the model
for each image and step, but RELAX, whose three are of one draw.

    python examples/discrete_latents.py --data mnist --steps 20000
"""

import argparse
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from ppl_vae import Images, bounds, fit, load
from ppl_vae.cli import results
from ppl_vae.estimators import ESTIMATORS, estimator
from ppl_vae.guides import Amortized, Bernoulli, Categorical
from ppl_vae.measure.bounds import average
from ppl_vae.models import BernoulliVAE, CategoricalVAE
from ppl_vae.networks import JointMLP
from ppl_vae.programs import FamilyGuide, LatentVariableModel
from ppl_vae.runs.folder import begun

BATCH = 24
BITS = ("reinforce", "running-mean", "neural-baseline", "rloo", "disarm", "relax", "gumbel-softmax", "straight-through")
ONE_HOT = ("reinforce", "running-mean", "neural-baseline", "rloo", "gumbel-softmax", "straight-through")
MODELS = {"linear": BITS, "nonlinear": BITS, "categorical": ONE_HOT}
Curve = list[tuple[int, float, float, float]]


def pair(name: str, pixels: int, latents: int) -> tuple[LatentVariableModel, FamilyGuide]:
    """The model and guide of that name, the same first parameters at every call."""
    torch.manual_seed(0)
    if name == "categorical":
        groups = max(1, latents // 10)
        return CategoricalVAE(pixels, groups, hidden=(200,)), Amortized(Categorical(groups), pixels, hidden=(200,))
    widths = [] if name == "linear" else [200, 200]
    decoder = JointMLP(latents, [*widths, pixels], activation_layer=nn.Tanh)
    encoder = JointMLP(pixels, [*widths, latents], activation_layer=nn.Tanh)
    return BernoulliVAE(pixels, latents, decoder=decoder), Amortized(Bernoulli(latents), encoder=encoder)


def one_adam(rate: float) -> Callable[[Iterable[Tensor]], Optimizer]:
    """The same optimizer for all parts of a training, so that its moments go on."""
    made: list[Optimizer] = []

    def optimizer(parameters: Iterable[Tensor]) -> Optimizer:
        if not made:
            made.append(Adam(parameters, lr=rate))
        return made[0]

    return optimizer


def train(name: str, label: str, images: Images, test: Tensor, steps: int, latents: int, points: int) -> Curve:
    """Trains one pair; at each point the steps, the seconds of training, the ELBO on the test images and its error."""
    model, guide = pair(name, test.shape[1], latents)
    elbo = estimator(label, None if label == "relax" else 2)
    optimizer, curve, seconds = one_adam(1e-3), Curve(), 0.0
    for part in range(points):
        generator = torch.Generator().manual_seed(part)
        chosen = torch.randint(len(images.train), (BATCH * (steps // points),), generator=generator)
        start = time.perf_counter()
        fit(
            model,
            guide,
            images.train[chosen],
            elbo=elbo,
            optimizer=optimizer,
            epochs=1,
            batch_size=BATCH,
            transform=torch.bernoulli,
            progress=False,
            seed=part,
            device="cpu",
        )
        seconds += time.perf_counter() - start
        torch.manual_seed(0)
        found = bounds(model, guide, test, particles=10, curve=(1,))
        curve.append(((part + 1) * (steps // points), seconds, *average(found.elbo, found.elbo_se)))
    return curve


def drawn(name: str, curves: dict[str, Curve]) -> Figure:
    """The ELBO on the test images against steps and against seconds."""
    figure = Figure(figsize=(11, 4.5), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    for label, curve in curves.items():
        steps, seconds, elbo, _ = zip(*curve, strict=True)
        biased = ESTIMATORS[label].biased
        left.plot(steps, elbo, ":" if biased else "-", marker=".", label=f"{label} (biased)" if biased else label)
        right.plot(seconds, elbo, ":" if biased else "-", marker=".")
    late = [elbo for curve in curves.values() for _, _, elbo, _ in curve[len(curve) // 5 :]]
    left.set(xlabel="steps", ylabel="ELBO on test images, nats per image", ylim=(min(late) - 1, max(late) + 1))
    right.set(xlabel="seconds of training")
    figure.suptitle(f"{name}: which gradient for discrete latents?", fontsize=10)
    figure.legend(*left.get_legend_handles_labels(), loc="outside right center", fontsize=9)
    return figure


def main(
    data: str = "digits",
    steps: int = 2000,
    latents: int = 200,
    only: str = ",".join(MODELS),
    epochs: int = 10,
    run: str = "",
) -> None:
    """Trains each model with each estimator, prints and draws the ELBO on the test images."""
    with begun(Path(run) if run else None, f"discrete-{data}", "examples/discrete_latents.py", {}) as running:
        place = running.path
        images = load(data)
        torch.manual_seed(0)
        test = images.test[:1000].bernoulli()
        figures = {}
        for name in only.split(","):
            print(f"{name}, {data}, {steps} steps: ELBO on {len(test)} test images, nats per image")
            curves = {}
            for label in MODELS[name]:
                curves[label] = train(name, label, images, test, steps, latents, epochs)
                _, seconds, elbo, error = curves[label][-1]
                mark = "  biased" if ESTIMATORS[label].biased else ""
                print(f"  {label:<18}{elbo:>10.2f} ± {error:.2f}{seconds:>8.0f} s{mark}", flush=True)
            figures[name] = drawn(name, curves)
        for name, figure in figures.items():
            results.save(place / f"{name}.png", figure)
        running.finish()
    print(running.path)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="digits")
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--latents", type=int, default=200)
    parser.add_argument("--only", default=",".join(MODELS), help="some of the models, comma-separated")
    parser.add_argument("--epochs", type=int, default=10, help="so many points of the curves")
    parser.add_argument("--run", default="", help="the folder to write, a new one in runs/ by default")
    main(**vars(parser.parse_args()))
