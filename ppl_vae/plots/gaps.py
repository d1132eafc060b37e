"""Figures of the results of :func:`ppl_vae.tightness` and :func:`ppl_vae.compare`."""

import textwrap
from collections.abc import Mapping

import numpy as np
import xarray as xr
from matplotlib.figure import Figure
from torch import Tensor

from ppl_vae.measure.bounds import average
from ppl_vae.measure.side_by_side import Comparison
from ppl_vae.pairs.psis import shares
from ppl_vae.plots.bounds import units
from ppl_vae.plots.images import show_image


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
        'log p(x) - ELBO, nats per image'
    """
    figure = Figure(figsize=(7, 0.5 * len(comparison.rows) + 2), layout="constrained")
    axes = figure.add_subplot()
    rows = [row for row in comparison.rows if row.gap is not None][::-1]
    names = [row.guide for row in rows]
    gaps = np.array([row.gap or 0.0 for row in rows])
    approximation = np.array([row.approximation_gap or 0.0 for row in rows])
    amortization = np.array([row.amortization_gap or 0.0 for row in rows])
    split = np.array([row.approximation_gap is not None for row in rows], dtype=bool)
    whole = comparison.bounds.attrs["unit"] == "data set"
    left_over = "optimization: what training has left" if whole else "amortization: the encoder's part"
    for label, color, values, left in (
        ("approximation: the family's best member", "C0", approximation, 0 * gaps),
        (left_over, "C1", amortization, approximation),
        ("not split", "0.7", np.where(split, 0.0, gaps), 0 * gaps),
    ):
        if values.any():
            axes.barh(names, values, left=left, color=color, label=label)
    for row, gap in zip(rows, gaps, strict=True):
        if row.gap_se is not None:  # an unknown error is not drawn
            axes.errorbar(gap, row.guide, xerr=2 * row.gap_se, fmt="none", color="black", capsize=3, linewidth=1)
    axes.set(xlabel=f"log p(x) - ELBO, {units(comparison)}")
    source = textwrap.fill(f"log p(x): {comparison.evidence}", 80)
    axes.set_title(f"Inference gap (lines: two Monte Carlo errors)\n{source}", fontsize=9)
    figure.legend(loc="outside lower center", ncols=2, fontsize=8)
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
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.add_subplot()
    lengths = sorted(runs)
    for name, label in (("lower", "lower bound"), ("log_evidence", "annealed"), ("upper", "upper bound")):
        measured = {length: runs[length] for length in lengths if name in runs[length]}
        if not measured or (name == "log_evidence" and "lower" in runs[lengths[0]]):
            continue
        averages = [average(run[name], run[f"{name}_se"], run.get(f"{name}_bias")) for run in measured.values()]
        means, errors = np.array(averages).T
        axes.errorbar(list(measured), means, yerr=2 * errors, fmt="o-", capsize=3, label=label)
    if reference is not None:
        axes.axhline(reference, color="black", linestyle="--", linewidth=1, label="exact")
    axes.set(xscale="log", xlabel="distributions between start and posterior", ylabel="log p(x), nats per image")
    axes.set_title("Annealed importance sampling (bars: two Monte Carlo errors)", fontsize=10)
    axes.legend()
    return figure


def khat_by_image(bounds: xr.Dataset, x: Tensor, shape: tuple[int, int], worst: int = 8) -> Figure:
    """Draws the k-hat of every image in order, and the images where it is highest, from one guide's bounds.

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
    figure = Figure(figsize=(9, 4), layout="constrained")
    left, right = figure.subfigures(1, 2, squeeze=False, width_ratios=(3, 2))[0]
    axes = left.add_subplot()
    axes.plot(np.sort(khat), ".", markersize=3)
    for level, style in ((threshold, "--"), (1.0, ":")):
        axes.axhline(level, color="black", linestyle=style, linewidth=1)
    share = shares(khat, threshold)
    axes.set(xlabel="images, sorted", ylabel="k-hat")
    axes.set_title(", ".join(f"{name} {value:.1%}" for name, value in share.items()), fontsize=10)
    order = np.argsort(khat)[::-1][:worst]
    cells = right.subplots(-(-worst // 4), 4, squeeze=False).flatten()
    right.suptitle("the worst images, with k-hat", fontsize=10)
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
        'rate KL(q(z | x) || p(z)), nats per image'
    """
    figure = Figure(figsize=(6, 4.5), layout="constrained")
    axes = figure.add_subplot()
    data = comparison.bounds
    points = [(row, float(data.distortion.sel(guide=row.guide).mean())) for row in comparison.rows]
    for number, (row, distortion) in enumerate(points):
        if row.rate is not None:
            axes.plot(row.rate, distortion, "o", color=f"C{number}", label=f"{row.guide}: ELBO {row.elbo:.2f}")
    axes.margins(0.25)
    low, high = axes.get_xlim()
    bottom, top = axes.get_ylim()
    for level in np.linspace(low + bottom, high + top, 9)[1:-1]:
        axes.plot([low, high], [level - low, level - high], color="0.85", linewidth=0.8, zorder=0)
    axes.set(xlim=(low, high), ylim=(bottom, top), xlabel=f"rate KL(q(z | x) || p(z)), {units(comparison)}")
    axes.set_ylabel(f"distortion, minus E log p(x | z),\n{units(comparison)}")
    axes.set_title("Rate and distortion (grey: equal ELBO)", fontsize=10)
    figure.legend(loc="outside lower center", ncols=3, fontsize=8)
    return figure
