"""The one quantity: log w = log p(x, z) - log q(z | x) with z drawn from q, per particle and data point, in nats.

Pyro's own helpers sum it over the data. Here the data axis is kept: the particles are a plate to the left of the
pair's own plates, and each site's log-density is summed over every dimension but that one and the plate "data".
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pyro
import torch
from pyro import poutine
from pyro.distributions import Delta
from pyro.distributions.util import scale_and_mask
from pyro.infer.autoguide import AutoGuide
from pyro.infer.util import is_validation_enabled
from pyro.nn import PyroModule
from pyro.poutine import Trace
from pyro.poutine.util import prune_subsample_sites
from pyro.util import check_model_guide_match
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from ppl_vae.densities import log_density
from ppl_vae.errors import InputError
from ppl_vae.graphs import agree, replay, traced

_MANY = 8
Program = Callable[..., Any]
DATA_PLATE = "data"
PARTICLE_PLATE = "ppl_vae_particles"
_MANY_CHUNKS = 300  # of one shape earn the tracing back
CHUNK_BYTES = 2**23  # for the largest tensor of a chunk: a few of them at once stay near the cache


def log_weights(
    model: Program,
    guide: Program,
    *batch: Any,
    particles: int = 1,
    vectorize: bool = True,
    chunk: int | None = None,
) -> Tensor:
    """Draws z from the guide and weighs it: log p(x, z) - log q(z | x), differentiable as Pyro's own traces are.

    The pair is run on one chunk of data points and particles after the other, so the memory stays bounded (without
    gradients) whatever the sizes. ``poutine.mask`` is honoured, ``poutine.scale`` is not: weights are densities.

    Args:
        model: any Pyro program whose local latents live in the plate "data".
        guide: its guide, called with the same arguments.
        batch: the arguments of both; tensors as long as the first one are cut into chunks, one row a data point.
        particles: draws of z for each data point.
        vectorize: all particles of a chunk in one plate; False runs the pair once per particle, for programs that
            do not broadcast.
        chunk: particles x data points to run at once; chosen from the pair's largest tensor where None.

    Returns:
        Weights in nats, shape (particles, batch).

    Raises:
        InputError: where a site lies outside the plate "data", or latents differ between model and guide.
    """
    chunks = log_weight_chunks(model, guide, *batch, particles=particles, vectorize=vectorize, chunk=chunk)
    return torch.cat(list(chunks), 1)


def log_weight_chunks(
    model: Program,
    guide: Program,
    *batch: Any,
    particles: int,
    vectorize: bool = True,
    chunk: int | None = None,
) -> Iterator[Tensor]:
    """:func:`log_weights`, a few data points at a time: yields shapes (particles, points) in the data's order."""
    if particles < 1:
        raise InputError(f"particles is {particles}; at least 1 is needed")
    size = batch_size(batch)
    probed = probe(model, guide, *batch)
    pairs = chunk or max(1, CHUNK_BYTES // probed.largest_bytes)
    points = min(size, max(1, pairs // particles))
    at_once = min(particles, pairs) if vectorize else 1
    checked = particles >= _MANY and is_validation_enabled()
    if checked:  # every data point once, not for every particle: it takes a pass over each tensor
        with random_state_kept(), torch.no_grad():
            for start in range(0, size, pairs):
                weigh(model, guide, rows(batch, size, start, start + pairs), 1, probed.nesting)
    run = _Weigher(model, guide, probed.nesting, -(-size // points) * -(-particles // at_once))
    for start in range(0, size, points):
        part = rows(batch, size, start, start + points)
        with pyro.validation_enabled(is_validation_enabled() and not checked):
            draws = [run(part, min(at_once, particles - done)) for done in range(0, particles, at_once)]
        yield draws[0] if len(draws) == 1 else torch.cat(draws)


class _Weigher:
    """:func:`weigh`, from a graph where there are many chunks of one shape; by the programs where that fails."""

    def __init__(self, model: Program, guide: Program, nesting: int, expected: int) -> None:
        self._pair, self._nesting = (model, guide), nesting
        self._wanted = expected >= _MANY_CHUNKS and not torch.is_grad_enabled()
        self._graphs: dict[Any, Callable[..., Any] | None] = {}

    def __call__(self, batch: tuple[Any, ...], particles: int) -> Tensor:
        """Log-weights of shape (particles, batch)."""
        if not self._wanted or not all(isinstance(part, Tensor) for part in batch):
            return weigh(*self._pair, batch, particles, self._nesting)
        key = (particles, *((part.shape, part.dtype) for part in batch))
        if key not in self._graphs:
            self._graphs[key] = self._graph(batch, particles)
        run = self._graphs[key]
        return run(*batch) if run is not None else weigh(*self._pair, batch, particles, self._nesting)

    def _graph(self, batch: tuple[Any, ...], particles: int) -> Callable[..., Any] | None:
        """None where the pair can't be traced, or its trace gives other weights with the same random numbers."""

        def run(*batch: Tensor) -> Tensor:
            return weigh(*self._pair, batch, particles, self._nesting)

        modules = [program for program in self._pair if isinstance(program, nn.Module)]
        moving = [tensor for module in modules for tensor in (*module.parameters(), *module.buffers())]
        try:
            with random_state_kept(), pyro.validation_enabled(False):
                found = replay(traced(run, batch, moving))
            with random_state_kept():
                expected = run(*batch)
            with random_state_kept():
                return found if agree([expected], [found(*batch)]) else None
        except Exception:  # whatever a program does that a graph can't
            return None


@dataclass(frozen=True)
class Probe:
    """What one small run of a pair tells.

    Attributes:
        nesting: how many plates of the pair's own lie below the particles.
        largest_bytes: the largest tensor that any operation makes, for one particle of one data point.
        is_bound: False where a latent of the guide is a point mass, so that log w bounds nothing.
    """

    nesting: int
    largest_bytes: int
    is_bound: bool


def probe(model: Program, guide: Program, *batch: Any) -> Probe:
    """Runs the pair on a few data points, random numbers and gradients left as they were."""
    size = batch_size(batch)
    points = min(size, 4)
    with random_state_kept(), torch.no_grad():
        part = rows(batch, size, 0, points)
        guide_trace, model_trace = traces(model, guide, part, 1, 0)
        nesting = plates_below([guide_trace, model_trace])
        largest = LargestOutput()
        with largest:
            weigh(model, guide, part, 2, nesting)
    return Probe(nesting, max(1, largest.bytes // (2 * points)), bounds_evidence(guide_trace))


def plates_below(found: Iterable[Trace]) -> int:
    """How many plates of the programs' own lie below the particles."""
    sites = [site for trace in found for site in random_sites(trace)]
    return max((-frame.dim for site in sites for frame in site["cond_indep_stack"] if frame.vectorized), default=1)


def bounds_evidence(guide_trace: Trace) -> bool:
    """Whether E[log w] is a lower bound on log p(x): not where a latent is a point mass, which has no density.

    An autoguide's point masses are images of auxiliary sites, which have one.
    """
    sites = random_sites(guide_trace)
    auxiliary = any(site["infer"].get("is_auxiliary", False) for site in sites)
    return auxiliary or not any(_is_point_mass(site["fn"]) for site in sites)


def weigh(model: Program, guide: Program, batch: tuple[Any, ...], particles: int, nesting: int) -> Tensor:
    """One vectorized run of the pair: log-weights of shape (particles, batch); see :func:`log_weights`."""
    latent, observed, proposed = terms(model, guide, batch, particles, nesting)
    return latent + observed - proposed


def terms(
    model: Program, guide: Program, batch: tuple[Any, ...], particles: int, nesting: int
) -> tuple[Tensor, Tensor, Tensor]:
    """The three terms of the log-weights of one run: log p(z), log p(x | z), log q(z | x), each (particles, batch)."""
    return terms_of(*traces(model, guide, batch, particles, nesting), batch, particles, nesting)


def terms_of(
    guide_trace: Trace, model_trace: Trace, batch: tuple[Any, ...], particles: int, nesting: int
) -> tuple[Tensor, Tensor, Tensor]:
    """:func:`terms` of a run that :func:`traces` made."""
    shape = (particles, batch_size(batch))
    zeros = batch[0].new_zeros(shape, dtype=torch.get_default_dtype())
    latent, observed = split_density(model_trace, nesting, zeros)
    proposed = sum_density(random_sites(guide_trace), nesting, zeros)
    return latent, observed, proposed


def split_density(model_trace: Trace, nesting: int, zeros: Tensor) -> tuple[Tensor, Tensor]:
    """log p(z), with a guide's auxiliary sites in the model, and log p(x | z) of a trace, shapes that of zeros."""
    sites = random_sites(model_trace)
    latent = sum_density([site for site in sites if not site["is_observed"]], nesting, zeros)
    return latent, sum_density([site for site in sites if site["is_observed"]], nesting, zeros)


def sum_density(sites: list[dict[str, Any]], nesting: int, zeros: Tensor) -> Tensor:
    """The log-density of some sites of a trace by particle and data point, shape that of zeros."""
    shape = (zeros.shape[0], zeros.shape[1])
    return sum((_per_point(site, nesting, shape) for site in sites), zeros)


def traces(model: Program, guide: Program, batch: tuple[Any, ...], particles: int, nesting: int) -> tuple[Trace, Trace]:
    """The guide's trace and the model's, replayed against it; particles in a plate where nesting is above 0.

    Raises InputError where their latents differ.
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
    """One run of the model on the guide's draws; InputError where their latents differ."""
    inner = model
    if nesting and particles > 1:
        inner = pyro.plate(PARTICLE_PLATE, particles, dim=-1 - nesting)(model)
    model_trace = poutine.trace(poutine.replay(inner, trace=guide_trace)).get_trace(*batch)
    if is_validation_enabled():
        check_model_guide_match(model_trace, guide_trace)
    model_trace = prune_subsample_sites(model_trace)
    _check_latents(guide_trace, model_trace)
    return model_trace


def random_sites(trace: Trace) -> list[dict[str, Any]]:
    """The random sites of a trace; ``pyro.deterministic`` has no density."""
    return [
        site
        for site in trace.nodes.values()
        if site["type"] == "sample" and not site["infer"].get("_deterministic", False)
    ]


def _per_point(site: dict[str, Any], nesting: int, shape: tuple[int, int]) -> Tensor:
    """A site's log-density, every dimension but the particles' and the data's summed out."""
    frames = [frame for frame in site["cond_indep_stack"] if frame.vectorized]
    data_dim = next((frame.dim for frame in frames if frame.name == DATA_PLATE), None)
    if data_dim is None:
        raise InputError(
            f"site {site['name']!r} lies outside the plate {DATA_PLATE!r}, so it has no log-weight per data point: "
            f'sample it inside `with pyro.plate("{DATA_PLATE}", len(x)):`'
        )
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


def _check_latents(guide_trace: Trace, model_trace: Trace) -> None:
    def latents(trace: Trace) -> set[str]:
        return {
            site["name"]
            for site in random_sites(trace)
            if not site["is_observed"] and not site["infer"].get("is_auxiliary", False)
        }

    ours, theirs = latents(guide_trace), latents(model_trace)
    if ours != theirs:
        raise InputError(
            f"the guide samples {sorted(ours)}, the model's latents are {sorted(theirs)}: both need the same sites"
        )


def _is_point_mass(fn: Any) -> bool:
    while hasattr(fn, "base_dist") and not isinstance(fn, Delta):
        fn = fn.base_dist
    return isinstance(fn, Delta)


def batch_size(batch: tuple[Any, ...]) -> int:
    """The number of data points in a pair's arguments; InputError where there is none."""
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


@contextmanager
def random_state_kept() -> Iterator[None]:
    """Puts the random numbers back where they were, on every device in use."""
    state = pyro.util.get_rng_state()
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
    try:
        with torch.random.fork_rng(devices=devices):
            yield
    finally:
        pyro.util.set_rng_state(state)


@contextmanager
def local_parameters(*programs: Program) -> Iterator[None]:
    """Each module keeps its own parameters, and frozen ones stay frozen, whatever the global store holds.

    Pyro keeps this state per module only if the setting was on when the module was made; it is added here. A pair of
    plain functions is left alone, their parameters live in the global store as in any SVI script; so is an autoguide of
    a function, which Pyro can't run with parameters of its own.
    """
    modules = [program for program in programs if isinstance(program, nn.Module)]
    for part in (part for module in modules for part in module.modules()):
        if isinstance(part, PyroModule) and not hasattr(part._pyro_context, "param_state"):
            part._pyro_context.param_state = {"params": {}, "constraints": {}}
    if any(isinstance(part, AutoGuide) and not isinstance(part.model, nn.Module) for part in modules):
        yield
    else:
        with pyro.settings.context(module_local_params=bool(modules) or pyro.settings.get("module_local_params")):
            yield


@contextmanager
def evaluating(*programs: Program | None) -> Iterator[None]:
    """Modules in eval mode and without gradients, each submodule as it was afterwards."""
    modules = [part for program in programs if isinstance(program, nn.Module) for part in program.modules()]
    modes = [part.training for part in modules]
    try:
        for part in modules:
            part.training = False
        with torch.no_grad():
            yield
    finally:
        for part, mode in zip(modules, modes, strict=True):
            part.training = mode


class LargestOutput(TorchDispatchMode):
    """Notes the largest tensor that an operation makes."""

    bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, tuple | list) else (result,):
            if isinstance(tensor, Tensor) and not func.is_view:
                self.bytes = max(self.bytes, tensor.numel() * tensor.element_size())
        return result
