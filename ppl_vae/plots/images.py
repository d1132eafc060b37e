"""Figures of images: reconstructions, what a model draws, and the plane of two latents."""

from collections.abc import Mapping
from typing import Any

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor
from torch.distributions import Normal
from torch.nn.functional import pad

from ppl_vae.pairs.arguments import Data, batch_of
from ppl_vae.pairs.modules import Program
from ppl_vae.pairs.pair import Pair
from ppl_vae.pairs.restore import evaluating
from ppl_vae.pairs.traces import random_sites
from ppl_vae.plots.style import colors, new_figure, write_title
from ppl_vae.programs import LatentVariableModel

Programs = tuple[Program, Program]


def reconstructions(pairs: Mapping[str, Programs], data: Data, shape: tuple[int, int]) -> Figure:
    """Draws data points above their reconstructions: the mean of p(x | z) for one z drawn from each guide.

    Examples:
        >>> import torch
        >>> from ppl_vae.guides import Amortized, Diagonal
        >>> from ppl_vae.models import VAE
        >>> from ppl_vae.plots.images import reconstructions
        >>> model, guide = VAE(64, 2), Amortized(Diagonal(2), 64)
        >>> len(reconstructions({"diagonal": (model, guide)}, torch.rand(5, 64), shape=(8, 8)).axes)  # 2 rows of 5
        10
    """
    x = batch_of(data)[0]
    shades = colors(pairs)
    rows = [("x", "black", x)]  # a guide may be called x too
    rows += [(name, shades[name], reconstruct(*pair, data)) for name, pair in pairs.items()]
    figure = new_figure(0.8 * len(x) + 1.2, 0.85 * len(rows) + 0.5)
    grid = figure.subplots(len(rows), len(x), squeeze=False)
    for axes, (name, color, images) in zip(grid, rows, strict=True):
        axes[0].set_ylabel(name, rotation=0, ha="right", va="center", color=color)
        for cell, image in zip(axes, images, strict=True):
            show_image(cell, image, shape)
    write_title(figure, "Data x, and below their reconstructions: the mean of p(x | z) for one z drawn from each guide")
    return figure


def reconstruct(model: Program, guide: Program, data: Data) -> Tensor:
    """Returns the mean of p(x | z) for one z drawn from the guide, for any pair with one observed site.

    Examples:
        >>> import torch
        >>> from ppl_vae.guides import Amortized, Diagonal
        >>> from ppl_vae.models import VAE
        >>> from ppl_vae.plots.images import reconstruct
        >>> model, guide = VAE(64, 2), Amortized(Diagonal(2), 64)
        >>> reconstruct(model, guide, torch.rand(5, 64)).shape
        torch.Size([5, 64])
    """
    pair = Pair(model, guide, data, placeholder=True)  # grey images are looked at too where bits are modelled
    part = pair.rows(0, pair.size)
    with pair.measuring():
        sites = random_sites(pair.model_at(part, pair.proposals(part, 1), 1))
    observed = next(site for site in sites if site["is_observed"])
    return observed["fn"].mean.reshape(pair.batch[0].shape).to(pair.batch[0].device)


def samples(model: LatentVariableModel, shape: tuple[int, int], *given: Tensor, side: int = 10) -> Figure:
    """Draws side x side images, each the mean of p(x | z) for a draw of z from the prior.

    A conditional model is given a row for each.

    Examples:
        >>> from ppl_vae.models import VAE
        >>> from ppl_vae.plots.images import samples
        >>> samples(VAE(64, 2), shape=(8, 8), side=3).axes[0].get_title()
        'Drawn from the prior: the mean of p(x | z)'
    """
    with evaluating(model):
        images = model.generate(side**2, *(part.to(model.prior_loc.device) for part in given))[1].mean
    return tiles(images, shape, side, "Drawn from the prior: the mean of p(x | z)")


def manifold(model: LatentVariableModel, shape: tuple[int, int], side: int = 20) -> Figure:
    """Draws the mean of p(x | z) over a grid of a 2-d latent at the prior's quantiles (Kingma & Welling 2014, fig. 4).

    Examples:
        >>> from ppl_vae.models import VAE
        >>> from ppl_vae.plots.images import manifold
        >>> manifold(VAE(64, 2), shape=(8, 8), side=3).axes[0].get_title()
        "The mean of p(x | z) over the two latents, at the prior's quantiles"
    """
    ticks = Normal(0.0, 1.0).icdf(torch.linspace(0.5 / side, 1 - 0.5 / side, side))
    grid = torch.cartesian_prod(-ticks, ticks).flip(1)
    with evaluating(model):
        prior: Any = model.prior()
        images = model.likelihood(prior.mean + prior.stddev * grid.to(prior.mean)).mean
    figure = tiles(images, shape, side, "The mean of p(x | z) over the two latents, at the prior's quantiles")
    axes, deviations = figure.axes[0], torch.arange(-1, 2)  # which lie at these shares of the sides
    shares = Normal(0.0, 1.0).cdf(deviations.float())
    width, height = (side * (length + 2) for length in (shape[1], shape[0]))
    axes.set_xticks((width * shares - 0.5).tolist(), deviations.tolist())
    axes.set_yticks((height * shares - 0.5).tolist(), (-deviations).tolist())
    axes.set(xlabel="first latent, in the prior's standard deviations", ylabel="second latent, likewise")
    return figure


def tiles(images: Tensor, shape: tuple[int, int], side: int, title: str) -> Figure:
    """Draws side x side images beside and above each other.

    Examples:
        >>> import torch
        >>> from ppl_vae.plots.images import tiles
        >>> tiles(torch.rand(4, 64), shape=(8, 8), side=2, title="Noise").axes[0].get_title()
        'Noise'
    """
    height, width = shape
    padded = pad(images.reshape(side, side, height, width), (1, 1, 1, 1), value=0.4)
    canvas = padded.permute(0, 2, 1, 3).flatten(2).flatten(0, 1)
    figure = new_figure(6, 6.3)
    axes = figure.add_subplot()
    show_image(axes, canvas, (len(canvas), canvas.shape[1]))
    axes.set_title(title, fontsize=10)
    return figure


def show_image(axes: Axes, image: Tensor, shape: tuple[int, int]) -> None:
    """Draws pixels in [0, 1] as they are, 0 black and 1 white; the image holds height x width of them.

    Examples:
        >>> import torch
        >>> from matplotlib.figure import Figure
        >>> from ppl_vae.plots.images import show_image
        >>> axes = Figure().add_subplot()
        >>> show_image(axes, torch.rand(64), shape=(8, 8))
        >>> axes.get_images()[0].get_array().shape
        (8, 8)
    """
    axes.imshow(image.reshape(shape).cpu().numpy(), cmap="gray", vmin=0, vmax=1)
    axes.set(xticks=[], yticks=[])
