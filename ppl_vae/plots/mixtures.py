"""Figures of mixtures: clusters with their ellipses, and a conditional density. Each returns a new figure."""

import math
from collections.abc import Callable, Sequence
from itertools import cycle

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Ellipse
from torch import Tensor

from ppl_vae.plots.style import PALETTE, new_figure, tidy, write_title

_MOST_COLUMNS = 5


def clusters(
    x: Tensor,
    responsibilities: Tensor,
    means: Tensor,
    covariances: Tensor,
    columns: Sequence[str],
    title: str = "",
    labels: Sequence[int] | None = None,
) -> Figure:
    """Draws data points in the color of their likeliest component, with each component's ellipses.

    The ellipses lie at one and two standard deviations. Up to five columns give a panel for each pair of them; more
    columns are shown by their first two principal components.

    Args:
        x: shape (data, columns).
        responsibilities: p(z | x), shape (data, components).
        means: shape (components, columns).
        covariances: shape (components, columns, columns).
        columns: their names.
        title: of the figure.
        labels: a true class for each data point, drawn as the marker's shape.

    Examples:
        >>> import torch
        >>> from ppl_vae.models import GaussianMixture
        >>> from ppl_vae.plots.mixtures import clusters
        >>> x = torch.cat([torch.randn(50, 2) - 4, torch.randn(50, 2) + 4])
        >>> mixture = GaussianMixture(2, 2).initialize(x)
        >>> figure = clusters(x, mixture.posterior(x).probs, mixture.means, mixture.covariances, ("width", "height"))
        >>> len(figure.axes[0].patches)  # two ellipses each
        4
    """
    points, centers, spreads = (part.detach().double().cpu().numpy() for part in (x, means, covariances))
    if points.shape[1] > _MOST_COLUMNS:
        _, _, directions = np.linalg.svd(points - points.mean(0), full_matrices=False)
        plane = directions[:2].T
        centers = (centers - points.mean(0)) @ plane
        spreads = plane.T @ spreads @ plane
        points = (points - points.mean(0)) @ plane
        columns = ("first principal component", "second principal component")
    count = points.shape[1]
    color = responsibilities.argmax(-1).cpu().numpy()
    side = max(1, count - 1)
    figure = new_figure(5.5, 5.3) if side == 1 else new_figure(2.6 * side + 0.8, 2.4 * side + 1.1)
    shapes = "" if labels is None else " Shape of a point: its true class."
    said = f"Color: the likeliest component.{shapes} Ellipses: one and two standard deviations."
    write_title(figure, title, said)
    grid = figure.subplots(side, side, squeeze=False)
    for row in range(side):
        for column in range(side):
            axes = tidy(grid[row][column])
            if column > row:
                axes.set_visible(False)
                continue
            pair = [column, row + 1] if count > 1 else [0, 0]
            classes = np.zeros(len(points), dtype=int) if labels is None else np.asarray(labels)
            for shape, marker in zip(np.unique(classes), cycle("os^Dv<>p*h"), strict=False):
                chosen = classes == shape
                hues = [PALETTE[index % len(PALETTE)] for index in color[chosen]]
                x, y = points[chosen][:, pair].T
                axes.scatter(x, y, c=hues, s=14, marker=marker, alpha=0.6, linewidths=0)
            for index, (center, spread) in enumerate(zip(centers, spreads, strict=True)):
                _ellipses(axes, center[pair], spread[np.ix_(pair, pair)], PALETTE[index % len(PALETTE)])
            if row == side - 1:
                axes.set_xlabel(columns[pair[0]])
            if column == 0:
                axes.set_ylabel(columns[pair[1]])
    return figure


def _ellipses(axes: Axes, center: np.ndarray, covariance: np.ndarray, color: str) -> None:
    variances, directions = np.linalg.eigh(covariance)
    angle = math.degrees(math.atan2(directions[1, 1], directions[0, 1]))
    long, short = np.sqrt(variances.clip(0))[::-1]
    for deviations in (1, 2):
        size = 2 * deviations
        axes.add_patch(Ellipse(tuple(center), size * long, size * short, angle=angle, fill=False, color=color, lw=1.2))


def conditional_density(
    log_density: Callable[[Tensor, Tensor], Tensor],
    given: tuple[float, float],
    x: tuple[float, float],
    axes: Axes,
    size: int = 200,
) -> None:
    """Draws p(x | given), for one output and one input, as shades over a rectangle.

    Args:
        log_density: ``model.log_evidence``, from (rows, 1) and (rows, 1) to (rows,).
        given: from where to where the input goes.
        x: likewise the output.
        axes: where to draw.
        size: the points along each side.

    Examples:
        >>> from matplotlib.figure import Figure
        >>> from ppl_vae.models import MixtureDensityNetwork
        >>> from ppl_vae.plots.mixtures import conditional_density
        >>> axes, model = Figure().add_subplot(), MixtureDensityNetwork(1, 3, given_dim=1)
        >>> conditional_density(model.log_evidence, given=(0.0, 1.0), x=(-2.0, 2.0), axes=axes, size=20)
        >>> axes.get_images()[0].get_array().shape
        (20, 20)
    """
    inputs, outputs = torch.linspace(*given, size), torch.linspace(*x, size)
    grid = torch.cartesian_prod(outputs, inputs)
    with torch.no_grad():
        density = log_density(grid[:, :1], grid[:, 1:]).exp().reshape(size, size)
    axes.imshow(
        density.sqrt().cpu().numpy(),
        origin="lower",
        extent=(*given, *x),
        aspect="auto",
        cmap="Blues",
        interpolation="bilinear",
    )
