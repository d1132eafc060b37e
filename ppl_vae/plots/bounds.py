"""Figures of bounds: along K, and along training."""

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from ppl_vae.measure.bounds import average
from ppl_vae.measure.side_by_side import Comparison
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
    axes.set(ylim=limits, xscale="log", xlabel="K, particles in the bound", ylabel=f"IWELBO$_K$, {units(comparison)}")
    axes.set_title("How the bound tightens (K = 1 is the ELBO; bands: two standard errors)", fontsize=10)
    axes.legend()
    return figure


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
    return "nats for all the data" if comparison.bounds.attrs["unit"] == "data set" else "nats per image"


def training_curves(histories: Mapping[str, History]) -> Figure:
    """Draws the training ELBO by epoch, dashed that of held-out data; the scale ignores each training's first tenth.

    Examples:
        >>> from ppl_vae import History
        >>> from ppl_vae.plots.bounds import training_curves
        >>> history = History(size=100, elbo=[-50.0, -45.0, -44.0], seconds=[0.5, 0.25, 0.25])
        >>> training_curves({"diagonal": history}).axes[0].get_xlabel()
        'epoch'
    """
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.add_subplot()
    late: list[float] = []
    for number, (name, history) in enumerate(histories.items()):
        label = f"{name} ({history.note})" if history.note else name
        epochs = range(1, len(history.elbo) + 1)
        dot = "." if len(epochs) < 2 else ""
        axes.plot(epochs, history.elbo, f"{dot}-", color=f"C{number}", label=label)
        if history.validation:
            axes.plot(epochs, history.validation, f"{dot}--", color=f"C{number}", label=f"{label}, held out")
        late += [*history.elbo[len(epochs) // 10 :], *history.validation[len(epochs) // 10 :]]
    low, high = np.quantile(late, 0.002), max(late)  # one draw a step may fall far below the others
    margin = 0.05 * (high - low) + 0.1
    axes.set(xlabel="epoch", ylabel="ELBO, nats per data point", ylim=(low - margin, high + margin))
    axes.legend()
    return figure
