"""What passes through z: rate and distortion, active units, mutual information, the aggregate posterior."""

import math
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from ppl_vae.errors import InputError
from ppl_vae.pairs.latents import log_guide
from ppl_vae.pairs.log_weights import CHUNK_BYTES, probe, terms_of
from ppl_vae.pairs.mistakes import require_sound
from ppl_vae.pairs.modules import Program
from ppl_vae.pairs.restore import evaluating, local_parameters
from ppl_vae.pairs.traces import batch_size, random_sites, rows, traces

ACTIVE = 0.01  # Burda et al. 2015, section 5.1


def information(
    model: Program, guide: Program, *batch: Any, particles: int = 100, marginal: int | None = 500
) -> xr.Dataset:
    """The ELBO taken apart: distortion - E_q[log p(x | z)] and rate KL(q(z | x) || p(z)), and what the rate is made of.

    The rate's mean is I + KL(q(z) || p(z)), with q(z) the average of q(z | x) over these data points (the aggregate
    posterior) and I the mutual information of z and the data point's index (Hoffman & Johnson 2016).

    Args:
        model: any Pyro program whose local latents live in the plate "data".
        guide: its guide.
        batch: the arguments of both, one row a data point.
        particles: draws of z for each data point, at least 2.
        marginal: data points in the aggregate posterior, the first ones; None for all. The cost is their square.

    Returns:
        A dataset with ``rate``, ``rate_se``, ``distortion`` and ``distortion_se`` (data) in nats, and the attributes
        ``active_units`` (coordinates of z whose posterior mean varies by more than 0.01 over the data; Burda et al.
        2015), ``mutual_information``, ``marginal_kl`` with their standard errors and ``marginal_points``. I is at most
        the log of that number. Where the guide has no density for a z that another data point drew (a delta guide, an
        autoguide, plates below the data), both are NaN.

    Raises:
        InputError: for fewer than 2 particles, or what :func:`ppl_vae.check` finds wrong with data and pair.
    """
    if particles < 2:
        raise InputError(f"particles is {particles}; at least 2 are needed for a standard error")
    size = batch_size(batch)
    with evaluating(model, guide):
        probed = probe(model, guide, *batch)
        require_sound(model, guide, *batch)
        points = max(1, CHUNK_BYTES // (probed.largest_bytes * particles))
        rates, distortions, means, noises, draws = [], [], [], [], []
        for start in range(0, size, points):
            part = rows(batch, size, start, start + points)
            pair = traces(model, guide, part, particles, probed.nesting)
            latent, observed, proposed = terms_of(*pair, part, particles, probed.nesting)
            rates.append(proposed - latent if probed.is_bound else torch.full_like(latent, math.nan))
            distortions.append(-observed)
            if probed.nesting == 1:
                drawn = {
                    site["name"]: site["value"].expand(particles, len(latent[0]), *site["fn"].event_shape)
                    for site in random_sites(pair[1])
                    if not site["is_observed"]
                }
                flat = torch.cat([value.reshape(*latent.shape, -1).to(latent) for value in drawn.values()], -1)
                means.append(flat.mean(0))
                noises.append(flat.var(0) / particles)
                draws.append({name: value[0].clone() for name, value in drawn.items()})
        found = xr.Dataset(attrs={"units": "nats", "active_units": math.nan})
        for name, parts in (("rate", rates), ("distortion", distortions)):
            values = torch.cat(parts, 1).double().cpu()
            found[name] = "data", values.mean(0).numpy()
            found[f"{name}_se"] = "data", (values.std(0) / math.sqrt(particles)).numpy()
        if means:
            # the mean of a few draws varies by itself, which is no activity of the unit
            spread = torch.cat(means).var(0, correction=0) - torch.cat(noises).mean(0)
            found.attrs["active_units"] = int((spread > ACTIVE).sum())
        count = min(size, marginal or size)
        own = _own_density(guide, batch, draws, count) if draws and probed.is_bound else None
    return found.assign_attrs(_aggregate(found.rate.values[:count], own, count))


def _own_density(guide: Program, batch: tuple[Any, ...], draws: list[dict[str, Tensor]], count: int) -> Tensor | None:
    """log q(z_m | x_m) - log q(z_m) for a draw z_m of each of the first data points; None where it can't be had."""
    batch = rows(batch, batch_size(batch), 0, count)
    z = {name: torch.cat([part[name] for part in draws])[:count] for name in draws[0]}
    width = sum(value[0].numel() for value in z.values())
    at_once = max(2, CHUNK_BYTES // (16 * width * count))
    found = []
    with local_parameters(guide):
        for start in range(0, count, at_once):
            some = {name: value[start : start + at_once] for name, value in z.items()}
            here = len(next(iter(some.values())))
            spread = {name: value.unsqueeze(1).expand(here, count, *value.shape[1:]) for name, value in some.items()}
            try:
                density = log_guide(guide, batch, spread, here, 1).double()
            except (InputError, NotImplementedError):
                return None
            found.append(density.diagonal(start) - density.logsumexp(1) + math.log(count))
    return torch.cat(found)


def _aggregate(rate: np.ndarray, own: Tensor | None, count: int) -> dict[str, float]:
    names = ("mutual_information", "mutual_information_se", "marginal_kl", "marginal_kl_se")
    if own is None or not own.isfinite().all():
        return {**dict.fromkeys(names, math.nan), "marginal_points": count}
    information = own.cpu().numpy()
    left = rate - information
    figures = (f(values) for values in (information, left) for f in (np.mean, lambda v: v.std(ddof=1) / len(v) ** 0.5))
    return {**dict(zip(names, map(float, figures), strict=True)), "marginal_points": count}
