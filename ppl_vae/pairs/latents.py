"""The latents of any Pyro program as tensors: drawn, set, and their density read back."""

from typing import Any

import pyro
import torch
from pyro import poutine
from pyro.poutine import Trace
from pyro.poutine.util import prune_subsample_sites
from torch import Tensor

from ppl_vae.errors import InputError
from ppl_vae.pairs.log_weights import LargestOutput
from ppl_vae.pairs.modules import Program
from ppl_vae.pairs.restore import local_parameters, random_state_kept
from ppl_vae.pairs.traces import (
    PARTICLE_PLATE,
    batch_size,
    data_dimension,
    plates_below,
    random_sites,
    rows,
    split_density,
    sum_density,
)


def run(
    program: Program, batch: tuple[Any, ...], particles: int, nesting: int, values: dict[str, Tensor] | None = None
) -> Trace:
    """One run with a plate of particles; the latents that have values take these, the others are drawn."""
    plate = pyro.plate(PARTICLE_PLATE, particles, dim=-1 - nesting)
    fixed = Trace()
    for name, value in (values or {}).items():
        fixed.add_node(name, name=name, type="sample", value=value, is_observed=False, infer={})
    with local_parameters(program):
        return prune_subsample_sites(poutine.trace(poutine.replay(plate(program), trace=fixed)).get_trace(*batch))


def nesting_of(model: Program, batch: tuple[Any, ...]) -> int:
    """How many plates of the model's own lie below the particles; random numbers are left as they were.

    Raises InputError for a site outside the plate "data".
    """
    with random_state_kept(), torch.no_grad(), local_parameters(model):
        trace = prune_subsample_sites(poutine.trace(model).get_trace(*batch))
    for site in random_sites(trace):
        data_dimension(site)
    return plates_below([trace])


def largest_bytes(model: Program, batch: tuple[Any, ...]) -> int:
    """The largest tensor that any operation of the model makes, for one particle of one data point."""
    size = min(4, batch_size(batch))
    part = rows(batch, batch_size(batch), 0, size)
    nesting = nesting_of(model, part)
    with random_state_kept(), torch.no_grad(), LargestOutput() as largest:
        run(model, part, 2, nesting)
    return max(1, largest.bytes // (2 * size))


def log_joint(
    model: Program, batch: tuple[Any, ...], values: dict[str, Tensor], particles: int, nesting: int
) -> tuple[Tensor, Tensor]:
    """log p(z) and log p(x | z) at the values, each of shape (particles, batch), in nats."""
    return split_density(run(model, batch, particles, nesting, values), nesting, zeros(batch, particles))


def log_guide(
    guide: Program, batch: tuple[Any, ...], values: dict[str, Tensor], particles: int, nesting: int
) -> Tensor:
    """log q(z | x) at the values, shape (particles, batch), in nats; InputError where the guide has other sites."""
    sites = random_sites(run(guide, batch, particles, nesting, values))
    names = sorted(site["name"] for site in sites)
    if names != sorted(values):
        raise InputError(
            f"the guide samples {names}, the model's latents are {sorted(values)}: a density of given latents needs a "
            "guide of just these sites (an autoguide draws them all from one of its own)"
        )
    return sum_density(sites, nesting, zeros(batch, particles))


def zeros(batch: tuple[Any, ...], particles: int) -> Tensor:
    """Zeros of shape (particles, batch) on the data's device."""
    return batch[0].new_zeros((particles, batch_size(batch)), dtype=torch.get_default_dtype())


def latent_values(trace: Trace) -> dict[str, Tensor]:
    """The values of the latents of a trace by name."""
    return {site["name"]: site["value"] for site in random_sites(trace) if not site["is_observed"]}
