"""How tight is the ELBO of a pair, why, and can the answer be trusted: one call."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from ppl_vae.errors import InputError
from ppl_vae.evidence import annealed, exact
from ppl_vae.information import information
from ppl_vae.iwelbo import bounds
from ppl_vae.modules import Program
from ppl_vae.programs import FamilyGuide
from ppl_vae.refinement import refine
from ppl_vae.traces import batch_size

EVIDENCE = ("auto", "exact", "importance", "annealed")


def tightness(
    model: Program,
    guide: Program,
    *batch: Any,
    particles: int = 1000,
    curve: Iterable[int] | None = None,
    evidence: str = "auto",
    split: bool = False,
    annealing: Mapping[str, Any] | None = None,
    refinement: Mapping[str, Any] | None = None,
    progress: Callable[[int], object] | None = None,
) -> xr.Dataset:
    """The bounds, the evidence, the gap and its causes, and the diagnostics of each data point.

    log p(x) - ELBO is the inference gap. With ``split`` it is taken apart (Cremer et al. 2018, eqs. 6 to 8): the
    approximation gap log p(x) - ELBO* is what the family's best member leaves, the amortization gap ELBO* - ELBO is
    what the encoder adds, with ELBO* after :func:`ppl_vae.refine`.

    Args:
        model: any Pyro program whose local latents live in the plate "data".
        guide: its guide.
        batch: the arguments of both, one row a data point.
        particles: draws of z for each data point.
        curve: the values of K; see :func:`ppl_vae.bounds`.
        evidence: where log p(x) comes from: "exact" (the model knows it, or its latents can be counted), "importance"
            (IWELBO at K = ``particles`` by this guide), "annealed" (see :func:`ppl_vae.evidence.annealed`), or "auto":
            exact where it can be had, else importance.
        split: take the gap apart; needs a guide with ``params`` and a reparameterized ``family``.
        annealing: options of ``annealed``, such as ``{"steps": 1000}``.
        refinement: options of ``refine``.
        progress: called with the number of data points whose bounds were just finished.

    Returns:
        The dataset of :func:`ppl_vae.bounds` (K, data) with ``khat`` and ``ess``, that of
        :func:`ppl_vae.information.information`, and (data), in nats, each with ``_se``, its Monte Carlo error:
        ``log_evidence``, ``gap``; with ``split`` also ``refined_elbo``, ``approximation_gap``, ``amortization_gap``.
        Attribute ``evidence`` says in words where log p(x) comes from. The gaps of a guide that is not a bound are NaN.

    Raises:
        InputError: for an unknown or impossible source of evidence, or a guide whose gap can't be split.
    """
    if evidence not in EVIDENCE:
        raise InputError(f"evidence is {evidence!r}; choose from {', '.join(EVIDENCE)}")
    start = guide if isinstance(guide, FamilyGuide) else None
    if split and start is None:
        raise InputError(
            f"the gap of a {type(guide).__name__} can't be split: refine needs a guide with params(x) and a family, "
            "such as Amortized; leave split=False"
        )
    found = bounds(model, guide, *batch, particles=particles, curve=curve, diagnose=True, progress=progress)
    found = found.merge(information(model, guide, *batch), combine_attrs="no_conflicts")
    value, error, words = None, None, ""
    if evidence != "importance":
        value, error, words = model_evidence(model, batch, evidence, annealing or {})
    if value is None:
        last = found.isel(K=-1)
        value, error = last.iwelbo.values, last.iwelbo_se.values
        words = f"IWELBO at K = {int(last.K)}, a lower bound"
    found = found.assign(log_evidence=("data", value), log_evidence_se=("data", error)).assign_attrs(evidence=words)
    if split and start is not None:
        refined = refine(model, start, *batch, **(refinement or {}))
        index = torch.arange(batch_size(batch), device=batch[0].device)
        best = bounds(model, refined, *batch, index, particles=particles, curve=(1,))
        found = found.assign(refined_elbo=best.elbo, refined_elbo_se=best.elbo_se)
    return with_gaps(found)


def with_gaps(found: xr.Dataset) -> xr.Dataset:
    """Adds the gaps between the bounds and ``log_evidence``; NaN where the guide gives no bound."""
    sound = 1.0 if found.attrs["is_bound"] else np.nan
    pairs = {"gap": ("log_evidence", "elbo")}
    if "refined_elbo" in found:
        pairs |= {"approximation_gap": ("log_evidence", "refined_elbo"), "amortization_gap": ("refined_elbo", "elbo")}
    for name, (upper, lower) in pairs.items():
        found[name] = sound * (found[upper] - found[lower])
        found[f"{name}_se"] = sound * np.hypot(found[f"{upper}_se"], found[f"{lower}_se"])
    return found


def generalization(
    model: Program,
    guide: Program,
    train: Tensor | tuple[Any, ...],
    held_out: Tensor | tuple[Any, ...],
    *,
    particles: int = 1000,
    evidence: str = "auto",
) -> dict[str, tuple[float, float]]:
    """How much better a pair does on the images it was trained on than on others (Cremer et al. 2018, section 5.4).

    Args:
        model: any Pyro program whose local latents live in the plate "data".
        guide: its guide.
        train: a batch of training data (the arguments of both).
        held_out: a batch of other data.
        particles: draws of z for each data point.
        evidence: see :func:`tightness`.

    Returns:
        Mean over ``train`` less mean over ``held_out``, in nats, with its standard error over the data points, of
        ``log_evidence`` (the model's part), ``gap`` (the guide's part) and ``elbo`` (the difference of the two).
    """
    sides = []
    for data in (train, held_out):
        batch = (data,) if isinstance(data, Tensor) else tuple(data)
        sides.append(tightness(model, guide, *batch, particles=particles, curve=(particles,), evidence=evidence))
    found = {}
    for name in ("log_evidence", "gap", "elbo"):
        one, other = (side[name].values for side in sides)
        error = float(np.hypot(one.std(ddof=1) / len(one) ** 0.5, other.std(ddof=1) / len(other) ** 0.5))
        found[name] = (float(one.mean() - other.mean()), error)
    return found


def model_evidence(
    model: Program, batch: tuple[Any, ...], source: str, annealing: Mapping[str, Any]
) -> tuple[np.ndarray | None, np.ndarray | None, str]:
    """log p(x), its standard error, and its source in words; None with "auto" where it is not known exactly."""
    if source not in EVIDENCE:
        raise InputError(f"evidence is {source!r}; choose from {', '.join(EVIDENCE)}")
    if source == "annealed":
        run = annealed(model, *batch, **annealing)
        words = f"annealing over {run.attrs['steps']} distributions, {run.attrs['chains']} chains, a lower bound"
        return run.log_evidence.values, run.log_evidence_se.values, words
    known = exact(model, *batch)
    if known is not None:
        value = known.detach().cpu().numpy()
        return value, np.zeros_like(value), "exact"
    if source == "exact":
        raise InputError(
            f"log p(x) of a {type(model).__name__} is not known exactly: it has no log_evidence(x), and no "
            "discrete latents that can be counted; take evidence='importance' or 'annealed'"
        )
    return None, None, ""
