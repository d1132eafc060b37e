"""The one quantity: log w = log p(x, z) - log q(z | x) with z drawn from q, per particle and data point, in nats.

Pyro's own helpers sum it over the data; here the data axis is kept (see :mod:`ppl_vae.pairs.traces`).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pyro
import torch
from pyro.infer.util import is_validation_enabled
from pyro.poutine import Trace
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from ppl_vae.errors import InputError
from ppl_vae.graphs.tracing import agree, replay, traced
from ppl_vae.pairs.checks import explained
from ppl_vae.pairs.held import Held
from ppl_vae.pairs.mistakes import require_sound, seen
from ppl_vae.pairs.modules import Program, follows_rows, modules_of
from ppl_vae.pairs.restore import random_state_kept, unvalidated
from ppl_vae.pairs.traces import (
    batch_size,
    bounds_evidence,
    data_dimension,
    plates_below,
    random_sites,
    rows,
    split_density,
    sum_density,
    traces,
)
from ppl_vae.pairs.watching import watched

_MANY = 8
_MANY_CHUNKS = 300  # of one shape earn the tracing back
CHUNK_BYTES = 2**22  # for the largest tensor of a chunk: a few at once stay near the cache, and malloc reuses them


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
        InputError: where a site lies outside the plate "data", where model and guide are no pair (latents that differ
            in name, kind, shape or support; a guide that observes), or where the data have NaN or are outside the
            likelihood's support: the words are those of :func:`ppl_vae.check`.
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
    points = min(size, max(1, pairs // particles)) if follows_rows(guide) else size
    at_once = min(particles, pairs) if vectorize else 1
    checked = particles >= _MANY and is_validation_enabled()
    if checked:  # every data point once, not for every particle: it takes a pass over each tensor
        require_sound(model, guide, *batch)
    run = _Weigher(model, guide, probed.nesting, -(-size // points) * -(-particles // at_once))
    for start in range(0, size, points):
        part = rows(batch, size, start, start + points)
        with pyro.validation_enabled(is_validation_enabled() and not checked), explained(model, guide, *part):
            draws = [run(part, min(at_once, particles - done)) for done in range(0, particles, at_once)]
        weights = draws[0] if len(draws) == 1 else torch.cat(draws)
        if not weights.isfinite().all():
            require_sound(model, guide, *part)
        yield weights


class _Weigher:
    """:func:`weigh`, from a graph where there are many chunks of one shape; by the programs where that fails."""

    def __init__(self, model: Program, guide: Program, nesting: int, expected: int) -> None:
        self._pair, self._nesting = (model, guide), nesting
        self._wanted = expected >= _MANY_CHUNKS and not torch.is_grad_enabled()
        self._graphs: dict[Any, Callable[..., Any] | None] = {}
        self._held: Held | None = None

    def __call__(self, batch: tuple[Any, ...], particles: int) -> Tensor:
        """Log-weights of shape (particles, batch)."""
        if not self._wanted or not all(isinstance(part, Tensor) for part in batch):
            return weigh(*self._pair, batch, particles, self._nesting)
        key = (particles, *((part.shape, part.dtype) for part in batch))
        if key not in self._graphs:
            self._graphs[key] = self._graph(batch, particles)
        run = self._graphs[key]
        if run is None or (self._held is not None and self._held.drifted()):
            return weigh(*self._pair, batch, particles, self._nesting)
        return run(*batch)

    def _graph(self, batch: tuple[Any, ...], particles: int) -> Callable[..., Any] | None:
        """None where the pair can't be traced, or its trace gives other weights with the same random numbers."""

        def run(*batch: Tensor) -> Tensor:
            return weigh(*self._pair, batch, particles, self._nesting)

        moving = [tensor for module in modules_of(*self._pair) for tensor in (*module.parameters(), *module.buffers())]
        try:
            with random_state_kept():
                expected, reason, held = watched(lambda: run(*batch), self._pair)
            if reason:
                return None
            with random_state_kept(), unvalidated():
                found = replay(traced(run, batch, moving))
            self._held = self._held or held
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
    """Runs the pair on a few data points, random numbers and gradients left as they were.

    Raises InputError, in the words of :func:`ppl_vae.check`, where the two are no pair or the data don't fit them.
    """
    size = batch_size(batch)
    points = min(size, 4) if follows_rows(guide) else size
    with random_state_kept(), torch.no_grad(), explained(model, guide, *batch):
        part = rows(batch, size, 0, points)
        guide_trace, model_trace = traces(model, guide, part, 1, 0)
        for line in seen(guide_trace, model_trace):
            raise InputError(line)
        for site in (*random_sites(model_trace), *random_sites(guide_trace)):
            data_dimension(site)
        nesting = plates_below([guide_trace, model_trace])
        largest = LargestOutput()
        with largest:
            weigh(model, guide, part, 2, nesting)
    return Probe(nesting, max(1, largest.bytes // (2 * points)), bounds_evidence(guide_trace))


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


class LargestOutput(TorchDispatchMode):
    """Notes the largest tensor that an operation makes."""

    bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, tuple | list) else (result,):
            if isinstance(tensor, Tensor) and not func.is_view:
                self.bytes = max(self.bytes, tensor.numel() * tensor.element_size())
        return result
