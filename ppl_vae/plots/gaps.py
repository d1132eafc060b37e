"""Figures of the results of :func:`ppl_vae.tightness` and :func:`ppl_vae.compare`."""

from collections.abc import Iterable, Mapping

import numpy as np
import xarray as xr
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from ppl_vae.measure.bounds import average
from ppl_vae.measure.side_by_side import Comparison
from ppl_vae.pairs.psis import shares
from ppl_vae.plots.bounds import units
from ppl_vae.plots.images import show_image
from ppl_vae.plots.style import PALETTE, colors, label_ends, new_figure, tidy, write_title


def stacked_gaps(comparison: Comparison) -> Figure:
    """Draws the gap of each guide as a bar, split into approximation and amortization where they were measured.

    Examples:
        >>> import torch
        >>> from ppl_vae import compare
        >>> from ppl_vae.guides import ExactPosterior
        >>> from ppl_vae.models import LinearGaussian
        >>> from ppl_vae.plots.gaps import stacked_gaps
        >>> model, x = LinearGaussian(3, 2), torch.randn(5, 3)
        >>> comparison = compare(model, {"exact": ExactPosterior(model)}, x, test=x, particles=10, progress=False)
        >>> stacked_gaps(comparison).axes[0].get_xlabel()
        'log p(x) - ELBO, nats per data point'
    """
    rows = [row for row in comparison.rows if row.gap is not None][::-1]
    figure = new_figure(7.5, 0.5 * len(rows) + 2)
    axes = tidy(figure.add_subplot())
    axes.grid(visible=False, axis="y")
    shades = colors(row.guide for row in comparison.rows)
    whole = comparison.bounds.attrs["unit"] == "data set"
    for place, row in enumerate(rows):
        gap, part, error = row.gap or 0.0, row.approximation_gap, 2 * (row.gap_se or 0.0)
        axes.barh(place, gap if part is None else part, color=shades[row.guide])
        if part is not None:
            axes.barh(place, row.amortization_gap or 0.0, left=part, color=shades[row.guide], alpha=0.4)
        if error:  # an unknown error is not drawn
            axes.errorbar(gap, place, xerr=error, fmt="none", color="0.25", capsize=3, linewidth=1)
        end = max(gap, part or 0.0, 0.0) + error
        axes.annotate(f"{gap:.3f}", (end, place), (5, 0), textcoords="offset points", va="center", fontsize=9)
    axes.set_yticks(range(len(rows)), [row.guide for row in rows])
    axes.margins(x=0.12)
    axes.set(xlabel=f"log p(x) - ELBO, {units(comparison)}")
    unknown = any(row.gap_se is None for row in rows)
    split = [row.approximation_gap is not None for row in rows]
    left_over = "optimization, what training has left" if whole else "amortization, what the encoder adds"
    write_title(
        figure,
        "The inference gap: how far the ELBO lies below log p(x)",
        f"Full color: approximation, the family's best member; pale: {left_over}." if any(split) else "",
        "Full color without a pale part: not split." if any(split) and not all(split) else "",
        "Lines: two Monte Carlo errors" + (", where they are known." if unknown else ".") if rows else "",
        f"log p(x): {comparison.evidence}.",
    )
    return figure


def annealing_curve(runs: Mapping[int, xr.Dataset], reference: float | None = None) -> Figure:
    """Draws the annealed estimate of log p(x), or both sides of a sandwich, against the number of distributions.

    Examples:
        >>> import torch
        >>> from ppl_vae import annealed
        >>> from ppl_vae.models import LinearGaussian
        >>> from ppl_vae.plots.gaps import annealing_curve
        >>> model, x = LinearGaussian(3, 1), torch.randn(5, 3)
        >>> runs = {steps: annealed(model, None, x, steps=steps, chains=2, progress=False) for steps in (2, 4)}
        >>> annealing_curve(runs, reference=model.log_evidence(x).mean().item()).axes[0].get_xscale()
        'log'
    """
    figure = new_figure(7.5, 4.5)
    axes = tidy(figure.add_subplot())
    lengths = sorted(runs)
    names = {"lower": "lower bound", "log_evidence": "annealed", "upper": "upper bound"}
    for (name, label), color in zip(names.items(), PALETTE, strict=False):
        measured = {length: runs[length] for length in lengths if name in runs[length]}
        if not measured or (name == "log_evidence" and "lower" in runs[lengths[0]]):
            continue
        averages = [average(run[name], run[f"{name}_se"], run.get(f"{name}_bias")) for run in measured.values()]
        means, errors = np.array(averages).T
        axes.errorbar(list(measured), means, yerr=2 * errors, fmt="o-", color=color, capsize=3, label=label)
    if reference is not None:
        axes.axhline(reference, color="black", linestyle="--", linewidth=1, label="exact")
    axes.set(xscale="log", xlabel="distributions between start and posterior", ylabel="log p(x), nats per data point")
    axes.minorticks_off()
    axes.set_xticks(lengths, [str(length) for length in lengths])
    label_ends(axes)
    write_title(figure, "Annealed importance sampling (bars: two Monte Carlo errors, where they are known)")
    return figure


def khat_by_image(
    bounds: xr.Dataset, x: Tensor, shape: tuple[int, int], worst: int = 8, guides: Iterable[str] = ()
) -> Figure:
    """Draws the k-hat of every image in order, and the images where it is highest, from one guide's bounds.

    Args:
        bounds: of :func:`ppl_vae.bounds`, or one guide's of a comparison, which tell its name.
        x: the images, one a row.
        shape: their height and width.
        worst: how many images are shown.
        guides: all guides of the run, so that this one has the color of the run's other figures.

    Examples:
        >>> import torch
        >>> from ppl_vae import bounds
        >>> from ppl_vae.guides import Amortized, Diagonal
        >>> from ppl_vae.models import VAE
        >>> from ppl_vae.plots.gaps import khat_by_image
        >>> model, guide = VAE(64, 2), Amortized(Diagonal(2), 64)
        >>> x = torch.bernoulli(torch.full((5, 64), 0.3))
        >>> figure = khat_by_image(bounds(model, guide, x, particles=100, progress=False), x, shape=(8, 8), worst=4)
        >>> len(figure.subfigs)
        2
    """
    khat, threshold = bounds.khat.values, bounds.attrs["khat_threshold"]
    guide = str(bounds.guide.item()) if "guide" in bounds.coords else ""
    color = colors([*guides, guide])[guide] if guide else PALETTE[0]
    figure = new_figure(10, 4.2)
    left, right = figure.subfigures(1, 2, squeeze=False, width_ratios=(3, 2))[0]
    axes = tidy(left.add_subplot())
    axes.plot(np.sort(khat), ".", markersize=4, color=color)
    levels = {
        threshold: (f"{threshold:.2f}: below it, the\nweights can be trusted", "--"),
        1.0: ("1: above it, the weights\nhave no finite mean", ":"),
    }
    for level, (meaning, style) in levels.items():
        axes.axhline(level, color="0.3", linestyle=style, linewidth=1, label=meaning)
    axes.set(
        xlabel="images, sorted by k-hat",
        ylabel="k-hat",
        ylim=(None, np.max(khat, initial=1.0, where=np.isfinite(khat)) + 0.1),
    )
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    label_ends(axes)
    share = shares(khat, threshold)
    write_title(
        figure,
        f"Can the importance weights{f' of the guide {guide}' if guide else ''} be trusted? "
        + f"{share['good']:.1%} good (below {threshold:.2f}), {share['bad']:.1%} bad, {share['very bad']:.1%} very bad "
        "(above 1)",
    )
    order = np.argsort(khat)[::-1][:worst]
    cells = right.subplots(-(-worst // 4), 4, squeeze=False).flatten()
    right.suptitle(f"the {len(order)} images with the highest k-hat", fontsize=9)
    for cell in cells[len(order) :]:
        cell.set_axis_off()
    for cell, index in zip(cells, order, strict=False):  # with a frame: white pixels would be lost on white paper
        show_image(cell, x[int(index)], shape)
        cell.set_title(f"{khat[index]:.2f}", fontsize=8)
    return figure


def rate_distortion(comparison: Comparison) -> Figure:
    """Draws each guide by its rate and distortion; grey lines join points of equal ELBO (Alemi et al. 2018).

    Examples:
        >>> import torch
        >>> from ppl_vae import compare
        >>> from ppl_vae.guides import ExactPosterior
        >>> from ppl_vae.models import LinearGaussian
        >>> from ppl_vae.plots.gaps import rate_distortion
        >>> model, x = LinearGaussian(3, 2), torch.randn(5, 3)
        >>> comparison = compare(model, {"exact": ExactPosterior(model)}, x, test=x, particles=10, progress=False)
        >>> rate_distortion(comparison).axes[0].get_xlabel()
        'rate KL(q(z | x) || p(z)), nats per data point'
    """
    figure = new_figure(7, 4.5)
    axes = tidy(figure.add_subplot())
    axes.grid(visible=False)
    data = comparison.bounds
    shades = colors(row.guide for row in comparison.rows)
    for row in comparison.rows:
        if row.rate is not None:
            distortion = float(data.distortion.sel(guide=row.guide).mean())
            axes.plot(row.rate, distortion, "o", color=shades[row.guide], label=f"{row.guide}: ELBO {row.elbo:.3f}")
    axes.margins(0.25)
    low, high = axes.get_xlim()
    bottom, top = axes.get_ylim()
    for level in np.linspace(low + bottom, high + top, 9)[1:-1]:
        axes.plot([low, high], [level - low, level - high], color="0.85", linewidth=0.8, zorder=0)
    axes.set(xlim=(low, high), ylim=(bottom, top), xlabel=f"rate KL(q(z | x) || p(z)), {units(comparison)}")
    axes.set_ylabel(f"distortion, minus E log p(x | z),\n{units(comparison)}")
    label_ends(axes, beside=True)
    write_title(
        figure,
        "Rate and distortion: ELBO = - rate - distortion",
        "Along a grey line the ELBO is the same; it is higher to the lower left.",
    )
    return figure
