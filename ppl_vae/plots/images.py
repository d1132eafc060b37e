"""Figures of images. Each function draws into a new figure and returns it; none needs a display."""

from collections.abc import Mapping

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor
from torch.distributions import Normal
from torch.nn.functional import pad

from ppl_vae.pairs.modules import Program
from ppl_vae.pairs.restore import evaluating
from ppl_vae.pairs.traces import traces
from ppl_vae.programs import LatentVariableModel

Pair = tuple[Program, Program]


def reconstructions(pairs: Mapping[str, Pair], batch: tuple[Tensor, ...], shape: tuple[int, int]) -> Figure:
    """Draws data points above their reconstructions: the mean of p(x | z) for one z drawn from each guide."""
    rows = {"x": batch[0]} | {name: reconstruct(*pair, *batch) for name, pair in pairs.items()}
    figure = Figure(figsize=(0.8 * len(batch[0]) + 1.2, 0.85 * len(rows)), layout="constrained")
    grid = figure.subplots(len(rows), len(batch[0]), squeeze=False)
    for axes, (name, images) in zip(grid, rows.items(), strict=True):
        axes[0].set_ylabel(name, rotation=0, ha="right", va="center")
        for cell, image in zip(axes, images, strict=True):
            show_image(cell, image, shape)
    return figure


def reconstruct(model: Program, guide: Program, *batch: Tensor) -> Tensor:
    """Returns the mean of p(x | z) for one z drawn from the guide, for any pair with one observed site."""
    with evaluating(model, guide):
        _, trace = traces(model, guide, batch, 1, 0)
    return next(site for site in trace.nodes.values() if site["type"] == "sample" and site["is_observed"])["fn"].mean


def samples(model: LatentVariableModel, shape: tuple[int, int], *given: Tensor, side: int = 10) -> Figure:
    """Draws the mean of p(x | z) for side x side z from the prior; a conditional model takes one given row for each."""
    with evaluating(model):
        images = model.generate(side**2, *given)[1].mean
    return _tiles(images, shape, side, "Drawn from the prior: the mean of p(x | z)")


def manifold(model: LatentVariableModel, shape: tuple[int, int], side: int = 20) -> Figure:
    """Draws the mean of p(x | z) over a grid of 2-d latents at the prior's quantiles (Kingma & Welling 2014)."""
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
    """Draws an image of height x width pixels in [0, 1] with 0 black and 1 white."""
    axes.imshow(image.reshape(shape).cpu().numpy(), cmap="gray", vmin=0, vmax=1)
    axes.set(xticks=[], yticks=[])
