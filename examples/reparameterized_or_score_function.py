"""Why is one gradient less noisy than the other? Pathwise against score function, with the variance measured.

Both estimate the gradient of E[f(z)] over z ~ q. The pathwise one writes z = mu + sigma * eps and asks how f changes
when this z moves: it knows f's slope. The score function asks which z came out better than others, f(z) times the
gradient of log q(z), and never looks at the slope: it must find it from the values of f alone, so its noise grows with
the size of f itself, and with the number of latents whose noise every single one of them carries.

1. f(z) = (z - k)^2 in one dimension, where both variances are known: 4 sigma^2 for the path, d^4 / sigma^2 + 14 d^2 +
   15 sigma^2 for the score, with d = mu - k. Far from the goal, where a gradient is needed most, the score is worst.
2. One VAE, one guide, one switch: `Trace_ELBO` on a reparameterized guide, `TraceGraph_ELBO` on the same guide with
   `reparameterized=False`. The variance of each after a little training, by the number of latents, and what they train.

    python examples/reparameterized_or_score_function.py --data mnist --epochs 5
"""

import argparse
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from pyro.infer import Trace_ELBO, TraceGraph_ELBO

from ppl_vae import History, Images, fit, gradient_statistics, load
from ppl_vae.cli import results
from ppl_vae.estimators import estimator
from ppl_vae.guides import Amortized, Diagonal
from ppl_vae.measure.known_variances import known_variances, quadratic
from ppl_vae.models import VAE
from ppl_vae.plots.gradients import side_by_side
from ppl_vae.runs.folder import begun

BATCH = 100
Interval = tuple[float, float, float]


def variance(model: Any, guide: Any, name: str, x: torch.Tensor, draws: int) -> Interval:
    """The summed variance of the gradient and its 95% interval; score-function needs draws without a gradient."""
    guide.reparameterized = name != "score-function"
    total = gradient_statistics(model, guide, x, elbo=estimator(name), draws=draws).sel(group="total")
    guide.reparameterized = True
    return float(total.variance), float(total.variance_low), float(total.variance_high)


def toy(distances: Sequence[float], draws: int) -> Figure:
    """The quadratic: measured beside known."""
    print(f"1. variance of the gradient of E[(z - k)^2], {draws} draws: measured (95% interval), known")
    figure = Figure(figsize=(6, 4.5), layout="constrained")
    axes = figure.add_subplot()
    for number, (name, form) in enumerate((("pathwise", "pathwise"), ("score-function", "score function"))):
        torch.manual_seed(0)
        found = [
            variance(*pair[:2], name, pair[2], draws)
            for pair in (quadratic(distance, held=name != "pathwise") for distance in distances)
        ]
        for distance, (value, low, high) in zip(distances, found, strict=True):
            known = known_variances(distance)[form]
            print(f"   {name:<16}d = {distance:g}: {value:8.3f} ({low:.3f} to {high:.3f}), known {known:g}")
        value, low, high = np.array(found).T
        axes.errorbar(
            distances, value, (value - low, high - value), fmt="o", color=f"C{number}", label=f"{name}, measured"
        )
        fine = np.linspace(min(distances), max(distances), 100)
        axes.plot(fine, [known_variances(d)[form] for d in fine], color=f"C{number}", label=f"{form}, known")
    axes.set(yscale="log", xlabel="d, the distance from the goal", ylabel="variance of the gradient")
    axes.legend()
    return figure


def contrast(images: Images, latents: Sequence[int], epochs: int, draws: int) -> tuple[Figure, Figure]:
    """One VAE for each number of latents: variances after training, and the training by both for the last."""
    print(f"2. variance of the VAE's gradient, {BATCH} images, after {epochs} epochs by Trace_ELBO")
    torch.manual_seed(0)
    pixels, x = images.train.shape[1], images.train[:BATCH].bernoulli()
    factors = []
    for count in latents:
        torch.manual_seed(0)
        model, guide = VAE(pixels, count, hidden=(200,)), Amortized(Diagonal(count), pixels, hidden=(200,))
        fit(
            model,
            guide,
            images.train,
            elbo=Trace_ELBO(),
            epochs=epochs,
            batch_size=BATCH,
            transform=torch.bernoulli,
            seed=0,
            progress=False,
        )
        path, score = (variance(model, guide, name, x, draws) for name in ("pathwise", "score-function"))
        # The ends of both intervals at once: a cautious one for the ratio.
        factors.append((score[0] / path[0], score[1] / path[2], score[2] / path[1]))
        factor = "{:.1f} ({:.1f} to {:.1f})".format(*factors[-1])
        print(f"   {count:3d} latents: pathwise {path[0]:.4g}, score function {score[0]:.4g}: {factor} times as much")
    figure = Figure(figsize=(6, 4.5), layout="constrained")
    axes = figure.add_subplot()
    value, low, high = np.array(factors).T
    axes.errorbar(latents, value, (value - low, high - value), fmt="o-", capsize=3)
    axes.set(xscale="log", yscale="log", xlabel="latents", ylabel="variance, score function over pathwise")
    axes.set_xticks(latents, [str(count) for count in latents])
    axes.minorticks_off()
    return figure, side_by_side(both_trained(images, latents[-1], epochs), BATCH)


def both_trained(images: Images, latents: int, epochs: int) -> dict[str, History]:
    """Pyro's two classes, as they are, on the same pair; the guide's switch is all that differs."""
    pixels, found = images.train.shape[1], {}
    for name, elbo, reparameterized in (
        ("Trace_ELBO, reparameterized", Trace_ELBO(), True),
        ("TraceGraph_ELBO, score function", TraceGraph_ELBO(), False),
    ):
        torch.manual_seed(0)
        model = VAE(pixels, latents, hidden=(200,))
        guide = Amortized(Diagonal(latents), pixels, hidden=(200,), reparameterized=reparameterized)
        found[name] = fit(
            model,
            guide,
            images.train,
            elbo=elbo,
            optimizer=partial(torch.optim.Adam, lr=1e-3),
            epochs=epochs,
            batch_size=BATCH,
            transform=torch.bernoulli,
            seed=0,
            progress=False,
        )
        print(f"   {name}, {latents} latents: ELBO {found[name].elbo[-1]:.2f} nats in the last epoch")
    return found


def main(data: str = "digits", epochs: int = 20, latents: str = "2,10,50", draws: int = 500, run: str = "") -> None:
    """Prints both parts and writes the figures."""
    script = "examples/reparameterized_or_score_function.py"
    with begun(Path(run) if run else None, f"gradient-{data}", script, {}) as running:
        place = running.path
        figures = {"quadratic.png": toy((0.0, 1.0, 2.0, 4.0), 80 * draws)}
        counts = [int(count) for count in latents.split(",")]
        figures["factor.png"], figures["training.png"] = contrast(load(data), counts, epochs, draws)
        for name, figure in figures.items():
            results.save(place / name, figure)
        running.finish()
    print(running.path)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="digits")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--latents", default="2,10,50", help="comma-separated")
    parser.add_argument("--draws", type=int, default=500, help="gradients for each variance")
    parser.add_argument("--run", default="", help="the folder to write, a new one in runs/ by default")
    main(**vars(parser.parse_args()))
