"""What the traces of a pair say: its random sites, and their log-densities by particle and data point.

The particles are a plate to the left of the pair's own plates, and each site's log-density is summed over every
dimension but that one and the plate "data".
"""

from collections.abc import Iterable
from typing import Any

import pyro
import torch
from pyro import poutine
from pyro.distributions import Delta
from pyro.distributions.util import scale_and_mask
from pyro.poutine import Trace
from pyro.poutine.util import prune_subsample_sites
from torch import Tensor

from ppl_vae.errors import InputError
from ppl_vae.pairs.densities import log_density
from ppl_vae.pairs.modules import Program
from ppl_vae.pairs.pairing import require_a_pair
from ppl_vae.pairs.restore import local_parameters

DATA_PLATE = "data"
PARTICLE_PLATE = "ppl_vae_particles"


def traces(model: Program, guide: Program, batch: tuple[Any, ...], particles: int, nesting: int) -> tuple[Trace, Trace]:
    """The guide's trace and the model's, replayed against it; particles in a plate where nesting is above 0.

    Raises InputError where the two are no pair (:func:`ppl_vae.pairs.pairing.mismatches`).
    """
    with local_parameters(model, guide):
        guide_trace = trace_guide(guide, batch, particles, nesting)
        return guide_trace, trace_model(model, guide_trace, batch, particles, nesting)


def trace_guide(guide: Program, batch: tuple[Any, ...], particles: int, nesting: int) -> Trace:
    """One run of the guide, its parameters wherever Pyro now keeps them; particles in a plate."""
    inner = guide
    if nesting and particles > 1:
        inner = pyro.plate(PARTICLE_PLATE, particles, dim=-1 - nesting)(guide)
    return prune_subsample_sites(poutine.trace(inner).get_trace(*batch))


def trace_model(model: Program, guide_trace: Trace, batch: tuple[Any, ...], particles: int, nesting: int) -> Trace:
    """One run of the model on the guide's draws; InputError where the two are no pair."""
    inner = model
    if nesting and particles > 1:
        inner = pyro.plate(PARTICLE_PLATE, particles, dim=-1 - nesting)(model)
    model_trace = prune_subsample_sites(poutine.trace(poutine.replay(inner, trace=guide_trace)).get_trace(*batch))
    require_a_pair(random_sites(guide_trace), random_sites(model_trace))
    return model_trace


def random_sites(trace: Trace) -> list[dict[str, Any]]:
    """The random sites of a trace; ``pyro.deterministic`` has no density."""
    return [
        site
        for site in trace.nodes.values()
        if site["type"] == "sample" and not site["infer"].get("_deterministic", False)
    ]


def parameter_sites(trace: Trace) -> dict[str, Tensor]:
    """The leaves behind the parameter sites of a trace, by name; those of ``pyro.param`` are unconstrained."""
    found = {name: site["value"] for name, site in trace.nodes.items() if site["type"] == "param"}
    return {name: leaf.unconstrained() if hasattr(leaf, "unconstrained") else leaf for name, leaf in found.items()}


def plates_below(found: Iterable[Trace]) -> int:
    """How many plates of the programs' own lie below the particles."""
    sites = [site for trace in found for site in random_sites(trace)]
    return max((-frame.dim for site in sites for frame in site["cond_indep_stack"] if frame.vectorized), default=1)


def bounds_evidence(guide_trace: Trace) -> bool:
    """Whether E[log w] is a lower bound on log p(x): not where a latent is a point mass, which has no density.

    An autoguide's point masses are images of auxiliary sites, which have one; other auxiliary sites have no partner in
    the model.
    """
    sites = random_sites(guide_trace)
    auxiliary = any(site["infer"].get("is_auxiliary", False) for site in sites)
    return auxiliary == any(_is_point_mass(site["fn"]) for site in sites)


def data_dimension(site: dict[str, Any]) -> int:
    """The dimension, counted from the right, of a site's plate "data"; InputError where it lies outside."""
    for frame in site["cond_indep_stack"]:
        if frame.vectorized and frame.name == DATA_PLATE:
            return frame.dim
    raise InputError(
        f"site {site['name']!r} lies outside the plate {DATA_PLATE!r}, so it has no log-weight per data point: what "
        f'each data point has of its own belongs inside `with pyro.plate("{DATA_PLATE}", len(x)):`; what all the data '
        "share is trained by fit, but not measured per data point"
    )


def has_weights(found: Iterable[Trace]) -> bool:
    """Whether a site is weighted by ``poutine.scale``, by a KL weight say, beyond what its plates subsample."""
    for site in (site for trace in found for site in random_sites(trace)):
        own = site["scale"]
        for frame in site["cond_indep_stack"]:
            own = own * (frame.size / (frame.full_size or frame.size))
        if not bool(((torch.as_tensor(own, dtype=torch.float64) - 1).abs() < 1e-6).all()):
            return True
    return False


def split_density(model_trace: Trace, nesting: int, zeros: Tensor) -> tuple[Tensor, Tensor]:
    """log p(z), with a guide's auxiliary sites in the model, and log p(x | z) of a trace, shapes that of zeros."""
    sites = random_sites(model_trace)
    latent = sum_density([site for site in sites if not site["is_observed"]], nesting, zeros)
    return latent, sum_density([site for site in sites if site["is_observed"]], nesting, zeros)


def sum_density(sites: list[dict[str, Any]], nesting: int, zeros: Tensor) -> Tensor:
    """The log-density of some sites of a trace by particle and data point, shape that of zeros."""
    shape = (zeros.shape[0], zeros.shape[1])
    return sum((_per_point(site, nesting, shape) for site in sites), zeros)


def batch_size(batch: tuple[Any, ...]) -> int:
    """The number of data points in a pair's arguments; InputError where there is none."""
    if batch and callable(batch[0]) and not isinstance(batch[0], Tensor):
        raise InputError("a second program is given where the data are expected: name it, guide=...")
    if not batch or not isinstance(batch[0], Tensor) or batch[0].dim() == 0 or len(batch[0]) == 0:
        given = tuple(batch[0].shape) if batch and isinstance(batch[0], Tensor) else batch[:1]
        raise InputError(
            f"the first argument is {given}; expected a tensor with a row for each data point, at least one"
        )
    return len(batch[0])


def rows(batch: tuple[Any, ...], size: int, start: int, stop: int) -> tuple[Any, ...]:
    """A pair's arguments for the data points from start to stop."""
    if start == 0 and stop >= size:
        return batch
    return tuple(
        arg[start:stop] if isinstance(arg, Tensor) and arg.dim() and len(arg) == size else arg for arg in batch
    )


def _per_point(site: dict[str, Any], nesting: int, shape: tuple[int, int]) -> Tensor:
    """A site's log-density, every dimension but the particles' and the data's summed out."""
    data_dim = data_dimension(site)
    log_prob = log_density(site["fn"], site["value"], *site["args"], **site["kwargs"])
    log_prob = scale_and_mask(log_prob, 1.0, site["mask"])
    others = [dim for dim in range(-log_prob.dim(), 0) if dim not in (data_dim, -1 - nesting)]
    if others:
        log_prob = log_prob.sum(others)
    if log_prob.dim() > 2 or log_prob.shape[-1] not in (1, shape[1]):
        raise InputError(
            f"site {site['name']!r} has log-densities of shape {tuple(log_prob.shape)}, expected {shape} (particles, "
            f"data points): the plate {DATA_PLATE!r} must be as long as the batch"
        )
    return log_prob.expand(shape)


def _is_point_mass(fn: Any) -> bool:
    while hasattr(fn, "base_dist") and not isinstance(fn, Delta):
        fn = fn.base_dist
    return isinstance(fn, Delta)
