"""Bounds on log p(x) from the log-weights: per data point, in nats, each with its standard error."""

import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from ppl_vae.checks import explained
from ppl_vae.contexts import evaluating
from ppl_vae.errors import InputError
from ppl_vae.log_weights import log_weight_chunks, probe
from ppl_vae.modules import Program
from ppl_vae.psis import effective_sample_size, khat_threshold, pareto_k

_FEW_GROUPS = 10


def bounds(
    model: Program,
    guide: Program,
    *batch: Any,
    particles: int = 1000,
    curve: Iterable[int] | None = None,
    diagnose: bool = False,
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
        diagnose: also tell whether the weights can be trusted.
        progress: called with the number of data points that were just finished.

    Returns:
        A dataset with dimensions K and data, in nats: ``elbo`` and ``elbo_se`` (data), ``iwelbo`` and ``iwelbo_se``
        (K, data). The standard errors are Monte Carlo errors, of the draws of z. Attribute ``is_bound`` is 0 for a
        guide with a point mass (a delta guide), whose figures bound nothing. With ``diagnose`` also ``khat`` and
        ``ess`` (data), and the attribute ``khat_threshold``; see :mod:`ppl_vae.psis`.

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
            pairs = [iwelbo(weights, count) for count in [1, *counts]]
            values.append(torch.stack([value for value, _ in pairs]).cpu())
            errors.append(torch.stack([error for _, error in pairs]).cpu())
            if diagnose:
                diagnostics.append(np.stack([pareto_k(weights), effective_sample_size(weights)]))
            if progress is not None:
                progress(weights.shape[1])
    value, error = (np.concatenate([part.numpy() for part in parts], axis=1) for parts in (values, errors))
    found = xr.Dataset(
        {
            "elbo": ("data", value[0]),
            "elbo_se": ("data", error[0]),
            "iwelbo": (("K", "data"), value[1:]),
            "iwelbo_se": (("K", "data"), error[1:]),
        },
        coords={"K": np.array(counts, dtype=np.int32)},
        attrs={"is_bound": int(is_bound), "particles": particles, "units": "nats"},
    )
    if diagnose:
        khat, ess = np.concatenate(diagnostics, axis=1) if is_bound else np.full((2, found.sizes["data"]), np.nan)
        found = found.assign(khat=("data", khat), ess=("data", ess))
        found.attrs["khat_threshold"] = khat_threshold(particles)
    return found


def iwelbo(log_weights: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """IWELBO_K and its standard error from log-weights of shape (particles, batch), each of shape (batch,), float64.

    From ten groups on, the error is the spread between groups; below that it is the delta method's within each group,
    Var[log mean w] = 1 / ESS - 1 / K with ESS the effective sample size, which is too small where ESS is.
    """
    groups = len(log_weights) // count
    grouped = log_weights[: groups * count].double().unflatten(0, (groups, count))
    log_sum = grouped.logsumexp(1)
    value = (log_sum - math.log(count)).mean(0)
    if groups >= _FEW_GROUPS:
        return value, (log_sum.var(0) / groups).sqrt()
    if count == 1:
        return value, torch.full_like(value, torch.nan)
    inverse_ess = ((2 * grouped).logsumexp(1) - 2 * log_sum).exp()
    return value, ((inverse_ess - 1 / count).clamp(min=0).mean(0) / groups).sqrt()


def default_curve(particles: int) -> list[int]:
    """1, 2, 5, 10, 20, ... up to and with the number of particles."""
    steps = (digit * 10**power for power in range(len(str(particles))) for digit in (1, 2, 5))
    return sorted({step for step in steps if step <= particles} | {particles})


def average(value: xr.DataArray, error: xr.DataArray) -> tuple[float, float]:
    """The mean over the data points and its Monte Carlo standard error, for these very data points."""
    return float(value.mean()), float(np.sqrt((error**2).sum())) / value.size
