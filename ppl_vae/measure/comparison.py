"""Compares many guides for one model: which of them makes the ELBO tightest."""

import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from pyro.infer import ELBO
from torch import nn

from ppl_vae.errors import InputError, require_count
from ppl_vae.measure.bounds import whole_numbers
from ppl_vae.measure.contestants import (
    all_copied,
    by_itself,
    can_be_trained,
    elbo_for,
    finished_guide,
    leave_out,
    refuse_other_kinds,
)
from ppl_vae.measure.kept_parts import KeptParts
from ppl_vae.measure.options import require_measurable
from ppl_vae.measure.side_by_side import Comparison, side_by_side
from ppl_vae.pairs.arguments import Data, batch_of
from ppl_vae.pairs.autoguides import copied
from ppl_vae.pairs.entrance import runs_a_pair
from ppl_vae.pairs.modules import Program
from ppl_vae.pairs.restore import random_state_kept
from ppl_vae.training.fit import History, fit, freeze


@runs_a_pair
def compare(
    model: Program,
    guides: Mapping[str, nn.Module],
    data: Data,
    *,
    test: Data,
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
    plate: str | None = None,
    seed: int | None = None,
    progress: bool = True,
    checkpoint: str | Path | None = None,
    **fit_options: Any,
) -> Comparison:
    """Fits every guide to one model and measures how tight each ELBO is on the test data.

    The model and the guides are copied first; those that are given stay as they are, and so do the random numbers
    where a seed is given. Each guide is fitted by itself: one that shares an encoder with another does not go on from
    the other's training.

    Args:
        model: trained with ``base`` first where that is given, taken as it is where not; frozen from then on. It may be
            a function without parameters.
        guides: by name. A guide without parameters of its own (``ExactPosterior``) is only measured;
            ``AutoLaplaceApproximation`` becomes the Gaussian around the mode that it was trained to, and is left
            out with a warning where there is none, unless nothing else is left to compare.
        data: the training data: a tensor, a tuple of tensors (one row a data point) or a DataLoader.
        test: what the bounds are measured on, likewise (already binarized, if the likelihood is for bits). Where all
            the data share a latent, a guide is one of these data: give the training data again.
        elbo: what to train with, for all guides, or a function of the guide; ``Trace_ELBO()`` where None.
        base: the guide to train the model with.
        joint: train a copy of the model with each guide instead, from the same start.
        particles: draws of z for each data point, at least 2.
        curve: the values of K in ``bounds``; see :func:`ppl_vae.bounds`.
        columns: the values of K in the rows; those above ``particles`` are left out.
        evidence: where log p(x) comes from: "exact", "importance" (the IWELBO of the guide whose weights can be
            trusted), "annealed", or "auto" (exact where it can be had, else importance); see
            :func:`ppl_vae.tightness`.
        split: take the gap of each guide apart where it can be; see :func:`ppl_vae.tightness`.
        annealing: options of :func:`ppl_vae.annealed`.
        refinement: options of :func:`ppl_vae.refine`.
        epochs: for the model (with ``joint``, for each pair).
        guide_epochs: for the guides; ``epochs`` where None.
        plate: the name of the plate that holds the data, where the programs leave it open.
        seed: of the random numbers before each training and each measurement; None takes them as they come.
        progress: a progress bar on standard error.
        checkpoint: a folder that keeps each part (a training, a measurement) as it ends, and trainings as they go on:
            the same call goes on from there with the numbers of one without a break. A folder of other settings is
            refused.
        fit_options: passed to :func:`ppl_vae.fit`: ``batch_size``, ``lr`` ..., ``device`` too.

    Returns:
        A table, the bounds of each data point, and the fitted pairs: see :class:`Comparison`.

    Raises:
        InputError: for no guide, or what ``fit`` and ``bounds`` refuse; for a ``checkpoint`` of other settings, or in
            use by another run.

    Examples:
        >>> import torch
        >>> from ppl_vae import compare
        >>> from ppl_vae.guides import Amortized, Diagonal, Full
        >>> from ppl_vae.models import VAE
        >>> x = torch.bernoulli(torch.full((20, 64), 0.3))
        >>> guides = {"diagonal": Amortized(Diagonal(2), 64), "full": Amortized(Full(2), 64)}
        >>> result = compare(VAE(64, 2), guides, x, test=x, epochs=1, particles=100, progress=False)
        >>> sorted(row.guide for row in result.rows)
        ['diagonal', 'full']
    """
    refuse_other_kinds(guides, base)
    curve = require_measurable(particles, curve, evidence, annealing, refinement)
    columns = whole_numbers("columns", columns)
    if guide_epochs is not None:
        require_count("guide_epochs", guide_epochs, 1)
    parts = KeptParts(checkpoint)
    # of the guides themselves and not of copies: the function may look a guide up
    elbos = {name: elbo_for(elbo, guide) for name, guide in guides.items()}
    elbo_of_base = elbo_for(elbo, base) if base is not None else None
    model, guides, base = all_copied(model, guides, base, data)
    options = {"seed": seed, "progress": progress, **fit_options}
    with random_state_kept() if seed is not None else nullcontext(), parts.in_use():
        histories: dict[str, History] = {}
        if not joint:
            if base is not None:
                place = parts.training("model")
                options |= {"epochs": epochs, "description": "model", "checkpoint": place}
                histories["model"] = fit(model, base, data, elbo=elbo_of_base, **options)
            freeze(model)
        test_batch = batch_of(test)
        programs, seconds = {}, {}
        options["epochs"] = epochs if joint else guide_epochs or epochs
        for name, guide in list(guides.items()):
            programs[name] = copied((model, guide), (model, guide)) if joint else (model, by_itself(guide, model))
            start, before = time.perf_counter(), 0.0
            if can_be_trained(*programs[name]):
                options |= {"description": name, "checkpoint": parts.training(f"guide {name}")}
                histories[name] = fit(*programs[name], data, elbo=elbos[name], **options)
                before = sum(histories[name].seconds)
                try:
                    programs[name] = programs[name][0], finished_guide(*programs[name], data, plate)
                except InputError as error:
                    leave_out(name, error, guides, programs, histories)
            seconds[name] = max(time.perf_counter() - start, before)  # of which the most may be that of an earlier call
        return side_by_side(
            programs,
            test_batch,
            particles=particles,
            curve=curve,
            columns=columns,
            evidence=evidence,
            split=split,
            annealing=annealing,
            refinement=refinement,
            plate=plate,
            device=fit_options.get("device", "auto"),
            seed=seed,
            progress=progress,
            seconds=seconds,
            histories=histories,
            parts=parts,
        )
