"""How tight is the ELBO of a pair, why, and can the answer be trusted: one call."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
import xarray as xr

from ppl_vae.errors import InputError
from ppl_vae.evidence.annealing import annealed_pair
from ppl_vae.evidence.exact import exact_pair
from ppl_vae.measure.best_evidence import Evidence, Source, best, importance
from ppl_vae.measure.bounds import Bounds
from ppl_vae.measure.information import Information
from ppl_vae.measure.options import require_measurable, require_source
from ppl_vae.measure.refinement import refined
from ppl_vae.pairs.arguments import Data
from ppl_vae.pairs.entrance import runs_a_pair
from ppl_vae.pairs.modules import Program
from ppl_vae.pairs.pair import Draws, Pair
from ppl_vae.programs import FamilyGuide


@runs_a_pair
def tightness(
    model: Program,
    guide: Program,
    data: Data,
    *,
    particles: int = 1000,
    curve: Iterable[int] | None = None,
    evidence: str = "auto",
    split: bool = False,
    annealing: Mapping[str, Any] | None = None,
    refinement: Mapping[str, Any] | None = None,
    plate: str | None = None,
    seed: int | None = None,
    progress: bool = True,
) -> xr.Dataset:
    """Measures how tight a pair's ELBO is, and why: bounds, evidence, gaps and diagnostics of each data point.

    log p(x) - ELBO is the inference gap. With ``split`` it is taken apart (Cremer et al. 2018, eqs. 6 to 8): the
    approximation gap log p(x) - ELBO* is what the family's best member leaves, the amortization gap ELBO* - ELBO is
    what the encoder adds, with ELBO* after :func:`ppl_vae.refine`.

    Args:
        model: any Pyro program.
        guide: its guide.
        data: a tensor, a tuple of tensors (one row a data point) or a DataLoader: the arguments of both.
        particles: draws of z for each data point, at least 2.
        curve: the values of K; see :func:`ppl_vae.bounds`.
        evidence: where log p(x) comes from: "exact" (the model knows it, or its latents can be counted), "importance"
            (IWELBO at K = ``particles`` by this guide or, with ``split``, by its refinement), "annealed" (see
            :func:`ppl_vae.evidence.annealed`; where that is less certain, importance), or "auto": exact where it can be
            had, else importance. Of several lower bounds the most reliable one is taken
            (:mod:`ppl_vae.measure.best_evidence`).
        split: take the gap apart; needs a guide with ``params`` and a reparameterized ``family``. Where all the data
            share a latent it takes any module, and what is called the amortization gap is what training has left.
        annealing: options of ``annealed``, such as ``{"steps": 1000}``.
        refinement: options of ``refine``.
        plate: the name of the plate that holds the data, where the programs leave it open.
        seed: of the random numbers; None takes them as they come.
        progress: a progress bar on standard error.

    Returns:
        The dataset of :func:`ppl_vae.bounds` (K, data), that of :func:`ppl_vae.measure.information.information`, and
        (data), in nats, each with ``_se``, its Monte Carlo error, and ``_bias``, by how much it is off on average,
        never negative (``log_evidence`` and ``refined_elbo`` are too low): ``log_evidence``, ``gap``; with ``split``
        also ``refined_elbo``, ``approximation_gap``, ``amortization_gap``, and what the weights of the refined guide
        say (``refined_iwelbo``, ``refined_khat``). The errors of data points are independent, the biases add up: see
        :func:`ppl_vae.measure.bounds.average`. Attribute ``evidence`` says in words where log p(x) comes from. The gaps
        of a guide that is not a bound are NaN.

    Raises:
        InputError: for an unknown or impossible source of evidence, or a guide whose gap can't be split.

    Examples:
        >>> import torch
        >>> from ppl_vae import tightness
        >>> from ppl_vae.guides import Amortized, Diagonal
        >>> from ppl_vae.models import VAE
        >>> x = torch.bernoulli(torch.full((5, 64), 0.3))
        >>> tightness(VAE(64, 2), Amortized(Diagonal(2), 64), x, particles=100, progress=False).gap.sizes["data"]
        5
    """
    counts = require_measurable(particles, curve, evidence, annealing, refinement)
    pair = Pair(model, guide, data, plate=plate)
    pair.require_all("the gap to log p(x)")
    with pair.measuring(seed):
        measured = measured_pair(pair, particles, counts, split, refinement or {}, progress)
        known = model_evidence(pair, evidence, annealing or {}, progress)
    return with_evidence(measured, evidence_of({"this guide": measured}, known))


def measured_pair(
    pair: Pair,
    particles: int,
    curve: Iterable[int] | None,
    split: bool,
    refinement: Mapping[str, Any],
    progress: bool = True,
) -> xr.Dataset:
    """Measures what :func:`tightness` tells of a guide, but for the evidence: one pass over the draws of the pair.

    Call it inside ``pair.measuring``.
    """
    if split and not pair.unit.whole and not isinstance(pair.guide, FamilyGuide):
        raise InputError(
            f"the gap of a {type(pair.guide).__name__} can't be split: refine needs a guide with params(x) and a "
            "family, such as Amortized; leave split=False"
        )
    bounds, information = Bounds(pair, particles, curve), Information(particles)

    def take(draws: Draws) -> None:
        bounds.add(draws)
        information.add(draws, pair)

    pair.each(particles, take, "bounds", progress)
    measured = bounds.dataset().merge(information.dataset(pair), combine_attrs="no_conflicts")
    if split:
        measured = measured.merge(_refined(pair, particles, refinement, progress), combine_attrs="override")
    return measured


def _refined(pair: Pair, particles: int, refinement: Mapping[str, Any], progress: bool) -> xr.Dataset:
    """Measures the bounds of the family's best members; what the optimizer has left is the bias of their ELBO."""
    best_guide = refined(pair, **refinement, progress=progress)
    index = () if pair.unit.whole else (torch.arange(pair.size),)
    best_pair = pair.with_guide(best_guide, *index)
    bounds = Bounds(best_pair, particles, (particles,))
    best_pair.each(particles, bounds.add, "bounds of the refined guide", progress)
    last = bounds.dataset().isel(K=-1, drop=True)
    columns = {
        "elbo": last.elbo,
        "elbo_se": last.elbo_se,
        "elbo_bias": ("data", best_guide.left.cpu().numpy()),
        "iwelbo": last.iwelbo,
        "iwelbo_se": last.iwelbo_se,
        "bias": last.bias,
        "khat": last.khat,
    }
    return xr.Dataset({f"refined_{name}": column for name, column in columns.items()})


def evidence_of(measured: Mapping[str, xr.Dataset], known: Source | Evidence | None) -> Evidence:
    """Finds the best estimate of one model's log p(x) from what was measured with some guides.

    Args:
        measured: what :func:`tightness` has found so far, by the guide's name.
        known: the exact value, or an annealed one, if there is one.
    """
    if isinstance(known, Evidence):
        return known
    sound = {name: dataset for name, dataset in measured.items() if dataset.attrs["is_bound"]}
    count = int(next(iter(measured.values())).K[-1])
    sources = [] if known is None else [known]
    elbos = {}
    for name, dataset in sound.items():
        sources.append(importance(dataset, f"IWELBO at K = {count} by {name}"))
        elbos[name] = dataset.elbo, dataset.elbo_se
        if "refined_elbo" in dataset:
            last = dataset.refined_iwelbo, dataset.refined_iwelbo_se, dataset.refined_bias
            sources.append(Source(f"IWELBO at K = {count} by {name}, refined", *last))
            elbos[f"{name}, refined"] = dataset.refined_elbo, dataset.refined_elbo_se
    if sources:
        return best(sources, elbos)
    nothing = xr.full_like(next(iter(measured.values())).elbo, np.nan)
    return Evidence(nothing, nothing, nothing, "unknown: the guide has no density, so there are no importance weights")


def with_evidence(measured: xr.Dataset, evidence: Evidence) -> xr.Dataset:
    """Adds ``log_evidence`` and the gaps between it and the bounds; NaN where the guide gives no bound."""
    measured = measured.assign(
        log_evidence=evidence.value, log_evidence_se=evidence.error, log_evidence_bias=evidence.bias
    )
    measured = measured.assign_attrs(evidence=evidence.words)
    sound = 1.0 if measured.attrs["is_bound"] else np.nan
    sides = {"gap": ("log_evidence", "elbo")}
    if "refined_elbo" in measured:
        sides |= {"approximation_gap": ("log_evidence", "refined_elbo"), "amortization_gap": ("refined_elbo", "elbo")}
    for name, (upper, lower) in sides.items():
        measured[name] = sound * (measured[upper] - measured[lower])
        measured[f"{name}_se"] = sound * np.hypot(measured[f"{upper}_se"], measured[f"{lower}_se"])
        biases = (measured[f"{side}_bias"] for side in (upper, lower) if f"{side}_bias" in measured)
        measured[f"{name}_bias"] = sound * sum(biases, xr.zeros_like(measured[name]))
    return measured


@runs_a_pair
def generalization(
    model: Program,
    guide: Program,
    data: Data,
    *,
    held_out: Data,
    particles: int = 1000,
    evidence: str = "auto",
    seed: int | None = None,
    progress: bool = True,
) -> dict[str, tuple[float, float]]:
    """Measures how much better a pair does on training data than on other data (Cremer et al. 2018, section 5.4).

    Args:
        model: any Pyro program.
        guide: its guide.
        data: some of the training data, as for :func:`tightness`.
        held_out: other data.
        particles: draws of z for each data point.
        evidence: see :func:`tightness`.
        seed: of the random numbers; None takes them as they come.
        progress: a progress bar on standard error.

    Returns:
        Mean over ``data`` less mean over ``held_out``, in nats, with its standard error over the data points, of
        ``log_evidence`` (the model's part), ``gap`` (the guide's part) and ``elbo`` (the difference of the two).

    Examples:
        >>> import torch
        >>> from ppl_vae import generalization
        >>> from ppl_vae.guides import Amortized, Diagonal
        >>> from ppl_vae.models import VAE
        >>> x, others = torch.bernoulli(torch.full((2, 5, 64), 0.3))
        >>> pair = VAE(64, 2), Amortized(Diagonal(2), 64)
        >>> sorted(generalization(*pair, x, held_out=others, particles=100, progress=False))
        ['elbo', 'gap', 'log_evidence']
    """
    options: dict[str, Any] = {"curve": (particles,), "evidence": evidence, "seed": seed, "progress": progress}
    sides = [tightness(model, guide, part, particles=particles, **options) for part in (data, held_out)]
    if any(side.attrs["unit"] == "data set" for side in sides):
        raise InputError(
            "all the data share a latent, so that there is one log p(x) for all of them, and none of a training point "
            "to hold against that of another one: compare tightness on both data sets"
        )
    differences = {}
    for name in ("log_evidence", "gap", "elbo"):
        on_data, on_held_out = (side[name].values for side in sides)
        errors = (values.std(ddof=1) / len(values) ** 0.5 for values in (on_data, on_held_out))
        error = float(np.hypot(*errors))
        differences[name] = (float(on_data.mean() - on_held_out.mean()), error)
    return differences


def model_evidence(
    pair: Pair, source: str, annealing: Mapping[str, Any], progress: bool = True
) -> Source | Evidence | None:
    """Finds log p(x) as the model alone tells it: exactly, or annealed where asked for.

    It is None where weights are to tell it.

    Call it inside ``pair.measuring``.
    """
    require_source(source)
    if source == "importance":
        return None
    alone = pair.alone()
    if source == "annealed":
        run = annealed_pair(alone, **annealing, progress=progress)
        name = f"annealing over {run.attrs['steps']} distributions with {run.attrs['chains']} chains"
        return Source(name, run.log_evidence, run.log_evidence_se, run.log_evidence_bias)
    known = exact_pair(alone, progress)
    if known is not None:
        zeros = xr.zeros_like(known.log_evidence)
        return Evidence(known.log_evidence, zeros, zeros, "exact")
    if source == "exact":
        raise InputError(
            f"log p(x) of a {type(pair.model).__name__} is not known exactly: it has no log_evidence(x), and no "
            "discrete latents that can be counted; take evidence='importance' or 'annealed'"
        )
    return None
