"""log p(x) without sampling: in closed form, or by counting the states of discrete latents."""

import itertools
import math
from typing import Any

import torch
import xarray as xr
from torch import Tensor

from ppl_vae.evidence.path import dataset_of
from ppl_vae.pairs.arguments import Batch, Data, batch_size
from ppl_vae.pairs.entrance import runs_a_pair
from ppl_vae.pairs.modules import Program
from ppl_vae.pairs.pair import CHUNK_BYTES, Pair
from ppl_vae.pairs.progress import stage

MOST_STATES = 2**16
_FEW_STATES = 16  # of a data point, for the size of a part; more are run one after the other


@runs_a_pair
def exact_evidence(model: Program, data: Data, *, plate: str | None = None, progress: bool = True) -> xr.Dataset | None:
    """Returns log p(x) where it can be known without sampling, and None where it can't.

    By the model's own ``log_evidence(*batch)`` where it has one, else by a sum over all states of its latents where
    these are discrete and have at most 65536.

    Args:
        model: any Pyro program.
        data: a tensor, a tuple of tensors (one row a data point) or a DataLoader: its arguments.
        plate: the name of the plate that holds the data, where the programs leave it open.
        progress: a progress bar on standard error.

    Returns:
        A dataset with ``log_evidence`` (data) in nats, float64, or None.

    Raises:
        InputError: for what :func:`ppl_vae.check` finds wrong with data or model.

    Examples:
        >>> import torch
        >>> from ppl_vae.evidence import exact_evidence
        >>> from ppl_vae.models import LinearGaussian
        >>> exact_evidence(LinearGaussian(3, 2), torch.randn(5, 3)).sizes["data"]
        5
    """
    pair = Pair(model, None, data, plate=plate)
    with pair.measuring():
        return exact_pair(pair, progress)


def exact_pair(pair: Pair, progress: bool = True) -> xr.Dataset | None:
    """Does for a pair what :func:`exact_evidence` does; call it inside ``pair.measuring``."""
    pair.require_sound()
    if hasattr(pair.model, "log_evidence"):
        return dataset_of({"log_evidence": pair.model.log_evidence(*pair.rows(0, pair.size)).reshape(pair.units)})
    if any(states_of(site["fn"]) is None for site in pair.sites if not site["is_observed"]):
        return None  # as the probe has shown; what the states are may differ from data point to data point
    parts = []
    with stage("states of the latents", pair.size, progress, shorten="data points") as advance:
        for part in pair.parts(_FEW_STATES):
            states = _states(pair, part)
            if states is None:
                return None
            parts.append(_counted(pair, part, states))
            advance(batch_size(part))  # of the data, also where all share a latent
    return dataset_of({"log_evidence": torch.cat(parts)})


def _states(pair: Pair, part: Batch) -> dict[str, Tensor] | None:
    """Lists every combination of the latents' values; None where there are too many.

    Each has shape (states, 1, event), or (states, batch, event) where all the data share a latent.
    """
    if pair.unit.whole:
        choices = {site["name"]: _states_of_all(site["fn"]) for site in pair.latents(part)}
    elif pair.nesting > 1:
        return None
    else:
        choices = {site["name"]: states_of(site["fn"]) for site in pair.latents(part)}
    each = [values for values in choices.values() if values is not None]
    if not each or len(each) < len(choices) or math.prod(len(values) for values in each) > MOST_STATES:
        return None
    picks = torch.cartesian_prod(*(torch.arange(len(values)) for values in each)).reshape(-1, len(each))
    pairs = zip(choices, each, picks.T, strict=True)
    states = {name: values[pick.to(values.device)] for name, values, pick in pairs}
    return states if pair.unit.whole else {name: values.unsqueeze(1) for name, values in states.items()}


def _states_of_all(fn: Any) -> Tensor | None:
    """Lists every value of a whole site, shape (states, batch, event); None where there are too many."""
    each = states_of(fn)
    cells = math.prod(fn.batch_shape)
    if each is None or cells * math.log(len(each)) > math.log(MOST_STATES):
        return None
    picks = torch.cartesian_prod(*[torch.arange(len(each))] * cells).reshape(-1, cells)
    return each[picks.to(each.device)].reshape(-1, *fn.batch_shape, *fn.event_shape)


def states_of(fn: Any) -> Tensor | None:
    """Lists every value that one event of a discrete distribution can take.

    Its shape is (states, event); it is None where there are too many.
    """
    base = fn
    while hasattr(base, "base_dist") and not base.has_enumerate_support:
        base = base.base_dist
    while type(base).__name__ == "Independent":
        base = base.base_dist
    if not base.has_enumerate_support:
        return None
    try:
        choices = base.enumerate_support(expand=False)
    except NotImplementedError:  # binomials of different totals
        return None
    choices = choices.reshape(len(choices), *base.event_shape)
    cells = math.prod(fn.event_shape) // math.prod(base.event_shape)
    if len(choices) ** cells > MOST_STATES:
        return None
    combined = torch.stack([choices[list(pick)] for pick in itertools.product(range(len(choices)), repeat=cells)])
    return combined.reshape(-1, *fn.event_shape)


def _counted(pair: Pair, part: Batch, states: dict[str, Tensor]) -> Tensor:
    """Sums over the states of some data points' latents, as many at once as memory allows."""
    count, length = len(next(iter(states.values()))), batch_size(part)
    at_once = max(2, min(count, CHUNK_BYTES // (pair.largest_bytes * length)))
    total = torch.full((), -math.inf, dtype=torch.float64, device=part[0].device)
    for start in range(0, count, at_once):
        values = {name: value[start : start + at_once] for name, value in states.items()}
        if not pair.unit.whole:
            values = {name: value.expand(-1, length, *value.shape[2:]) for name, value in values.items()}
        prior, likelihood = pair.log_joint(part, values, len(next(iter(values.values()))))
        total = torch.logaddexp(total, (prior + likelihood).double().logsumexp(0))
    return total
