"""Many guides for one model: which makes the ELBO tightest?"""

import copy
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyro
import xarray as xr
from pyro.infer import ELBO
from torch import Tensor, nn

from ppl_vae.errors import InputError
from ppl_vae.log_weights import evaluating
from ppl_vae.tightness import average, bounds
from ppl_vae.training import History, fit, freeze, resolve_device


@dataclass(frozen=True)
class Row:
    """One guide's line in the table; nats per data point, each figure with its Monte Carlo standard error.

    Attributes:
        guide: its name.
        is_bound: False for a delta guide, whose figures bound nothing.
        elbo: the ELBO.
        iwelbo: IWELBO_K for each K of the table.
        log_evidence: the best estimate of log p(x).
        gap: log_evidence - elbo, None where the figures bound nothing.
        seconds: the time it took to fit this guide (with ``joint``, the model too).
    """

    guide: str
    is_bound: bool
    elbo: float
    elbo_se: float
    iwelbo: dict[int, tuple[float, float]]
    log_evidence: float
    log_evidence_se: float
    gap: float | None
    gap_se: float | None
    seconds: float


@dataclass(frozen=True)
class Comparison:
    """What :func:`compare` found.

    Attributes:
        rows: the table, tightest first; guides whose figures bound nothing come last.
        bounds: per data point: ``elbo``, ``elbo_se`` (guide, data), ``iwelbo``, ``iwelbo_se`` (guide, K, data) and
            ``log_evidence``, ``log_evidence_se``, with dimension guide too where each guide has its own model.
        evidence: where the best estimate of log p(x) comes from, in words.
        pairs: the fitted model and guide by the guide's name.
        histories: the trainings by name, "model" among them where one was trained alone.
    """

    rows: list[Row]
    bounds: xr.Dataset
    evidence: str
    pairs: dict[str, tuple[nn.Module, nn.Module]]
    histories: dict[str, History] = field(default_factory=dict)


def compare(
    model: nn.Module,
    guides: Mapping[str, nn.Module],
    train: Tensor | tuple[Tensor, ...],
    test: Tensor | tuple[Tensor, ...],
    *,
    elbo: ELBO | Callable[[Any], ELBO] | None = None,
    base: nn.Module | None = None,
    joint: bool = False,
    particles: int = 1000,
    curve: Iterable[int] | None = None,
    columns: Iterable[int] = (10, 100, 1000),
    epochs: int = 20,
    guide_epochs: int | None = None,
    device: str = "auto",
    seed: int = 0,
    **fit_options: Any,
) -> Comparison:
    """Fits every guide to one model and measures how tight each ELBO is on the test data.

    Args:
        model: trained with ``base`` first where that is given, taken as it is where not; frozen from then on.
        guides: by name; fitted in place. A guide without parameters of its own (``Exact``) is only measured.
        train: the training data, one row a data point; several tensors where the programs take several arguments.
        test: what the bounds are measured on, likewise (already binarized, if the likelihood is for bits).
        elbo: what to train with, for all guides, or a function of the guide; ``Trace_ELBO()`` where None.
        base: the guide to train the model with.
        joint: train a copy of the model with each guide instead, from the same start.
        particles: draws of z for each data point.
        curve: the values of K in ``bounds``; see :func:`ppl_vae.bounds`.
        columns: the values of K in the rows; those above ``particles`` are left out.
        epochs: for the model (with ``joint``, for each pair).
        guide_epochs: for the guides; ``epochs`` where None.
        device: "auto", "cpu", "cuda", ...
        seed: sets the random numbers before each training and each measurement.
        fit_options: passed to :func:`ppl_vae.fit`.

    Raises:
        InputError: for no guide, or what ``fit`` and ``bounds`` refuse.
    """
    if not guides:
        raise InputError("there is no guide to compare: give at least one")
    options = {"device": device, "seed": seed, **fit_options}
    histories: dict[str, History] = {}
    if not joint:
        if base is not None:
            histories["model"] = fit(
                model, base, train, _elbo(elbo, base), epochs=epochs, description="model", **options
            )
        freeze(model)
    target = resolve_device(device)
    batch = tuple(part.to(target) for part in ((test,) if isinstance(test, Tensor) else test))
    pairs, seconds = {}, {}
    for name, guide in guides.items():
        pair = copy.deepcopy((model, guide)) if joint else (model, guide)
        start = time.perf_counter()
        if any(parameter.requires_grad for part in pair for parameter in part.parameters()):
            length = epochs if joint else guide_epochs or epochs
            histories[name] = fit(*pair, train, _elbo(elbo, guide), epochs=length, description=name, **options)
        seconds[name] = time.perf_counter() - start
        pairs[name] = pair
    measured, counts = {}, set(columns)
    for name, pair in pairs.items():
        pyro.set_rng_seed(seed)
        for part in pair:
            part.to(target)
        measured[name] = bounds(*pair, *batch, particles=particles, curve=curve)
    found, evidence = _evidence(pairs, measured, batch, joint)
    rows = [_row(name, measured[name], *found[name], seconds[name], sorted(counts)) for name in pairs]
    rows.sort(key=lambda row: (row.is_bound, row.elbo), reverse=True)
    return Comparison(rows, _stack(measured, found, joint), evidence, pairs, histories)


def _elbo(elbo: ELBO | Callable[[Any], ELBO] | None, guide: nn.Module) -> ELBO | None:
    return elbo if elbo is None or isinstance(elbo, ELBO) else elbo(guide)


Evidence = tuple[xr.DataArray, xr.DataArray]


def _evidence(
    pairs: Mapping[str, tuple[nn.Module, nn.Module]],
    measured: Mapping[str, xr.Dataset],
    batch: tuple[Tensor, ...],
    joint: bool,
) -> tuple[dict[str, Evidence], str]:
    """The best estimate of log p(x) for each guide's model, per data point with its error, and what it is."""
    if all(hasattr(model, "log_evidence") for model, _ in pairs.values()):
        found = {name: _exact(model, batch) for name, (model, _) in pairs.items()}
        return found, "exact"
    weighted = {name: _last(dataset) for name, dataset in measured.items()}
    count = int(next(iter(measured.values())).K[-1])
    if joint:
        return weighted, f"each model's own IWELBO at K = {count}, a lower bound"
    sound = [name for name, dataset in measured.items() if dataset.attrs["is_bound"]] or list(measured)
    best = max(sound, key=lambda name: float(weighted[name][0].mean()))
    return dict.fromkeys(pairs, weighted[best]), f"IWELBO at K = {count} with the guide {best!r}, a lower bound"


def _exact(model: nn.Module, batch: tuple[Tensor, ...]) -> Evidence:
    with evaluating(model):
        value = xr.DataArray(model.log_evidence(*batch).double().cpu().numpy(), dims="data")  # type: ignore[operator]
    return value, xr.zeros_like(value)


def _last(dataset: xr.Dataset) -> Evidence:
    last = dataset.isel(K=-1).drop_vars("K")
    return last.iwelbo, last.iwelbo_se


def _row(
    name: str, dataset: xr.Dataset, log_evidence: xr.DataArray, error: xr.DataArray, seconds: float, columns: list[int]
) -> Row:
    is_bound = bool(dataset.attrs["is_bound"])
    chosen = [count for count in columns if count in dataset.K]
    iwelbo = {count: average(dataset.iwelbo.sel(K=count), dataset.iwelbo_se.sel(K=count)) for count in chosen}
    gap, gap_se = average(log_evidence - dataset.elbo, np.hypot(error, dataset.elbo_se))
    return Row(
        name,
        is_bound,
        *average(dataset.elbo, dataset.elbo_se),
        iwelbo,
        *average(log_evidence, error),
        gap if is_bound else None,
        gap_se if is_bound else None,
        seconds,
    )


def _stack(measured: Mapping[str, xr.Dataset], found: Mapping[str, Evidence], joint: bool) -> xr.Dataset:
    """All guides in one dataset, along the dimension guide."""
    names = xr.DataArray(list(measured), dims="guide", name="guide")
    is_bound = [dataset.attrs["is_bound"] for dataset in measured.values()]
    stacked = xr.concat([dataset.drop_attrs() for dataset in measured.values()], dim=names)
    for place, variable in enumerate(("log_evidence", "log_evidence_se")):
        each = [found[name][place].assign_attrs(units="nats") for name in measured]
        stacked[variable] = xr.concat(each, dim=names) if joint else each[0]
    stacked["is_bound"] = ("guide", is_bound)
    particles = next(iter(measured.values())).attrs["particles"]
    return stacked.assign_attrs(units="nats per data point", particles=particles)
