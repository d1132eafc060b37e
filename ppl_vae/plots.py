"""Figures. Each function draws into a new figure and returns it; none needs a display."""

from collections.abc import Mapping

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor
from torch.distributions import Normal
from torch.nn.functional import pad

from ppl_vae.comparison import Comparison
from ppl_vae.contexts import evaluating
from ppl_vae.iwelbo import average
from ppl_vae.modules import Program
from ppl_vae.programs import LatentVariableModel
from ppl_vae.traces import traces
from ppl_vae.training import History

NOT_A_BOUND = "not a bound"
Pair = tuple[Program, Program]


def bound_curves(comparison: Comparison) -> Figure:
    """IWELBO_K against K for every guide, with two standard errors, and the best estimate of log p(x)."""
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.add_subplot()
    data = comparison.bounds
    unsound = []
    for number, row in enumerate(comparison.rows):
        chosen = data.sel(guide=row.guide)
        color = f"C{number}"
        if not row.is_bound:
            unsound.append((row.elbo, color, f"{row.guide}: {row.elbo:.2f} ({NOT_A_BOUND})"))
            continue
        curve = [average(chosen.iwelbo.sel(K=count), chosen.iwelbo_se.sel(K=count)) for count in data.K]
        mean, error = np.array(curve).T
        axes.plot(data.K, mean, "o-", color=color, markersize=3, label=row.guide)
        axes.fill_between(data.K, mean - 2 * error, mean + 2 * error, color=color, alpha=0.2, linewidth=0)
        if "guide" in data.log_evidence.dims and row.log_evidence is not None:
            axes.axhline(row.log_evidence, color=color, linestyle="--", linewidth=1)
    if "guide" not in data.log_evidence.dims and comparison.rows[0].log_evidence is not None:
        label = "log p(x), exact" if comparison.evidence == "exact" else "log p(x), best estimate"
        axes.axhline(comparison.rows[0].log_evidence, color="black", linestyle="--", linewidth=1, label=label)
    limits = axes.get_ylim() if len(unsound) < len(comparison.rows) else None
    for value, color, label in unsound:  # these stay out of the scale, which belongs to the bounds
        axes.axhline(value, color=color, linestyle=":", label=label)
    axes.set(ylim=limits, xscale="log", xlabel="K, particles in the bound", ylabel="IWELBO$_K$, nats per image")
    axes.set_title("How the bound tightens (K = 1 is the ELBO; bands: two standard errors)", fontsize=10)
    axes.legend()
    return figure


def training_curves(histories: Mapping[str, History]) -> Figure:
    """The training ELBO by epoch; the scale leaves out the first tenth of each training."""
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.add_subplot()
    for name, history in histories.items():
        label = f"{name} ({history.note})" if history.note else name
        axes.plot(range(1, len(history.elbo) + 1), history.elbo, ".-" if len(history.elbo) < 2 else "-", label=label)
    late = [value for history in histories.values() for value in history.elbo[len(history.elbo) // 10 :]]
    margin = 0.05 * (max(late) - min(late)) + 0.1
    axes.set(xlabel="epoch", ylabel="training ELBO, nats per image", ylim=(min(late) - margin, max(late) + margin))
    axes.legend()
    return figure


def reconstructions(pairs: Mapping[str, Pair], batch: tuple[Tensor, ...], shape: tuple[int, int]) -> Figure:
    """Data points, shape (batch, pixels), above the mean of p(x | z) for one z drawn from each guide."""
    rows = {"x": batch[0]} | {name: reconstruct(*pair, *batch) for name, pair in pairs.items()}
    figure = Figure(figsize=(0.8 * len(batch[0]) + 1.2, 0.85 * len(rows)), layout="constrained")
    grid = figure.subplots(len(rows), len(batch[0]), squeeze=False)
    for axes, (name, images) in zip(grid, rows.items(), strict=True):
        axes[0].set_ylabel(name, rotation=0, ha="right", va="center")
        for cell, image in zip(axes, images, strict=True):
            show_image(cell, image, shape)
    return figure


def reconstruct(model: Program, guide: Program, *batch: Tensor) -> Tensor:
    """The mean of p(x | z) for one z drawn from the guide, of any pair with one observed site; the shape of x."""
    with evaluating(model, guide):
        _, trace = traces(model, guide, batch, 1, 0)
    return next(site for site in trace.nodes.values() if site["type"] == "sample" and site["is_observed"])["fn"].mean


def samples(model: LatentVariableModel, shape: tuple[int, int], *given: Tensor, side: int = 10) -> Figure:
    """The mean of p(x | z) for side x side draws of z from the prior, given a row for each where it is conditional."""
    with evaluating(model):
        images = model.generate(side**2, *given)[1].mean
    return _tiles(images, shape, side, "Drawn from the prior: the mean of p(x | z)")


def manifold(model: LatentVariableModel, shape: tuple[int, int], side: int = 20) -> Figure:
    """The mean of p(x | z) over a grid of a 2-d latent at the prior's quantiles (Kingma & Welling 2014, fig. 4)."""
    ticks = Normal(0.0, 1.0).icdf(torch.linspace(0.5 / side, 1 - 0.5 / side, side))
    grid = torch.cartesian_prod(-ticks, ticks).flip(1).to(model.prior_loc)
    with evaluating(model):
        images = model.likelihood(grid).mean
    return _tiles(images, shape, side, "The mean of p(x | z) over the two latents, at the prior's quantiles")


def _tiles(images: Tensor, shape: tuple[int, int], side: int, title: str) -> Figure:
    height, width = shape
    tiles = pad(images.reshape(side, side, height, width), (1, 1, 1, 1), value=0.4)
    canvas = tiles.permute(0, 2, 1, 3).flatten(2).flatten(0, 1)
    figure = Figure(figsize=(6, 6.3), layout="constrained")
    axes = figure.add_subplot()
    show_image(axes, canvas, (len(canvas), canvas.shape[1]))
    axes.set_title(title, fontsize=10)
    return figure


def show_image(axes: Axes, image: Tensor, shape: tuple[int, int]) -> None:
    """Draws pixels in [0, 1] as they are, 0 black and 1 white; the image holds height x width of them."""
    axes.imshow(image.reshape(shape).cpu().numpy(), cmap="gray", vmin=0, vmax=1)
    axes.set(xticks=[], yticks=[])
