"""Many guides for one model: which makes the ELBO tightest?"""

import copy
import math
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pyro
import xarray as xr
from pyro.infer import ELBO
from torch import Tensor, nn

from ppl_vae.errors import InputError
from ppl_vae.measure.best_evidence import Evidence
from ppl_vae.measure.bounds import average
from ppl_vae.measure.tightness import evidence_of, model_evidence, tightness, with_evidence
from ppl_vae.pairs.psis import shares
from ppl_vae.pairs.restore import evaluating
from ppl_vae.pairs.traces import rows
from ppl_vae.programs import FamilyGuide
from ppl_vae.training.fit import History, fit, freeze, resolve_device


@dataclass(frozen=True)
class Row:
    """One guide's line in the table; nats per data point, each figure with its Monte Carlo standard error.

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
        rate: KL(q(z | x) || p(z)), None where the guide is a point mass.
        active_units: coordinates of z whose posterior mean varies over the data, None where they can't be told apart.
        seconds: the time it took to fit this guide (with ``joint``, the model too).
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
    rate: float | None
    active_units: int | None
    seconds: float


@dataclass(frozen=True)
class Comparison:
    """What :func:`compare` found.

    Attributes:
        rows: the table, tightest first; guides whose figures bound nothing come last.
        bounds: what :func:`ppl_vae.tightness` finds of each guide, along the dimension guide: ``elbo``, ``gap``,
            ``khat``, ``rate``, ... (guide, data), ``iwelbo`` (guide, K, data), and ``log_evidence``,
            ``log_evidence_se``, which have dimension guide too where each guide has its own model.
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
    evidence: str = "auto",
    split: bool = False,
    annealing: Mapping[str, Any] | None = None,
    refinement: Mapping[str, Any] | None = None,
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
        evidence: where log p(x) comes from: "exact", "importance" (the IWELBO of the guide whose weights can be
            trusted), "annealed", or "auto" (exact where it can be had, else importance); see :func:`tightness`.
        split: take the gap of each guide apart where it can be; see :func:`ppl_vae.tightness`.
        annealing: options of :func:`ppl_vae.evidence.annealed`.
        refinement: options of :func:`ppl_vae.refine`.
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
    if not isinstance(guides, Mapping):
        raise InputError(f"guides is a {type(guides).__name__}; expected guides by name, such as {{'diagonal': guide}}")
    for name, program in {"model": model, **guides}.items():
        if not isinstance(program, nn.Module):
            raise InputError(
                f"{name} is a {type(program).__name__}; compare freezes and copies modules: make it a PyroModule, or "
                "fit each pair by itself and compare its tightness"
            )
    options = {"device": device, "seed": seed, **fit_options}
    histories: dict[str, History] = {}
    if not joint:
        if base is not None:
            histories["model"] = fit(
                model, base, train, elbo=_elbo(elbo, base), epochs=epochs, description="model", **options
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
            histories[name] = fit(*pair, train, elbo=_elbo(elbo, guide), epochs=length, description=name, **options)
        seconds[name] = time.perf_counter() - start
        pairs[name] = pair
    measured = {}
    for name, pair in pairs.items():
        pyro.set_rng_seed(seed)
        for part in pair:
            part.to(target)
        measured[name] = tightness(
            *pair,
            *batch,
            particles=particles,
            curve=curve,
            evidence="importance",
            refinement=refinement,
            split=split and _can_be_split(pair[1], batch),
        )
    pyro.set_rng_seed(seed)
    chosen = _evidence(pairs, measured, batch, joint, evidence, annealing or {})
    measured = {name: with_evidence(dataset, chosen[name]) for name, dataset in measured.items()}
    words = "each model's own, exact or by its guide" if joint else next(iter(chosen.values())).words
    table = [_row(name, measured[name], seconds[name], sorted(set(columns))) for name in pairs]
    table.sort(key=lambda row: (row.is_bound, row.elbo), reverse=True)
    return Comparison(table, _stack(measured, joint), words, pairs, histories)


def _can_be_split(guide: nn.Module, batch: tuple[Tensor, ...]) -> bool:
    with evaluating(guide):
        return (
            isinstance(guide, FamilyGuide) and guide.family(guide.params(*rows(batch, len(batch[0]), 0, 1))).has_rsample
        )


def _elbo(elbo: ELBO | Callable[[Any], ELBO] | None, guide: nn.Module) -> ELBO | None:
    return elbo if elbo is None or isinstance(elbo, ELBO) else elbo(guide)


def _evidence(
    pairs: Mapping[str, tuple[nn.Module, nn.Module]],
    measured: Mapping[str, xr.Dataset],
    batch: tuple[Tensor, ...],
    joint: bool,
    source: str,
    annealing: Mapping[str, Any],
) -> dict[str, Evidence]:
    """The best estimate of log p(x) of each guide's model."""
    if not joint:
        (model, _), *_ = pairs.values()
        return dict.fromkeys(pairs, evidence_of(measured, model_evidence(model, batch, source, annealing)))
    known = {name: model_evidence(model, batch, source, annealing) for name, (model, _) in pairs.items()}
    return {name: evidence_of({name: measured[name]}, known[name]) for name in pairs}


def _row(name: str, dataset: xr.Dataset, seconds: float, columns: list[int]) -> Row:
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
        mean("rate")[0],
        None if math.isnan(units) else units,
        seconds,
    )


def _stack(measured: Mapping[str, xr.Dataset], joint: bool) -> xr.Dataset:
    """All guides in one dataset, along the dimension guide; what belongs to a guide as a whole is a variable too."""
    names = xr.DataArray(list(measured), dims="guide", name="guide")
    stacked = xr.concat([dataset.drop_attrs() for dataset in measured.values()], dim=names, join="outer")
    first = next(iter(measured.values()))
    if not joint:
        of_the_model = ("log_evidence", "log_evidence_se", "log_evidence_bias")
        stacked = stacked.assign({name: first[name] for name in of_the_model})
    shared = ("units", "particles", "khat_threshold", "evidence", "marginal_points")
    for attribute in first.attrs:
        if attribute not in shared:
            stacked[attribute] = "guide", [dataset.attrs[attribute] for dataset in measured.values()]
    kept = {key: first.attrs[key] for key in ("particles", "khat_threshold", "marginal_points")}
    return stacked.assign_attrs(units="nats per data point", **kept)
