"""Running a program under Pyro's trace: the only place of this project where programs are traced.

The particles are a plate to the left of the program's own plates.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import pyro
import torch
from pyro import poutine
from pyro.distributions import Delta
from pyro.poutine import Trace
from pyro.poutine.util import site_is_subsample
from torch import Tensor

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
    """Runs a program once and returns its trace.

    Of the sites of subsampling it keeps those that choose some elements of their plate, for the model to choose the
    same ones as the guide; :func:`random_sites` leaves them out.

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
    traced = poutine.trace(program).get_trace(*batch)
    for name, site in list(traced.nodes.items()):
        if site_is_subsample(site) and len(site["value"]) == site["fn"].size:
            traced.remove_node(name)
    return traced


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
        if site["type"] == "sample" and not site["infer"].get("_deterministic", False) and not site_is_subsample(site)
    ]


def deterministic_sites(trace: Trace) -> list[Site]:
    """Lists the sites of ``pyro.deterministic``, which name what is computed of others."""
    return [site for site in trace.nodes.values() if site["type"] == "sample" and site["infer"].get("_deterministic")]


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
    """Says how many dimensions of the programs' own lie below the particles: those of their plates, at least 1.

    A site outside of all plates may have a batch shape too, a vector that is summed as a whole.
    """
    sites = [site for trace in traces for site in random_sites(trace)]
    particles = {frame.dim for site in sites for frame in site["cond_indep_stack"] if frame.name == PARTICLE_PLATE}
    if particles:
        return -1 - int(particles.pop())
    plates = (-frame.dim for site in sites for frame in site["cond_indep_stack"] if frame.vectorized)
    return max((1, *plates, *(len(site["fn"].batch_shape) for site in sites)))


def bounds_evidence(guide_trace: Trace, again: Callable[[], Trace]) -> bool:
    """Says whether E[log w] is a lower bound on log p(x): not where a latent is a point mass, without a density.

    An autoguide's point masses are images of auxiliary sites, which have one, and move with their draws; other
    auxiliary sites have no partner in the model.

    Args:
        guide_trace: a run of the guide.
        again: makes another one, on other random numbers; asked only where the first leaves it open.
    """
    sites = random_sites(guide_trace)
    auxiliary = any(is_auxiliary(site) for site in sites)
    masses = [site for site in sites if _is_point_mass(site["fn"])]
    if not auxiliary or not masses:
        return auxiliary == bool(masses)
    other = again()
    return not any(_same(site["value"], other.nodes[site["name"]]) for site in masses)


def is_auxiliary(site: Site) -> bool:
    """Says whether a guide's site is one that the model lacks, which an autoguide makes its latents of."""
    return bool(site["infer"].get("is_auxiliary", False))


def _same(value: Tensor, site: Site) -> bool:
    return bool((value == site["value"]).all())


def has_weights(*traces: Trace) -> bool:
    """Says whether a site is weighted by ``poutine.scale``, a KL weight say, beyond what its plates subsample."""
    for site in (site for trace in traces for site in random_sites(trace)):
        scale = site["scale"]
        for frame in site["cond_indep_stack"]:
            scale = scale * (frame.size / (frame.full_size or frame.size))
        if not bool(((torch.as_tensor(scale, dtype=torch.float64) - 1).abs() < 1e-6).all()):
            return True
    return False


def _is_point_mass(fn: Any) -> bool:
    while hasattr(fn, "base_dist") and not isinstance(fn, Delta):
        fn = fn.base_dist
    return isinstance(fn, Delta)
