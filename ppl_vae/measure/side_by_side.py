"""Pairs side by side in one table: how tight each one's ELBO is on the same data."""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
import xarray as xr
from torch import nn

from ppl_vae.errors import InputError
from ppl_vae.measure.best_evidence import Evidence, Source
from ppl_vae.measure.bounds import whole_numbers
from ppl_vae.measure.comparison_table import Row, plain_table, row_of, stacked_by_guide, with_ties
from ppl_vae.measure.contestants import can_be_split, leave_out, pairs_of
from ppl_vae.measure.health import told_of
from ppl_vae.measure.kept_parts import KeptParts, from_dataset, in_dataset
from ppl_vae.measure.options import require_measurable
from ppl_vae.measure.tightness import evidence_of, measured_pair, model_evidence, with_evidence
from ppl_vae.pairs.arguments import Data, batch_of
from ppl_vae.pairs.entrance import runs_a_pair
from ppl_vae.pairs.pair import Pair
from ppl_vae.training.arguments import resolve_device
from ppl_vae.training.health import TrainingWarning
from ppl_vae.training.history import History
from ppl_vae.training.warning import warn_caller


@dataclass(frozen=True)
class Comparison:
    """The result of :func:`compare`; ``print`` shows it as a table.

    Attributes:
        rows: the table, tightest first, with ties marked; guides whose figures bound nothing come last.
        bounds: what :func:`ppl_vae.tightness` finds of each guide, along the dimension guide: ``elbo``, ``gap``,
            ``khat``, ``rate``, ... (guide, data), ``iwelbo`` (guide, K, data), and ``log_evidence``,
            ``log_evidence_se``, which have dimension guide too where each guide has its own model.
        evidence: where the best estimate of log p(x) comes from, in words.
        pairs: the fitted model and guide by the guide's name.
        histories: the trainings by name, "model" among them where one was trained alone.
        advice: what looks wrong with the guides, and what to do, in the sentences that were warned of; what the
            trainings have told is in their histories.

    Examples:
        >>> import torch
        >>> from ppl_vae import compare
        >>> from ppl_vae.guides import ExactPosterior
        >>> from ppl_vae.models import LinearGaussian
        >>> model, x = LinearGaussian(3, 2), torch.randn(5, 3)
        >>> result = compare(model, {"exact": ExactPosterior(model)}, x, test=x, particles=10, progress=False)
        >>> (row,) = result.rows
        >>> row.guide, abs(row.gap) < 1e-4, result.evidence
        ('exact', True, 'exact')
    """

    rows: list[Row]
    bounds: xr.Dataset
    evidence: str
    pairs: dict[str, tuple[nn.Module, nn.Module]]
    histories: dict[str, History] = field(default_factory=dict)
    advice: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        """The table as plain text, for ``print``."""
        return plain_table(self.rows, self.evidence, self.bounds.attrs)


@runs_a_pair
def side_by_side(
    programs: Mapping[str, tuple[nn.Module, nn.Module]],
    data: Data,
    *,
    particles: int = 1000,
    curve: Iterable[int] | None = None,
    columns: Iterable[int] = (10, 100, 1000),
    evidence: str = "auto",
    split: bool = False,
    annealing: Mapping[str, Any] | None = None,
    refinement: Mapping[str, Any] | None = None,
    plate: str | None = None,
    device: str | torch.device = "auto",
    seed: int | None = None,
    progress: bool = True,
    seconds: Mapping[str, float] | None = None,
    histories: Mapping[str, History] | None = None,
    parts: KeptParts | None = None,
) -> Comparison:
    """Measures trained pairs on the same data, and puts them in one table.

    Pairs that have one model share its best estimate of log p(x); each other model has its own. A pair that can't be
    measured is left out with a warning, unless nothing else is left.

    Args:
        programs: model and guide by name; they are moved to the device.
        data: what the bounds are measured on.
        particles: see :func:`ppl_vae.compare`, likewise the arguments that are not here.
        seconds: what each guide's fit took, NaN where it is not known.
        histories: the trainings by name.
        parts: keeps each measurement as it ends.

    Raises:
        InputError: for no pair, or what :func:`ppl_vae.tightness` refuses.

    Examples:
        >>> import torch
        >>> from ppl_vae.guides import ExactPosterior, Prior
        >>> from ppl_vae.measure.side_by_side import side_by_side
        >>> from ppl_vae.models import LinearGaussian
        >>> model, x = LinearGaussian(3, 2), torch.randn(5, 3)
        >>> pairs = {"prior": (model, Prior(model)), "exact": (model, ExactPosterior(model))}
        >>> [row.guide for row in side_by_side(pairs, x, particles=10, progress=False).rows]
        ['exact', 'prior']
    """
    programs, of_others = dict(programs), dict(histories or {})
    pairs = pairs_of(programs, batch_of(data), plate, resolve_device(device))
    parts = parts or KeptParts(None)
    curve = require_measurable(particles, curve, evidence, annealing, refinement)
    columns = whole_numbers("columns", columns)
    how = {"particles": particles, "curve": curve, "seed": seed, "plate": plate}
    measured = {}
    for name, pair in list(pairs.items()):
        divided = split and can_be_split(pair)
        measure = partial(measured_pair, pair, particles, curve, divided, refinement or {}, progress)
        settings = {**how, "split": divided, "refinement": refinement}
        found = parts.measured(f"measured {name}", pair, settings, seed, measure)
        if isinstance(found, InputError):
            leave_out(name, found, pairs, programs, of_others)
        else:
            measured[name] = found
    own = len({id(model) for model, _ in programs.values()}) > 1
    known_of = partial(_known, parts, evidence, annealing or {}, seed, progress)
    chosen = _evidence(pairs, measured, own, known_of)
    measured = {name: with_evidence(dataset, chosen[name]) for name, dataset in measured.items()}
    words = "each model's own, exact or by its guide" if own else next(iter(chosen.values())).words
    took = seconds or {}
    table = [row_of(name, measured[name], took.get(name, math.nan), columns) for name in programs]
    table.sort(key=lambda row: (row.is_bound, row.elbo), reverse=True)
    stacked = stacked_by_guide(measured, own)
    table = with_ties(table, stacked.elbo)
    known = {name: " ".join(history.advice) for name, history in of_others.items()}
    whole = stacked.attrs["unit"] == "data set"
    advice = told_of(table, batch_of(data)[0], stacked.attrs["khat_threshold"], whole, known)
    for line in advice:
        warn_caller(line, TrainingWarning)
    return Comparison(table, stacked, words, programs, of_others, advice)


def _evidence(
    pairs: Mapping[str, Pair],
    measured: Mapping[str, xr.Dataset],
    joint: bool,
    known: Callable[[str, Pair], Source | Evidence | None],
) -> dict[str, Evidence]:
    """Returns the best estimate of log p(x) of each guide's model."""
    if not joint:
        return dict.fromkeys(pairs, evidence_of(measured, known("", next(iter(pairs.values())))))
    return {name: evidence_of({name: measured[name]}, known(f" {name}", pair)) for name, pair in pairs.items()}


def _known(
    parts: KeptParts, source: str, annealing: Mapping[str, Any], seed: int | None, progress: bool, name: str, pair: Pair
) -> Source | Evidence | None:
    """Finds what a model alone tells of log p(x)."""

    def measure() -> xr.Dataset:
        return in_dataset(model_evidence(pair, source, annealing, progress))

    settings = {"source of evidence": source, "annealing": annealing, "seed": seed}
    found = parts.measured(f"evidence{name}", pair, settings, seed, measure)
    if isinstance(found, InputError):
        raise found
    return from_dataset(found)
