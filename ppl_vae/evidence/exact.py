"""log p(x) without sampling: in closed form, by counting, or on a grid."""

import itertools
import math
from typing import Any

import torch
from torch import Tensor

from ppl_vae.errors import InputError
from ppl_vae.evidence.coordinates import Coordinates
from ppl_vae.pairs.latents import largest_bytes, log_joint, nesting_of, run
from ppl_vae.pairs.log_weights import CHUNK_BYTES
from ppl_vae.pairs.mistakes import require_sound
from ppl_vae.pairs.modules import Program
from ppl_vae.pairs.restore import evaluating, random_state_kept
from ppl_vae.pairs.traces import batch_size, random_sites, rows

MOST_STATES = 2**16


def exact(model: Program, *batch: Any) -> Tensor | None:
    """log p(x) in nats, float64 of shape (batch,), where it is known: None where it is not.

    By the model's own ``log_evidence(*batch)`` where it has one, else by a sum over all states of its latents where
    these are discrete and have at most 65536.
    """
    require_sound(model, None, *batch)
    with evaluating(model), random_state_kept():
        if hasattr(model, "log_evidence"):
            return model.log_evidence(*batch).double()
        states = _states(model, batch)
        return None if states is None else _counted(model, batch, states)


def quadrature(model: Program, *batch: Any, nodes: int = 401) -> Tensor:
    """log p(x) by the trapezoidal rule, for models of one or two continuous latents: an oracle for the others.

    A first grid over the prior's range finds where each data point's integrand is; the second one covers that alone.

    Args:
        model: any Pyro program whose latents live in the plate "data".
        batch: its arguments.
        nodes: of the grid, for each latent.

    Returns:
        Nats, float64 of shape (batch,).

    Raises:
        InputError: for a discrete latent, more than two, or what :func:`ppl_vae.check` finds wrong with data or model.
    """
    require_sound(model, None, *batch)
    with evaluating(model), random_state_kept():
        coordinates = Coordinates(model, batch)
        if coordinates.dim > 2:
            raise InputError(
                f"quadrature is for one or two latents, the model has {coordinates.dim}: take annealed(model, x)"
            )
        size = batch_size(batch)
        drawn = coordinates.from_prior(model, batch, 1000).flatten(0, 1)
        middle, reach = drawn.mean(0), 8 * drawn.std(0)
        low, high = (middle - reach).expand(size, -1), (middle + reach).expand(size, -1)
        for _ in range(2):
            values, grid = _on_grid(model, batch, coordinates, low, high, nodes)
            inside = (values > values.amax(0) - 40)[..., None]
            spacing = (high - low) / (nodes - 1)
            low = torch.where(inside, grid, torch.inf).amin(0) - spacing
            high = torch.where(inside, grid, -torch.inf).amax(0) + spacing
        values, grid = _on_grid(model, batch, coordinates, low, high, nodes)
        return values.double().logsumexp(0) + ((high - low) / (nodes - 1)).double().log().sum(-1)


def _on_grid(
    model: Program, batch: tuple[Any, ...], coordinates: Coordinates, low: Tensor, high: Tensor, nodes: int
) -> tuple[Tensor, Tensor]:
    """log p(x, u) on a grid between the corners of each data point, (nodes^dim, batch), and the grid itself."""
    ticks = [torch.linspace(0, 1, nodes, dtype=low.dtype, device=low.device)] * coordinates.dim
    unit = torch.stack(torch.meshgrid(*ticks, indexing="ij"), -1).flatten(0, -2)[:, None]
    grid = low + unit * (high - low)
    found = []
    at_once = _at_once(model, batch)
    for part in grid.split(at_once):
        values, log_det = coordinates.values(part)
        prior, likelihood = log_joint(model, batch, values, len(part), coordinates.nesting)
        found.append(prior + likelihood + log_det)
    return torch.cat(found), grid


def _at_once(model: Program, batch: tuple[Any, ...]) -> int:
    return max(2, CHUNK_BYTES // (largest_bytes(model, batch) * batch_size(batch)))


def _states(model: Program, batch: tuple[Any, ...]) -> dict[str, Tensor] | None:
    """Every combination of the latents' values, shape (states, 1, event) each; None where there are too many."""
    nesting = nesting_of(model, batch)
    if nesting > 1:
        return None
    sites = [site for site in random_sites(run(model, batch, 2, nesting)) if not site["is_observed"]]
    each = []
    for site in sites:
        values = states_of(site["fn"])
        if values is None:
            return None
        each.append(values)
    if not each or math.prod(len(values) for values in each) > MOST_STATES:
        return None
    picks = torch.cartesian_prod(*(torch.arange(len(values)) for values in each)).reshape(-1, len(each))
    return {site["name"]: values[pick].unsqueeze(1) for site, values, pick in zip(sites, each, picks.T, strict=True)}


def states_of(fn: Any) -> Tensor | None:
    """Every value that one event of a discrete distribution can take, shape (states, event); None for too many."""
    base = fn
    while hasattr(base, "base_dist") and not base.has_enumerate_support:
        base = base.base_dist
    while type(base).__name__ == "Independent":
        base = base.base_dist
    if not base.has_enumerate_support:
        return None
    choices = base.enumerate_support(expand=False)
    choices = choices.reshape(len(choices), *base.event_shape)
    cells = math.prod(fn.event_shape) // math.prod(base.event_shape)
    if len(choices) ** cells > MOST_STATES:
        return None
    combined = torch.stack([choices[list(pick)] for pick in itertools.product(range(len(choices)), repeat=cells)])
    return combined.reshape(-1, *fn.event_shape)


def _counted(model: Program, batch: tuple[Any, ...], states: dict[str, Tensor]) -> Tensor:
    size = batch_size(batch)
    count = len(next(iter(states.values())))
    pairs = CHUNK_BYTES // largest_bytes(model, batch)
    points = max(1, min(size, pairs // count))
    at_once = max(2, min(count, pairs // points))
    found = []
    for first in range(0, size, points):
        part = rows(batch, size, first, first + points)
        length = batch_size(part)
        joint = []
        for start in range(0, count, at_once):
            values = {name: value[start : start + at_once] for name, value in states.items()}
            values = {name: value.expand(-1, length, *value.shape[2:]) for name, value in values.items()}
            here = len(next(iter(values.values())))
            prior, likelihood = log_joint(model, part, values, here, 1)
            joint.append(prior + likelihood)
        found.append(torch.cat(joint).double().logsumexp(0))
    return torch.cat(found)
