"""The table of a comparison, a line for each guide, and the measurements of all guides in one dataset."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import xarray as xr

from ppl_vae.measure.bounds import average
from ppl_vae.pairs.psis import shares


@dataclass(frozen=True)
class Row:
    """A guide's line in the table; nats per data point, each figure with its Monte Carlo standard error.

    Attributes:
        guide: its name.
        is_bound: False for a delta guide, whose figures bound nothing.
        elbo: the ELBO.
        iwelbo: IWELBO_K for each K of the table.
        log_evidence: the best estimate of log p(x), None where a point mass alone would have to tell it; its error and
            those of the gaps are None where importance weights can't be trusted to tell one.
        gap: log_evidence - elbo, None where the figures bound nothing.
        approximation_gap: what the family's best member would leave of the gap, None where it was not split.
        amortization_gap: the rest of it, likewise.
        khat_good: the share of data points whose k-hat says that their importance weights can be trusted.
        khat: the largest k-hat, which is that of the whole data set where its points share a latent.
        rate: KL(q(z | x) || p(z)), None where the guide is a point mass.
        active_units: coordinates of z whose posterior mean varies over the data, None where they can't be told apart.
        seconds: the time it took to fit this guide (with ``joint``, the model too).
        tie: True where the ELBO can't be told from that of the line above: their difference is within two of its
            standard errors, over the data points, or of their Monte Carlo errors where there is one data point.
    """

    guide: str
    is_bound: bool
    elbo: float
    elbo_se: float
    iwelbo: dict[int, tuple[float, float]]
    log_evidence: float | None
    log_evidence_se: float | None
    gap: float | None
    gap_se: float | None
    approximation_gap: float | None
    approximation_gap_se: float | None
    amortization_gap: float | None
    amortization_gap_se: float | None
    khat_good: float | None
    khat: float | None
    rate: float | None
    active_units: int | None
    seconds: float
    tie: bool = False


def row_of(name: str, dataset: xr.Dataset, seconds: float, columns: list[int]) -> Row:
    """Makes the line of a guide of what was measured with it."""

    def mean(variable: str) -> tuple[float | None, float | None]:
        if variable not in dataset or bool(dataset[variable].isnull().any()):
            return None, None
        value, error = average(dataset[variable], dataset[f"{variable}_se"], dataset.get(f"{variable}_bias"))
        return value, None if math.isnan(error) else error

    chosen = [count for count in columns if count in dataset.K]
    good = shares(dataset.khat, dataset.attrs["khat_threshold"])["good"]
    units = dataset.attrs["active_units"]
    return Row(
        name,
        bool(dataset.attrs["is_bound"]),
        *average(dataset.elbo, dataset.elbo_se),
        {count: average(dataset.iwelbo.sel(K=count), dataset.iwelbo_se.sel(K=count)) for count in chosen},
        *mean("log_evidence"),
        *mean("gap"),
        *mean("approximation_gap"),
        *mean("amortization_gap"),
        None if math.isnan(good) else good,
        None if math.isnan(good) else float(dataset.khat.max()),
        mean("rate")[0],
        None if math.isnan(units) else units,
        seconds,
    )


def with_ties(rows: Sequence[Row], elbo: xr.DataArray) -> list[Row]:
    """Marks the lines whose ELBO can't be told from that of the line above.

    The differences at the data points have both errors in them, the Monte Carlo error and that of other data.

    Args:
        rows: the table, tightest first.
        elbo: of each guide and data point, with the dimensions guide and data.
    """
    marked = list(rows[:1])
    for above, row in pairwise(rows):
        differences = (elbo.sel(guide=above.guide) - elbo.sel(guide=row.guide)).values
        error = math.hypot(above.elbo_se, row.elbo_se)
        if differences.size > 1:
            error = float(differences.std(ddof=1)) / math.sqrt(differences.size)
        tie = above.is_bound and row.is_bound and abs(float(differences.mean())) <= 2 * error
        marked.append(replace(row, tie=tie))
    return marked


def stacked_by_guide(measured: Mapping[str, xr.Dataset], joint: bool) -> xr.Dataset:
    """Puts all guides in one dataset, along the dimension guide; what a guide has as a whole is a variable too."""
    names = xr.DataArray(list(measured), dims="guide", name="guide")
    stacked = xr.concat([dataset.drop_attrs() for dataset in measured.values()], dim=names, join="outer")
    first = next(iter(measured.values()))
    if not joint:
        of_the_model = ("log_evidence", "log_evidence_se", "log_evidence_bias")
        stacked = stacked.assign({name: first[name] for name in of_the_model})
    shared = ("units", "unit", "particles", "khat_threshold", "evidence", "marginal_points")
    for attribute in first.attrs:
        if attribute not in shared:
            stacked[attribute] = "guide", [dataset.attrs[attribute] for dataset in measured.values()]
    attributes = {key: first.attrs[key] for key in ("particles", "khat_threshold", "marginal_points", "unit")}
    return stacked.assign_attrs(units=f"nats per {first.attrs['unit']}", **attributes)


def plain_table(rows: list[Row], evidence: str, attributes: Mapping[str, Any]) -> str:
    """The table as plain text: guide, ELBO, log p(x), gap and k-hat, and a line that says what they are.

    Args:
        rows: a line of the table each.
        evidence: where log p(x) comes from, in words.
        attributes: those of the measured dataset: its ``unit`` and ``khat_threshold``.
    """
    whole, threshold = attributes["unit"] == "data set", attributes["khat_threshold"]
    headings = ("guide", "ELBO", "log p(x)", "gap", "k-hat")
    lines = [headings, *(_cells(row, whole) for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    trusted = "the share of data points whose importance weights can be trusted"
    khat = f"importance weights can be trusted below {threshold:.2f}" if whole else trusted
    printed = ["  ".join([first.ljust(widths[0]), *map(str.rjust, others, widths[1:])]) for first, *others in lines]
    units = f"nats per {attributes['unit']} ± Monte Carlo standard error; gap = log p(x) - ELBO"
    return "\n".join([*printed, units, f"log p(x): {evidence}", f"k-hat: {khat}"])


def _cells(row: Row, whole: bool) -> tuple[str, ...]:
    """A row's cells; "-" where a figure is not known."""
    khat = row.khat if whole else row.khat_good
    return (
        row.guide if row.is_bound else f"{row.guide} (not a bound)",
        f"{row.elbo:.3f} ± {row.elbo_se:.3f}",
        "-" if row.log_evidence is None else f"{row.log_evidence:.3f}",
        "-" if row.gap is None else f"{row.gap:.3f}",
        "-" if khat is None else f"{khat:.2f}" if whole else f"{khat:.1%}",
    )
