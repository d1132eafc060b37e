"""Figures of bounds: along K, and along training."""

import math
from collections.abc import Iterable, Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ppl_vae.measure.bounds import average
from ppl_vae.measure.comparison_table import Row
from ppl_vae.measure.side_by_side import Comparison
from ppl_vae.plots.style import GREY, colors, label_ends, new_figure, tidy, write_title
from ppl_vae.training.fit import History

NOT_A_BOUND = "not a bound"


def bound_curves(comparison: Comparison) -> Figure:
    """Draws IWELBO_K against K for every guide, with two standard errors, and the best estimate of log p(x).

    Examples:
        >>> import torch
        >>> from ppl_vae import compare
        >>> from ppl_vae.guides import ExactPosterior
        >>> from ppl_vae.models import LinearGaussian
        >>> from ppl_vae.plots.bounds import bound_curves
        >>> model, x = LinearGaussian(3, 2), torch.randn(5, 3)
        >>> comparison = compare(model, {"exact": ExactPosterior(model)}, x, test=x, particles=10, progress=False)
        >>> [line.get_label() for line in bound_curves(comparison).axes[0].lines]
        ['exact', 'log p(x), exact']
    """
    figure = new_figure(7.5, 4.5)
    axes = tidy(figure.add_subplot())
    data = comparison.bounds
    shades = colors(row.guide for row in comparison.rows)
    sound = [row for row in comparison.rows if row.is_bound]
    untold = False
    for row in sound:
        chosen, color = data.sel(guide=row.guide), shades[row.guide]
        curve = [average(chosen.iwelbo.sel(K=count), chosen.iwelbo_se.sel(K=count)) for count in data.K]
        mean, error = np.array(curve).T
        filled = np.where(np.isnan(error)[:, None], to_rgba("white"), to_rgba(color))
        axes.plot(data.K, mean, color=color, label=row.guide)
        axes.scatter(data.K, mean, 14, facecolors=filled, edgecolors=color, zorder=3)
        axes.fill_between(data.K, mean - 2 * error, mean + 2 * error, color=color, alpha=0.2, linewidth=0)
        untold |= bool(np.isnan(error).any())
    own = "guide" in data.log_evidence.dims
    for row in sound if own else comparison.rows[:1]:
        _draw_evidence(axes, row, comparison.evidence, shades[row.guide] if own else "")
    axes.margins(x=0.02)
    limits = axes.get_ylim() if sound else None
    for row in comparison.rows:  # what bounds nothing stays out of the scale, which belongs to the bounds
        if not row.is_bound:
            label = f"{row.guide}: {row.elbo:.2f}\n({NOT_A_BOUND})"
            axes.axhline(row.elbo, color=shades[row.guide], linestyle=":", label=label)
    axes.set(ylim=limits, xscale="log", xlabel="K, particles in the bound", ylabel=f"IWELBO$_K$, {units(comparison)}")
    label_ends(axes)
    write_title(
        figure,
        "How the bound on log p(x) tightens with K (K = 1 is the ELBO)",
        "Bands: two standard errors."
        + (" Hollow points: weights that can't be trusted, so no error is known." if untold else "")
        + (" Dashed: log p(x) of each guide's own model." if own else ""),
        "" if own or comparison.evidence == "exact" else _OF_THE_ESTIMATE,
    )
    return figure


_OF_THE_ESTIMATE = (
    "The best estimate of log p(x) is a lower bound too. It is chosen by how far its weights can be trusted and not by "
    "its height, so a bound may lie above it by chance."
)


def _draw_evidence(axes: Axes, row: Row, evidence: str, color: str) -> None:
    """Draws log p(x), of all guides or, in its color, of one guide's own model."""
    if row.log_evidence is None:
        return
    exact = evidence == "exact"
    known = "" if exact or row.log_evidence_se is not None else "\n(error unknown)"
    label = "" if color else "log p(x), exact" if exact else f"log p(x), best estimate{known}"
    color = color or ("black" if exact else GREY)
    axes.axhline(row.log_evidence, color=color, linestyle="--", linewidth=1, label=label)
    if not exact and row.log_evidence_se:
        error = 2 * row.log_evidence_se
        axes.axhspan(row.log_evidence - error, row.log_evidence + error, color=color, alpha=0.15, linewidth=0)


def units(comparison: Comparison) -> str:
    """Says what the figures of a comparison are in.

    Examples:
        >>> import torch
        >>> from ppl_vae import compare
        >>> from ppl_vae.guides import ExactPosterior
        >>> from ppl_vae.models import LinearRegression
        >>> from ppl_vae.plots.bounds import units
        >>> data = torch.randn(5), torch.randn(5, 2)
        >>> model = LinearRegression(features=2)
        >>> guides = {"exact": ExactPosterior(model)}
        >>> units(compare(model, guides, data, test=data, particles=10, progress=False))
        'nats for all the data'
    """
    return "nats for all the data" if comparison.bounds.attrs["unit"] == "data set" else "nats per data point"


def training_curves(histories: Mapping[str, History], guides: Iterable[str] = ()) -> Figure:
    """Draws the training ELBO by epoch, dashed that of held-out data; the scale ignores each training's first tenth.

    Args:
        histories: the trainings by name.
        guides: all guides of the run, so that each has the color of the run's other figures; those of the histories
            where there are no others.

    Examples:
        >>> from ppl_vae import History
        >>> from ppl_vae.plots.bounds import training_curves
        >>> history = History(size=100, elbo=[-50.0, -45.0, -44.0], seconds=[0.5, 0.25, 0.25])
        >>> training_curves({"diagonal": history}).axes[0].get_xlabel()
        'epoch'
    """
    figure = new_figure(7.5, 4.5)
    axes = tidy(figure.add_subplot())
    shades = colors([*guides, *histories])
    late: list[float] = []
    for name, history in histories.items():
        label = f"{name} ({history.note})" if history.note else name
        epochs = range(1, len(history.elbo) + 1)
        dot = "." if len(epochs) < 2 else ""
        axes.plot(epochs, history.elbo, f"{dot}-", color=shades[name], label=label)
        if history.validation:
            axes.plot(epochs, history.validation, f"{dot}--", color=shades[name], label=f"{label}, held out")
        late += [*history.elbo[len(epochs) // 10 :], *history.validation[len(epochs) // 10 :]]
    known = [value for value in late if math.isfinite(value)]
    if known:
        low, high = np.quantile(known, 0.002), max(known)  # one draw a step may fall far below the others
        margin = 0.05 * (high - low) + 0.1
        axes.set_ylim(low - margin, high + margin)
    axes.set(xlabel="epoch", ylabel="ELBO, nats per data point")
    axes.margins(x=0.02)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    label_ends(axes)
    held_out = any(history.validation for history in histories.values())
    shown = "Dashed: on held-out data at the end of each epoch." if held_out else ""
    write_title(figure, "The ELBO along training: the mean over the steps of each epoch", shown)
    return figure
