"""The best of several lower bounds on log p(x): the most reliable one, which is not the largest.

Where importance weights can't be trusted, a bound may lie far above log p(x) by chance, and often lies far below it. So
sources are ranked by how many data points they can be trusted for, and each point takes the first one that it can
trust. The ranking looks at all points together, so no point picks the source that suits it by its value.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr

from ppl_vae.measure.bounds import average

_APART = 4.0  # errors


@dataclass(frozen=True)
class Source:
    """One estimate of log p(x) for each data point, in nats, such as one guide's IWELBO: several compete.

    Attributes:
        name: what it is called in sentences.
        value: a lower bound on average.
        error: its standard error; NaN where it can't be trusted.
        bias: how far it lies below log p(x) on average.
    """

    name: str
    value: xr.DataArray
    error: xr.DataArray
    bias: xr.DataArray


@dataclass(frozen=True)
class Evidence:
    """What is taken for log p(x): the most reliable of the sources, point by point, and words about it.

    Attributes:
        value: log p(x) of each data point, in nats.
        error: its standard error; NaN where no source can be trusted.
        bias: how far it lies below log p(x) on average.
        words: what it is, and where the sources contradict each other.
    """

    value: xr.DataArray
    error: xr.DataArray
    bias: xr.DataArray
    words: str


def importance(measured: xr.Dataset, name: str) -> Source:
    """Makes a source of the IWELBO at the last K that :func:`ppl_vae.bounds` gave."""
    last = measured.isel(K=-1, drop=True)
    return Source(name, last.iwelbo, last.iwelbo_se, measured.bias)


def best(sources: Sequence[Source], elbos: Mapping[str, tuple[xr.DataArray, xr.DataArray]]) -> Evidence:
    """Chooses the best among sources, at least one.

    Args:
        sources: estimates of the same log p(x).
        elbos: ELBOs of the same model with their errors, by the guide's name. A mean of log-weights has no heavy tail,
            so none of them lies above log p(x): it takes the place of an estimate that can't be trusted where it is
            higher, and tells where an estimate is too low.
    """
    ranked = sorted(sources, key=lambda source: (int(source.error.isnull().sum()), float(source.error.mean())))
    first = ranked[0]
    value, error, bias = first.value, first.error, first.bias
    for source in ranked[1:]:
        missing = error.isnull()
        value, error, bias = (
            xr.where(missing & source.error.notnull(), new, old)
            for new, old in ((source.value, value), (source.error, error), (source.bias, bias))
        )
    untold = error.isnull()
    for elbo, _ in elbos.values():
        value = xr.where(untold, np.maximum(value, elbo), value)
    bias = xr.where(untold, np.nan, bias)
    chosen = Evidence(value, error, bias, "")
    return Evidence(value, error, bias, _words(ranked, chosen) + _contradictions(ranked, elbos, chosen))


def _words(ranked: Sequence[Source], chosen: Evidence) -> str:
    names = [source.name for source in ranked]
    others = names[1:] if bool(ranked[0].error.isnull().any()) else []  # no other has a part where the first holds
    words = f"{names[0]}, or where that can't be trusted {', '.join(others)}" if others else names[0]
    untold = int(chosen.error.isnull().sum())
    words += ", a lower bound"
    if untold:
        words += f"; no error can be told, since none can be trusted for {untold / chosen.error.size:.0%} of the points"
    return words


def _contradictions(
    ranked: Sequence[Source], elbos: Mapping[str, tuple[xr.DataArray, xr.DataArray]], chosen: Evidence
) -> str:
    """Says where two trusted sources differ by more than their errors, or an ELBO lies above the choice."""
    words = ""
    for source in ranked:
        both = (source.error.notnull() & chosen.error.notnull()).values
        if not both.any():
            continue
        difference, error = average((source.value - chosen.value)[both], source.error[both], source.bias[both])
        error = math.hypot(error, average(chosen.value[both], chosen.error[both], chosen.bias[both])[1])
        if abs(difference) > _APART * error and abs(difference) > 1e-6:
            words += f"; {source.name} differs by {difference:+.3f}: one of the two misses a part of the posterior"
    for name, (elbo, elbo_error) in elbos.items():
        trusted = chosen.error.notnull().values
        if not trusted.any():
            continue
        excess, error = average((elbo - chosen.value)[trusted], elbo_error[trusted])
        error = math.hypot(error, average(chosen.value[trusted], chosen.error[trusted], chosen.bias[trusted])[1])
        if excess > _APART * error and excess > 1e-6:
            words += f"; too low by {excess:.3f} at least, as the ELBO of {name} tells"
    return words
