"""Draws as xarray's variables: names for their dimensions, and what the model computes of them."""

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from ppl_vae.pairs.arguments import Batch
from ppl_vae.pairs.pair import Pair
from ppl_vae.pairs.traces import Site, random_sites
from ppl_vae.pairs.units import plates_of


def at_draws(pair: Pair, part: Batch, values: dict[str, Tensor], chains: int) -> tuple[xr.Dataset, xr.Dataset]:
    """Names the latents and what is computed of them, and gives log p(x | z) of each data point at them."""
    computed: dict[str, list[Tensor]] = {site["name"]: [] for site in pair.deterministic}
    likelihood: dict[str, list[Tensor]] = {site["name"]: [] for site in pair.sites if site["is_observed"]}
    for traced, stacked, count in pair.replayed(part, values):
        for name, collected in computed.items():
            collected.append(stacked(traced.nodes[name]))
        for site in random_sites(traced):
            if site["is_observed"] and pair.unit.plate in plates_of(site):
                likelihood[site["name"]].append(pair.unit.by_point([site], part, count).double())
    named = values | {name: torch.cat(collected) for name, collected in computed.items()}
    sites = {site["name"]: site for site in (*pair.sites, *pair.deterministic)}
    posterior = {name: variable(pair, sites[name], value, chains) for name, value in named.items()}
    pointwise = {
        name: (("chain", "draw", "data"), by_chain(torch.cat(collected), chains))
        for name, collected in likelihood.items()
        if collected
    }
    return xr.Dataset(posterior), xr.Dataset(pointwise)


def variable(pair: Pair, site: Site, value: Tensor, chains: int) -> tuple[tuple[str, ...], np.ndarray]:
    """Makes a variable of the values of a site, particles first."""
    return ("chain", "draw", *dimensions(pair, site)), by_chain(value, chains)


def by_chain(values: Tensor, chains: int) -> np.ndarray:
    """Cuts draws, in the first dimension, into chains."""
    return values.unflatten(0, (chains, -1)).cpu().numpy()


def dimensions(pair: Pair, site: Site) -> tuple[str, ...]:
    """Names the dimensions of a site without particles: those of plates by the plate, the data's "data"."""
    name = site["name"]
    plates = {frame.dim: "data" if frame.name == pair.unit.plate else frame.name for frame in plates_of(site).values()}
    own = len(site["fn"].batch_shape)
    batch = [plates.get(dim, f"{name}_batch_{own + dim}") for dim in range(-own, 0)]
    return *batch, *(f"{name}_dim_{number}" for number in range(len(site["fn"].event_shape)))


def joined(parts: list[xr.Dataset] | tuple[xr.Dataset, ...]) -> xr.Dataset:
    """Puts together what was made a few data points at a time."""
    return parts[0] if len(parts) == 1 else xr.concat(parts, dim="data")


def coordinates(group: xr.Dataset) -> dict[str, np.ndarray]:
    """Numbers the elements of all dimensions from 0."""
    return {str(name): np.arange(length) for name, length in group.sizes.items()}
