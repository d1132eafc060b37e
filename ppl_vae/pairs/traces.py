"""Running a program under Pyro's trace: the only place of this project where programs are traced.

The particles are a plate to the left of the program's own plates.
"""

from contextlib import AbstractContextManager
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

DATA_PLATE = "data"
PARTICLE_PLATE = "ppl_vae_particles"
Site = dict[str, Any]


def trace(
    program: Program,
    batch: tuple[Any, ...],
    particles: int | None = None,
    nesting: int = 1,
    given: Trace | dict[str, Tensor] | None = None,
) -> Trace:
    """Runs a program once and returns its trace, without the sites of subsampling.

    Args:
        program: a model or a guide, its parameters wherever Pyro now keeps them.
        batch: its arguments.
        particles: the length of a plate around the program; no plate where None.
        nesting: how many plates of the program's own lie below that one.
        given: latents that take these values, by name or from another trace; the others are drawn.
    """
    if particles is not None:
        program = pyro.plate(PARTICLE_PLATE, particles, dim=-1 - nesting)(program)
    if given is not None:
        program = poutine.replay(program, trace=_as_trace(given) if isinstance(given, dict) else given)
    return prune_subsample_sites(poutine.trace(program).get_trace(*batch))


def _as_trace(values: dict[str, Tensor]) -> Trace:
    held = Trace()
    for name, value in values.items():
        held.add_node(name, name=name, type="sample", value=value, is_observed=False, infer={})
    return held


def trace_guide(guide: Program, batch: tuple[Any, ...], particles: int, nesting: int) -> Trace:
    """Runs the guide once; particles are in a plate where there are several."""
    return trace(guide, batch, particles if nesting and particles > 1 else None, nesting)


def trace_model(model: Program, guide_trace: Trace, batch: tuple[Any, ...], particles: int, nesting: int) -> Trace:
    """Runs the model once on the guide's draws; InputError where the two are no pair."""
    model_trace = trace(model, batch, particles if nesting and particles > 1 else None, nesting, guide_trace)
    require_a_pair(random_sites(guide_trace), random_sites(model_trace))
    return model_trace


def prior_of(model: Program) -> Program:
    """Returns the program that draws the model's latents from its prior: the guide of a model measured by itself."""
    return poutine.block(model, hide_fn=lambda site: site["type"] == "sample" and site["is_observed"])


def parameters_recorded() -> AbstractContextManager[Any]:
    """Notes the parameter sites of all programs that run meanwhile; its ``trace`` holds them."""
    return poutine.trace(param_only=True)


def random_sites(trace: Trace) -> list[Site]:
    """Lists the random sites of a trace; ``pyro.deterministic`` has no density."""
    return [
        site
        for site in trace.nodes.values()
        if site["type"] == "sample" and not site["infer"].get("_deterministic", False)
    ]


def latent_sites(trace: Trace) -> list[Site]:
    """Lists the sites of a trace that are drawn."""
    return [site for site in random_sites(trace) if not site["is_observed"]]


def latent_values(trace: Trace) -> dict[str, Tensor]:
    """Returns the values of the latents of a trace by name."""
    return {site["name"]: site["value"] for site in latent_sites(trace)}


def parameter_sites(trace: Trace) -> dict[str, Tensor]:
    """Returns the leaves behind a trace's parameter sites by name; those of ``pyro.param`` are unconstrained."""
    values = {name: site["value"] for name, site in trace.nodes.items() if site["type"] == "param"}
    return {name: leaf.unconstrained() if hasattr(leaf, "unconstrained") else leaf for name, leaf in values.items()}


def plates_below(*traces: Trace) -> int:
    """Says how many plates of the programs' own lie below the particles."""
    sites = [site for trace in traces for site in random_sites(trace)]
    return max((-frame.dim for site in sites for frame in site["cond_indep_stack"] if frame.vectorized), default=1)


def bounds_evidence(guide_trace: Trace) -> bool:
    """Says whether E[log w] is a lower bound on log p(x): not where a latent is a point mass, without a density.

    An autoguide's point masses are images of auxiliary sites, which have one; other auxiliary sites have no partner in
    the model.
    """
    sites = random_sites(guide_trace)
    auxiliary = any(site["infer"].get("is_auxiliary", False) for site in sites)
    return auxiliary == any(_is_point_mass(site["fn"]) for site in sites)


def has_weights(*traces: Trace) -> bool:
    """Says whether a site is weighted by ``poutine.scale``, a KL weight say, beyond what its plates subsample."""
    for site in (site for trace in traces for site in random_sites(trace)):
        scale = site["scale"]
        for frame in site["cond_indep_stack"]:
            scale = scale * (frame.size / (frame.full_size or frame.size))
        if not bool(((torch.as_tensor(scale, dtype=torch.float64) - 1).abs() < 1e-6).all()):
            return True
    return False


def data_dimension(site: Site) -> int:
    """Returns the dimension of a site's plate "data", counted from the right; InputError where it lies outside."""
    for frame in site["cond_indep_stack"]:
        if frame.vectorized and frame.name == DATA_PLATE:
            return frame.dim
    raise InputError(
        f"site {site['name']!r} lies outside the plate {DATA_PLATE!r}, so it has no log-weight per data point: what "
        f'each data point has of its own belongs inside `with pyro.plate("{DATA_PLATE}", len(x)):`; what all the data '
        "share is trained by fit, but not measured per data point"
    )


def split_density(model_trace: Trace, nesting: int, zeros: Tensor) -> tuple[Tensor, Tensor]:
    """Returns log p(z) and log p(x | z) of a trace, each of the shape of zeros.

    A guide's auxiliary sites in the model count as latents.
    """
    sites = random_sites(model_trace)
    latent = sum_density([site for site in sites if not site["is_observed"]], nesting, zeros)
    return latent, sum_density([site for site in sites if site["is_observed"]], nesting, zeros)


def sum_density(sites: list[Site], nesting: int, zeros: Tensor) -> Tensor:
    """Sums the log-density of some sites of a trace by particle and data point, to the shape of zeros.

    Each site's is summed over every dimension but the particles' and that of the plate "data".
    """
    shape = (zeros.shape[0], zeros.shape[1])
    return sum((_per_point(site, nesting, shape) for site in sites), zeros)


def _per_point(site: Site, nesting: int, shape: tuple[int, int]) -> Tensor:
    """Returns a site's log-density, every dimension but the particles' and the data's summed out."""
    data_dim = data_dimension(site)
    length = next(frame.size for frame in site["cond_indep_stack"] if frame.vectorized and frame.name == DATA_PLATE)
    log_prob = log_density(site["fn"], site["value"], *site["args"], **site["kwargs"])
    log_prob = scale_and_mask(log_prob, 1.0, site["mask"])
    others = [dim for dim in range(-log_prob.dim(), 0) if dim not in (data_dim, -1 - nesting)]
    if others:
        log_prob = log_prob.sum(others)
    if length != shape[1] or log_prob.dim() > 2 or log_prob.shape[-1] not in (1, shape[1]):
        raise InputError(
            f"site {site['name']!r} has log-densities of shape {tuple(log_prob.shape)}, expected {shape} (particles, "
            f"data points): the plate {DATA_PLATE!r} must be as long as the batch"
        )
    return log_prob.expand(shape)


def _is_point_mass(fn: Any) -> bool:
    while hasattr(fn, "base_dist") and not isinstance(fn, Delta):
        fn = fn.base_dist
    return isinstance(fn, Delta)
