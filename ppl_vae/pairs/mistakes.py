"""What is wrong with a pair, as far as plain runs of it show: in the data, in its shapes, in its densities."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pyro
import torch
from pyro.distributions.util import scale_and_mask
from pyro.poutine import Trace
from torch import Tensor

from ppl_vae.errors import InputError, first_line
from ppl_vae.pairs.arguments import Batch, batch_size, device_of, rows
from ppl_vae.pairs.modules import Program, follows_rows, modules_of
from ppl_vae.pairs.pairing import mismatches, strays, support_of
from ppl_vae.pairs.restore import (
    evaluating,
    is_finite,
    local_parameters,
    random_state_kept,
    store_kept,
    undone_on_error,
)
from ppl_vae.pairs.traces import prior_of, random_sites, trace

_ROWS = 1024  # of a run over all the data


@contextmanager
def alone() -> Iterator[None]:
    """Keeps random numbers and the parameter store as they are, and distributions from complaining."""
    with random_state_kept(), store_kept(), pyro.validation_enabled(False):
        yield


def require_sound(model: Program, guide: Program | None, batch: Batch, *, cut: bool | None = None) -> None:
    """Raises InputError with the first mistake that one draw for each data point shows, in the words of ``check``.

    Args:
        model: a Pyro program.
        guide: its guide; None where the model is measured by itself.
        batch: the arguments of both.
        cut: whether they can be run on a part of it, None where it is not known.
    """
    with evaluating(model, guide):
        for line in everywhere(model, guide, batch, cut=cut):
            raise InputError(line)


def everywhere(
    model: Program, guide: Program | None, batch: tuple[Any, ...], *, cut: bool | None = None
) -> Iterator[str]:
    """Lists what is wrong in the first rows where anything is, by one draw for each data point.

    Where it is not known whether the programs can be run on a part of the rows, all are run where one fails.
    """
    size, device = batch_size(batch), device_of(batch, model, guide)
    yield from numbers(batch)
    at_once = _ROWS if cut is not False and follows_rows(guide) else size
    starts = list(range(0, size, at_once))
    while starts:
        start = starts.pop(0)
        try:
            with alone(), torch.no_grad(), undone_on_error(modules_of(model, guide)):
                sentences = list(seen(*run(model, guide, rows(batch, size, start, start + at_once, device))))
        except Exception as error:
            if cut is None and at_once < size:
                at_once, starts = size, [0]
                continue
            sentences = [told(error)]
        yield from sentences
        if sentences:
            return


def run(
    model: Program, guide: Program | None, batch: Batch, particles: int | None = None, nesting: int = 1
) -> tuple[Trace, Trace]:
    """Runs both programs and returns their traces; the model's own prior stands in for a guide that is None."""
    with local_parameters(model, *(() if guide is None else (guide,))):
        guide_trace = trace(guide if guide is not None else prior_of(model), batch, particles, nesting)
        return guide_trace, trace(model, batch, particles, nesting, guide_trace)


def seen(guide_trace: Trace, model_trace: Trace) -> Iterator[str]:
    """Lists what the traces of a pair show: latents that don't match, then values and densities that are not finite."""
    sites = random_sites(guide_trace), random_sites(model_trace)
    lines = list(mismatches(*sites, summed_out=True)) or list(strays(*sites))
    yield from lines or _values(guide_trace, model_trace)


def numbers(batch: tuple[Any, ...]) -> Iterator[str]:
    """Gives one sentence for each argument with NaN or infinity in it."""
    for position, tensor in enumerate(batch):
        if isinstance(tensor, Tensor) and tensor.dim():
            yield from not_finite(f"argument {position}", tensor)


def not_finite(name: str, tensor: Tensor) -> Iterator[str]:
    """Gives a sentence where a tensor, one row a data point, has NaN or infinity; looks at a few rows at once.

    The rows are counted only where there is one to be told: that takes many times as long as to look for any.
    """
    if not tensor.is_floating_point():
        return
    parts = [tensor] if tensor.is_contiguous() else tensor.split(_ROWS)  # is_finite copies what is not contiguous
    if all(map(is_finite, parts)):
        return
    bad = torch.cat([~some.isfinite().all(1) for some in tensor.reshape(len(tensor), -1).split(_ROWS)])
    if bad.any():
        yield (
            f"{name} has NaN or infinity in {int(bad.sum())} of {len(tensor)} rows, first in row "
            f"{int(bad.nonzero()[0])}: drop or fill these rows"
        )


def _values(guide_trace: Trace, model_trace: Trace) -> Iterator[str]:
    for kind, own_trace in (("guide", guide_trace), ("model", model_trace)):
        for site in random_sites(own_trace):
            value = site["value"]
            if site["mask"] is None and not value.isfinite().all():
                yield f"the {kind}'s site {site['name']!r} has NaN or infinity in its value: look at what it is made of"
            elif outside := [*outside_support(site)]:
                yield from outside
            elif not scale_and_mask(site["fn"].log_prob(value), 1.0, site["mask"]).isfinite().all():
                where = ", or data at the edge of the likelihood's support" if site["is_observed"] else ""
                yield (
                    f"the {kind}'s log-density at {site['name']!r} is NaN or infinite: look for a scale near 0, "
                    "below 0 (pyro.param takes constraint=constraints.positive) or NaN in the parameters"
                    f"{where}"
                )


def outside_support(site: dict[str, Any]) -> Iterator[str]:
    """Gives a sentence where the data at an observed site are no values of its likelihood."""
    value, support = site["value"], support_of(site["fn"]) if site["is_observed"] else None
    if support is not None and not bool((support.check(value) | _masked(site)).all()):
        yield (
            f"the support of the likelihood at {site['name']!r}, {support}, does not hold the data, "
            f"which go from {float(value.min()):g} to {float(value.max()):g}: transform them "
            "(torch.bernoulli binarizes), or take another likelihood"
        )


def _masked(site: dict[str, Any]) -> Any:
    """Returns what of a site counts for nothing."""
    mask = site["mask"]
    return False if mask is None else not mask if isinstance(mask, bool) else ~mask


def told(error: Exception, where: str = "") -> str:
    """Turns an error into one sentence: a shape error of Pyro's or torch's becomes how to mend it."""
    text = first_line(error)
    if isinstance(error, InputError):
        return f"the pair fails{where}: {text}" if where else text
    shape = re.search(r"Shape mismatch inside plate\('?(\w+)'?\) at site (\w+) dim (-?\d+), (\d+) vs (\d+)", text)
    if shape:
        plate, site, _, plate_size, size = shape.groups()
        return (
            f"site {site!r}: its batch shape does not fit the plate {plate!r} ({plate_size} against {size}): if the "
            f"last dimension is one data point's own, move it into the event by .to_event(1); else make the plate as "
            "long as the batch, len(x)"
        )
    widths = re.search(r"mat1 and mat2 shapes cannot be multiplied \(\d+x(\d+) and (\d+)x\d+\)", text)
    if widths:
        return (
            f"a network is given {widths[1]} numbers a data point and takes {widths[2]}{where}: make its first layer "
            "as wide as what it gets (observed_dim that of the data, latent_dim the same in model and guide)"
        )
    types = re.search(r"must have the same dtype, but got (\w+) and (\w+)", text)
    if types:
        return f"numbers of type {types[1]} meet a network of type {types[2]}{where}: convert the data, by .float() say"
    types = re.search(r"result type (\w+) can't be cast to the desired output type (\w+)", text)
    if types:
        return f"numbers of type {types[2]} meet some of type {types[1]}{where}: convert the data, by .float() say"
    return f"the pair fails{where} with {type(error).__name__}: {text}"
