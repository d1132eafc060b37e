"""Bounds on log p(x) from the log-weights: per data point, in nats, each with its standard error."""

import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from ppl_vae.errors import InputError
from ppl_vae.pairs.checks import explained
from ppl_vae.pairs.log_means import LogMean, of_draws, student
from ppl_vae.pairs.log_weights import log_weight_chunks, probe
from ppl_vae.pairs.modules import Program
from ppl_vae.pairs.psis import effective_sample_size, khat_threshold, pareto_k
from ppl_vae.pairs.restore import evaluating

_FEW_GROUPS = 10


def bounds(
    model: Program,
    guide: Program,
    *batch: Any,
    particles: int = 1000,
    curve: Iterable[int] | None = None,
    progress: Callable[[int], object] | None = None,
) -> xr.Dataset:
    """The ELBO and IWELBO_K of each data point, for a whole curve of K from the same log-weights.

    IWELBO_K = E[log mean_{k<=K} w_k] (Burda et al. 2015, eq. 8) is averaged over the particles // K disjoint groups;
    IWELBO_1 is the ELBO, and at K = particles it is the importance-weighted estimate of log p(x).

    Args:
        model: any Pyro program whose local latents live in the plate "data".
        guide: its guide.
        batch: the arguments of both, one row a data point.
        particles: draws of z for each data point.
        curve: the values of K; 1, 2, 5, 10, ... up to ``particles`` where None.
        progress: called with the number of data points that were just finished.

    Returns:
        A dataset with dimensions K and data, in nats: ``elbo`` and ``elbo_se`` (data), ``iwelbo`` and ``iwelbo_se``
        (K, data). The standard errors are Monte Carlo errors, of the draws of z, such that 1.96 of them on either side
        make a 95% interval. For the last K, of which there are fewer than 10 groups, the error is NaN where the weights
        can't be trusted. ``bias`` (data) is how far the IWELBO at K = ``particles`` lies below log p(x), to first
        order. ``khat`` and ``ess`` (data) tell whether the weights can be trusted, by the attribute
        ``khat_threshold``; see :mod:`ppl_vae.pairs.psis`. Attribute ``is_bound`` is 0 for a guide with a point mass (a
        delta guide), whose figures bound nothing and whose weights say nothing.

    Raises:
        InputError: for a K that is not between 1 and ``particles``, or a pair without log-weights per data point.
    """
    if particles < 1:
        raise InputError(f"particles is {particles}; at least 1 is needed")
    counts = sorted(set(curve)) if curve is not None else default_curve(particles)
    if not counts or counts[0] < 1 or counts[-1] > particles:
        raise InputError(f"curve is {counts}; each K is a number of particles, from 1 to {particles}")
    values, errors, diagnostics = [], [], []
    with evaluating(model, guide):
        with explained(model, guide, *batch):
            is_bound = probe(model, guide, *batch).is_bound
        for weights in log_weight_chunks(model, guide, *batch, particles=particles):
            khat = pareto_k(weights)
            whole = of_draws(weights, khat)
            pairs = [iwelbo(weights, count, whole) for count in [1, *counts]]
            values.append(torch.stack([value for value, _ in pairs]).cpu())
            errors.append(torch.stack([error for _, error in pairs]).cpu())
            diagnostics.append(np.stack([whole.bias.cpu().numpy(), khat, effective_sample_size(weights)]))
            if progress is not None:
                progress(weights.shape[1])
    value, error = (np.concatenate([part.numpy() for part in parts], axis=1) for parts in (values, errors))
    told = np.concatenate(diagnostics, axis=1)
    if not is_bound:
        told = np.full_like(told, np.nan)
    return xr.Dataset(
        {
            "elbo": ("data", value[0]),
            "elbo_se": ("data", error[0]),
            "iwelbo": (("K", "data"), value[1:]),
            "iwelbo_se": (("K", "data"), error[1:]),
            **{name: ("data", row) for name, row in zip(("bias", "khat", "ess"), told, strict=True)},
        },
        coords={"K": np.array(counts, dtype=np.int32)},
        attrs={
            "is_bound": int(is_bound),
            "particles": particles,
            "units": "nats",
            "khat_threshold": khat_threshold(particles),
        },
    )


def iwelbo(log_weights: Tensor, count: int, whole: LogMean | None = None) -> tuple[Tensor, Tensor]:
    """IWELBO_K and its standard error from log-weights of shape (particles, batch), each of shape (batch,), float64.

    From ten groups on, and for the ELBO, the error is that of the spread between groups, by Student's t; else that of
    :func:`ppl_vae.pairs.log_means.of_draws`, which ``whole`` is for all the weights, and found where None.
    """
    groups = len(log_weights) // count
    grouped = log_weights[: groups * count].double().unflatten(0, (groups, count))
    log_means = grouped.logsumexp(1) - math.log(count)
    value = log_means.mean(0)
    if count == 1 or groups >= _FEW_GROUPS:
        return value, student(groups - 1) * (log_means.var(0) / groups).sqrt()
    drawn = log_weights[: groups * count]
    if whole is None or len(drawn) < len(log_weights):
        whole = of_draws(drawn, pareto_k(drawn))
    return value, whole.error


def default_curve(particles: int) -> list[int]:
    """1, 2, 5, 10, 20, ... up to and with the number of particles."""
    steps = (digit * 10**power for power in range(len(str(particles))) for digit in (1, 2, 5))
    return sorted({step for step in steps if step <= particles} | {particles})


def average(value: xr.DataArray, error: xr.DataArray, bias: xr.DataArray | None = None) -> tuple[float, float]:
    """The mean over the data points and its error, for these very data points; NaN where a point has none.

    The errors of points are independent of each other; what all of them are biased by adds up.
    """
    shared = 0.0 if bias is None else float(bias.mean(skipna=False))
    return float(value.mean()), math.hypot(float(np.sqrt((error**2).sum(skipna=False))) / value.size, shared)
