"""Figures of posteriors: a guide's draws against a reference's, and its calibration over simulated data."""

import math
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy import stats

from ppl_vae.measure.posterior_quality import paired
from ppl_vae.plots.style import PALETTE, new_figure, tidy, write_title

_MOST_PANELS = 12
_MOST_ROWS = 40
_COLUMNS = 4
_LEVELS = np.linspace(0.01, 0.99, 99)
_NAMED = (0.05, 0.5, 0.95)  # the quantiles that are marked


def quantiles(draws: Any, reference: Any) -> Figure:
    """Draws a guide's quantiles against a reference's, from 1% to 99%, in a panel for each scalar component.

    A line above the diagonal is a guide that lies too high, one that is flatter than the diagonal a guide that is too
    narrow. Of more than 12 components the first 12 are drawn.

    Args:
        draws: of the guide, as :func:`ppl_vae.measure.draws.posterior_draws` takes them.
        reference: of the posterior, likewise.

    Examples:
        >>> import numpy as np
        >>> from ppl_vae.plots.posterior import quantiles
        >>> numbers = np.random.default_rng(0)
        >>> figure = quantiles({"mu": numbers.normal(size=(1, 500))}, {"mu": numbers.normal(size=(4, 500))})
        >>> figure.axes[0].get_title()
        'mu'
    """
    labels, ours, theirs, _ = paired(draws, reference)
    shown = labels[:_MOST_PANELS]
    figure, panels = _panels(len(shown), 2.6)
    for number, (axes, label) in enumerate(zip(panels, shown, strict=True)):
        expected, found = (np.quantile(values[:, :, number], _LEVELS) for values in (theirs, ours))
        ends = expected[[0, -1]]
        axes.plot(ends, ends, color="black", linestyle="--", linewidth=1)
        axes.plot(expected, found, color=PALETTE[0])
        at = np.searchsorted(_LEVELS, np.array(_NAMED) - 1e-9)
        axes.plot(expected[at], found[at], "o", color=PALETTE[0], markersize=4)
        axes.set_title(label, fontsize=9)
        axes.tick_params(labelsize=8)
        axes.locator_params(nbins=5)
    figure.supxlabel("quantile of the reference", fontsize=9)
    figure.supylabel("quantile of the guide", fontsize=9)
    write_title(
        figure,
        "Marginal quantiles, 1% to 99% (dots: 5%, 50%, 95%; dashed: equal)",
        _rest(len(shown), len(labels)),
    )
    return figure


def calibration_histograms(calibration: xr.Dataset) -> Figure:
    """Draws how often the true parameter lies at each share of the guide's draws, with what a uniform share gives.

    A calibrated guide has bars inside the grey band, which holds 95% of the bars of uniform shares. Bars that rise to
    the right mean draws that are too low, to the left too high; bars high at both ends a guide that is too narrow, high
    in the middle one too wide. Of more than 12 components those with the smallest p-values are drawn.

    Args:
        calibration: what :func:`ppl_vae.measure.calibration.calibration` returns.

    Examples:
        >>> import numpy as np
        >>> from ppl_vae.measure.calibration import calibration
        >>> from ppl_vae.plots.posterior import calibration_histograms
        >>> numbers = np.random.default_rng(0)
        >>> found = calibration({"mu": numbers.normal(size=100)}, {"mu": numbers.normal(size=(100, 50))})
        >>> calibration_histograms(found).axes[0].get_title().splitlines()[0]
        'mu'
    """
    count = calibration.sizes["parameter"]
    smaller = np.minimum(calibration.symmetry_p_value.values, calibration.uniformity_p_value.values)
    order = np.argsort(smaller, kind="stable")[:_MOST_PANELS]
    chosen = calibration.isel(parameter=np.sort(order))
    simulations = calibration.sizes["simulation"]
    edges = _edges(simulations, calibration.attrs["draws"])
    low, high = stats.binom.interval(0.95, simulations, 1 / (len(edges) - 1))
    figure, panels = _panels(chosen.sizes["parameter"], 2.5, sharey=True)
    for axes, index in zip(panels, range(len(order)), strict=True):
        one = chosen.isel(parameter=index)
        axes.axhspan(low, high, color="0.85", linewidth=0, zorder=0)
        axes.axhline(simulations / (len(edges) - 1), color="0.5", linewidth=1, zorder=1)
        # p is k / draws with k from 0 to draws: moved to the middle of the k-th of draws + 1 equal parts
        draws = calibration.attrs["draws"]
        axes.hist(
            (one.p.values * draws + 0.5) / (draws + 1),
            edges.tolist(),
            color=PALETTE[0],
            alpha=0.8,
            rwidth=0.92,
            zorder=2,
        )
        words = [f"{name} {_in_words(float(one[f'{name}_p_value']))}" for name in ("symmetry", "uniformity")]
        axes.set_title("\n".join([str(one.parameter.item()), *words]), fontsize=8)
        axes.set(xlim=(0, 1), xticks=(0, 0.5, 1))
        axes.tick_params(labelsize=8)
    figure.supxlabel("p, the share of the guide's draws below the true value", fontsize=9)
    figure.supylabel(f"simulations, of {simulations}", fontsize=9)
    rest = _rest(len(order), count, "with the smallest p-values ")
    write_title(figure, "Calibration (grey: where 95% of the bars lie if the guide is calibrated)", rest)
    return figure


def moments(comparison: xr.Dataset) -> Figure:
    """Draws each component's difference of means and ratio of standard deviations, with two Monte Carlo errors.

    The corrected means are drawn too where there are any whose error is known. Of more than 40 components the 40 whose
    means differ most are drawn.

    Args:
        comparison: what :func:`ppl_vae.measure.posterior_quality.compare_draws` returns.

    Examples:
        >>> import numpy as np
        >>> from ppl_vae.measure.posterior_quality import compare_draws
        >>> from ppl_vae.plots.posterior import moments
        >>> numbers = np.random.default_rng(0)
        >>> found = compare_draws({"mu": numbers.normal(size=(1, 500))}, {"mu": numbers.normal(size=(4, 500))})
        >>> [axes.get_xlabel() for axes in moments(found).axes]
        ['difference of means, posterior sds', 'sd of the guide / sd of the reference']
    """
    count = comparison.sizes["parameter"]
    order = np.argsort(-np.abs(comparison.mean_difference.values), kind="stable")[:_MOST_ROWS]
    chosen = comparison.isel(parameter=np.sort(order))
    rows = np.arange(len(order))
    figure = new_figure(9, 0.24 * len(rows) + 1.9)
    left, right = (tidy(axes) for axes in figure.subplots(1, 2, sharey=True))
    _dots(
        left,
        chosen.mean_difference.values,
        chosen.mean_difference_se.values,
        rows,
        "o",
        PALETTE[0],
        "the guide's draws",
    )
    if "khat" in chosen and np.isfinite(chosen.corrected_mean_difference_se.values).any():
        label = f"corrected by importance weights (k-hat {float(chosen.khat):.2f})"
        values = chosen.corrected_mean_difference.values, chosen.corrected_mean_difference_se.values
        _dots(left, *values, rows + 0.25, "s", PALETTE[1], label)
        figure.legend(loc="outside lower center", ncols=2, fontsize=8)
    left.axvline(0, color="black", linestyle="--", linewidth=1)
    ratio, error = chosen.log_sd_ratio.values, chosen.log_sd_ratio_se.values
    known = np.isfinite(ratio)
    ends = np.exp(np.array([ratio[known] - 2 * error[known], ratio[known] + 2 * error[known]]))
    right.hlines(rows[known], *ends, color=PALETTE[0], linewidth=1.2)
    right.plot(np.exp(ratio[known]), rows[known], "o", color=PALETTE[0], markersize=4)
    right.axvline(1, color="black", linestyle="--", linewidth=1)
    left.set_yticks(rows, [str(label) for label in chosen.parameter.values], fontsize=8)
    left.set(xlabel="difference of means, posterior sds", ylim=(len(rows) - 0.4, -0.6))
    right.set(xlabel="sd of the guide / sd of the reference")
    rest = _rest(len(order), count, "whose means differ most ")
    distance, floor = float(chosen.sliced_wasserstein), float(chosen.sliced_wasserstein_floor)
    write_title(
        figure,
        f"Sliced Wasserstein distance {distance:.3f} posterior sds (halves of the reference: {floor:.3f}); "
        "lines: two Monte Carlo errors",
        rest,
    )
    return figure


def _dots(
    axes: Axes, values: np.ndarray, errors: np.ndarray, rows: np.ndarray, marker: str, color: str, label: str
) -> None:
    axes.errorbar(
        values, rows, xerr=2 * np.nan_to_num(errors), fmt=marker, color=color, markersize=4, linewidth=1.2, label=label
    )


def _panels(count: int, side: float, sharey: bool = False) -> tuple[Figure, list[Axes]]:
    """Makes a figure of small panels, at most four in a row."""
    columns = min(count, _COLUMNS)
    rows = math.ceil(count / columns)
    figure = new_figure(max(4.5, side * columns + 0.6), side * rows + 0.9)
    grid = list(figure.subplots(rows, columns, squeeze=False, sharey=sharey).flatten())
    for axes in grid[count:]:
        axes.set_visible(False)
    return figure, [tidy(axes) for axes in grid[:count]]


def _rest(shown: int, count: int, which: str = "") -> str:
    """Says what is not drawn."""
    return f"{shown} of {count} components {which}are drawn" if shown < count else ""


def _edges(simulations: int, draws: int) -> np.ndarray:
    """Returns the edges of equal bins that hold equally many ranks, about 10 simulations in each or more, at most 20.

    The number of bins divides the number of ranks, draws + 1, where some number from 5 on does; else the bins hold
    ranks that differ by one in number, which many draws make small.
    """
    most = int(np.clip(simulations // 10, 4, 20))
    even = [bins for bins in range(most, 4, -1) if (draws + 1) % bins == 0]
    return np.linspace(0, 1, (even[0] if even else most) + 1)


def _in_words(p_value: float) -> str:
    return "p < 0.001" if p_value < 0.001 else f"p = {p_value:.3f}"
