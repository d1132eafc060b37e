"""What is usually wrong with a pair of one's own, found before it trains to nonsense."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pyro
import torch
from pyro import poutine
from pyro.infer import Trace_ELBO, TraceGraph_ELBO
from pyro.poutine import Trace
from pyro.poutine.util import prune_subsample_sites
from torch import Tensor, nn

from ppl_vae.contexts import (
    attributes_kept,
    evaluating,
    local_parameters,
    random_state_kept,
    store_kept,
    tensors_kept,
)
from ppl_vae.errors import InputError
from ppl_vae.modules import Program, modules_of, parameters_beside
from ppl_vae.traces import DATA_PLATE, PARTICLE_PLATE, batch_size, parameter_sites, random_sites, rows

NOTHING_REACHED = "no parameter reaches the ELBO: use them inside the programs, and detach nothing on the way"
_PARTICLES = 2


def check(model: Program, guide: Program, *batch: Any) -> list[str]:
    """Looks for the usual mistakes in a pair, on a few data points; nothing is trained or changed.

    Args:
        model: a Pyro program.
        guide: its guide.
        batch: the arguments of both, one row a data point; at least 3 rows, or some mistakes can't be told.

    Returns:
        One sentence for each mistake: what it is and how to mend it. An empty list means that none was found.
    """
    size, modules = batch_size(batch), modules_of(model, guide)
    buffers = [buffer for module in modules for buffer in module.buffers()]
    with attributes_kept(modules), tensors_kept(buffers):
        found = _mistakes(model, guide, batch)
        if not found:
            with _alone(model, guide):
                found += _gradients(model, guide, rows(batch, size, 0, min(size, 4)))
    return found


@contextmanager
def _alone(model: Program, guide: Program) -> Iterator[None]:
    with random_state_kept(), local_parameters(model, guide), pyro.validation_enabled(False):
        yield


def _mistakes(model: Program, guide: Program, batch: tuple[Any, ...]) -> list[str]:
    """Those that a run shows, without a look at gradients."""
    size = batch_size(batch)
    with evaluating(model, guide), _alone(model, guide):  # dropout would weigh otherwise each time
        found = list(_numbers(batch))
        if found:
            return found
        for count in {min(size, 3), min(size, 4)}:  # two sizes: one may equal the number of latents by chance
            try:
                guide_trace, model_trace = _run(model, guide, rows(batch, size, 0, count))
            except Exception as error:
                return [_explained(error, "")]
            found += [line for line in _structure(guide_trace, model_trace, count) if line not in found]
        if found:
            return found
        found += _values(guide_trace, model_trace)
        found += _particles(model, guide, rows(batch, size, 0, min(size, 4)))
    return found


@contextmanager
def explained(model: Program, guide: Program, *batch: Any) -> Iterator[None]:
    """The error of a pair that runs for the first time, as the sentence that :func:`check` has for it."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        try:
            found = _mistakes(model, guide, batch)
        except Exception:  # the first error says more
            found = []
        if not found:
            raise
        raise InputError(found[0]) from error


def require_a_pair(guide_trace: Trace, model_trace: Trace) -> None:
    """InputError where the two don't belong together; a latent that is enumerated may be the model's alone."""
    ours, theirs = prune_subsample_sites(guide_trace), prune_subsample_sites(model_trace)
    for name, site in list(theirs.nodes.items()):
        if site["type"] == "sample" and site["infer"].get("enumerate") and name not in ours:
            theirs.remove_node(name)
    for line in _latents(ours, theirs):
        raise InputError(line)


def _run(model: Program, guide: Program, batch: tuple[Any, ...], particles: int = 1) -> tuple[Trace, Trace]:
    inner_model, inner_guide = model, guide
    if particles > 1:
        plate = pyro.plate(PARTICLE_PLATE, particles, dim=-2)
        inner_model, inner_guide = plate(model), plate(guide)
    guide_trace = poutine.trace(inner_guide).get_trace(*batch)
    model_trace = poutine.trace(poutine.replay(inner_model, trace=guide_trace)).get_trace(*batch)
    return prune_subsample_sites(guide_trace), prune_subsample_sites(model_trace)


def _explained(error: Exception, where: str) -> str:
    """A shape error of Pyro's or torch's in terms of its mending."""
    text = str(error).splitlines()[0] if str(error) else type(error).__name__
    shape = re.search(r"Shape mismatch inside plate\('?(\w+)'?\) at site (\w+) dim (-?\d+), (\d+) vs (\d+)", text)
    if shape:
        plate, site, _, one, other = shape.groups()
        return (
            f"site {site!r}: its batch shape does not fit the plate {plate!r} ({one} against {other}): if the last "
            f"dimension is one data point's own, move it into the event by .to_event(1); else make the plate as "
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
    return f"the pair fails{where} with {type(error).__name__}: {text}"


def _numbers(batch: tuple[Any, ...]) -> Iterator[str]:
    for position, tensor in enumerate(batch):
        if isinstance(tensor, Tensor) and tensor.is_floating_point() and not tensor.isfinite().all():
            yield f"argument {position} has NaN or infinity in it: drop or fill these rows"


def _latents(guide_trace: Trace, model_trace: Trace) -> Iterator[str]:
    def latent(site: dict[str, Any]) -> bool:
        return not site["is_observed"] and not site["infer"].get("is_auxiliary", False)

    if not _observes(model_trace):
        swapped = "the guide does: give the model first" if _observes(guide_trace) else ""
        yield f"the model observes nothing{', ' + swapped if swapped else ': give the data to a site by obs='}"
    ours = {site["name"] for site in random_sites(guide_trace) if latent(site)}
    theirs = {site["name"] for site in random_sites(model_trace) if latent(site)}
    for name in sorted(theirs - ours):
        yield f"the model's latent {name!r} is missing in the guide: sample it there, or observe it by obs="
    for name in sorted(ours - theirs):
        yield f"the guide's latent {name!r} is missing in the model: sample it there under the same name"


def _observes(trace: Trace) -> bool:
    return any(site["is_observed"] for site in random_sites(trace))


def _structure(guide_trace: Trace, model_trace: Trace, size: int) -> Iterator[str]:
    yield from _latents(guide_trace, model_trace)
    for kind, trace in (("guide", guide_trace), ("model", model_trace)):
        for site in random_sites(trace):
            frame = next((frame for frame in site["cond_indep_stack"] if frame.name == DATA_PLATE), None)
            if frame is None:
                yield (
                    f"the {kind}'s site {site['name']!r} lies outside the plate {DATA_PLATE!r}: sample it inside `with "
                    f'pyro.plate("{DATA_PLATE}", len(x)):`'
                )
            elif frame.size != size:
                yield (
                    f"the {kind}'s plate {DATA_PLATE!r} has size {frame.size} for {size} data points: make it as long "
                    "as the batch, len(x)"
                )
            elif len(site["fn"].batch_shape) > len(site["cond_indep_stack"]):
                yield (
                    f"the {kind}'s site {site['name']!r} has batch shape {tuple(site['fn'].batch_shape)}, more "
                    f"dimensions than plates: move those of one data point into the event by .to_event(1)"
                )


def _values(guide_trace: Trace, model_trace: Trace) -> Iterator[str]:
    for kind, trace in (("guide", guide_trace), ("model", model_trace)):
        for site in random_sites(trace):
            value, support = site["value"], site["fn"].support if site["is_observed"] else None
            if not value.isfinite().all():
                yield f"the {kind}'s site {site['name']!r} has NaN or infinity in its value: look at what it is made of"
            elif support is not None and not bool(support.check(value).all()):
                yield (
                    f"the support of the likelihood at {site['name']!r}, {support}, does not hold the data, "
                    f"which go from {float(value.min()):g} to {float(value.max()):g}: transform them "
                    "(torch.bernoulli binarizes), or take another likelihood"
                )
            elif not site["fn"].log_prob(value).isfinite().all():
                yield (
                    f"the {kind}'s log-density at {site['name']!r} is NaN or infinite: look for a scale near 0 or "
                    "NaN in the parameters"
                )


def _particles(model: Program, guide: Program, batch: tuple[Any, ...]) -> Iterator[str]:
    """Two particles at once must weigh what each weighs alone."""
    mend = "keep leading dimensions as they are: no reshape(-1, ...) or flatten(0, ...), no indexing from the left"
    try:
        together = _run(model, guide, batch, _PARTICLES)
    except Exception as error:
        yield f"{_explained(error, ' with a dimension of particles left of the batch')}: {mend}"
        return
    for number in range(_PARTICLES):
        alone = Trace()
        for site in random_sites(together[0]):
            value = site["value"]
            spread = value.dim() > len(site["fn"].event_shape) + 1
            alone.add_node(site["name"], **{**site, "value": value[number] if spread else value})
        try:
            single = prune_subsample_sites(poutine.trace(poutine.replay(model, trace=alone)).get_trace(*batch))
        except Exception as error:  # a plate of a fixed size, which the guide's own plate would otherwise hide
            yield _explained(error, " without the guide's plate")
            return
        for site in random_sites(single):
            other = together[1].nodes[site["name"]]
            log_prob = other["fn"].log_prob(other["value"])
            mine = site["fn"].log_prob(site["value"])
            if log_prob.dim() < 2 or not torch.allclose(log_prob[number], mine, rtol=1e-3, atol=1e-3):
                yield (
                    f"the model's site {site['name']!r} weighs otherwise with a dimension of particles left of the "
                    f"batch than without: {mend}"
                )
                return


def _gradients(model: Program, guide: Program, batch: tuple[Any, ...]) -> Iterator[str]:
    parameters = {
        f"{kind}.{name}": parameter
        for kind, program in (("model", model), ("guide", guide))
        if isinstance(program, nn.Module)
        for name, parameter in program.named_parameters()
        if parameter.requires_grad
    }
    others = parameters_beside(model, guide)
    parameters |= others
    if not parameters:
        return
    with torch.enable_grad(), poutine.trace(param_only=True) as capture:
        loss = _loss(model, guide, batch)
        if not loss.requires_grad:
            yield NOTHING_REACHED
            return
        slopes = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)
    for name, slope in zip(parameters, slopes, strict=True):
        if slope is None:
            yield f"{name} gets no gradient: it is not used, or detached on the way to the ELBO; use it or remove it"
        elif not (slope.coalesce().values() if slope.is_sparse else slope).isfinite().all():
            yield f"the gradient of {name} has NaN or infinity: look for a square root, logarithm or scale near 0"
        elif name in others and all(others[name] is not leaf for leaf in parameter_sites(capture.trace).values()):
            yield f"{name} is used, but no pyro.module registers it: it would not be trained"


def _loss(model: Program, guide: Program, batch: tuple[Any, ...]) -> Tensor:
    """Minus the ELBO, with what a neural baseline learns by where the guide has one."""
    with store_kept():
        sites = random_sites(poutine.trace(guide).get_trace(*batch))
        if not any(site["infer"].get("baseline") for site in sites):
            return Trace_ELBO(max_plate_nesting=1).differentiable_loss(model, guide, *batch)
        return TraceGraph_ELBO(max_plate_nesting=1)._loss_and_surrogate_loss(model, guide, batch, {})[1]
