"""What is usually wrong with a pair of one's own, found before it trains to nonsense."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pyro
import torch
from pyro.infer import Trace_ELBO, TraceEnum_ELBO, TraceGraph_ELBO
from pyro.poutine import Trace
from torch import Tensor, nn

from ppl_vae.errors import InputError
from ppl_vae.pairs.arguments import Batch, Data, batch_of, batch_size, device_of, rows
from ppl_vae.pairs.mistakes import alone, everywhere, numbers, run, told
from ppl_vae.pairs.modules import Program, follows_rows, modules_of, parameters_beside
from ppl_vae.pairs.restore import evaluating, local_parameters, modules_kept
from ppl_vae.pairs.shared import shared_sites
from ppl_vae.pairs.traces import (
    DATA_PLATE,
    latent_sites,
    parameter_sites,
    parameters_recorded,
    plates_below,
    random_sites,
    trace,
)

NOTHING_REACHED = "no parameter reaches the ELBO: use them inside the programs, and detach nothing on the way"
_PARTICLES = 2
_FEW = 4


class SharedLatentWarning(UserWarning):
    """Warns that a sound pair has what all its data share, so that nothing can be measured per data point."""


def check(model: Program, guide: Program, data: Data) -> list[str]:
    """Looks for the usual mistakes in a pair; nothing is trained, and nothing is left behind.

    The shapes are looked at with a few rows, the values with one draw for each row. Programs with latents that are
    enumerated (``infer={"enumerate": "parallel"}``) are run as ``TraceEnum_ELBO`` runs them, too.

    A latent that all the data share is no mistake, since :func:`ppl_vae.fit` trains it: it is told as a
    ``SharedLatentWarning``, because what is measured per data point (``bounds``, say) is not to be had.

    Args:
        model: a Pyro program.
        guide: its guide.
        data: a tensor, a tuple of tensors (one row a data point) or a DataLoader: the arguments of both. With fewer
            than 3 rows some mistakes can't be told.

    Returns:
        One sentence for each mistake: what it is and how to mend it. An empty list means that none was found.

    Examples:
        >>> import torch
        >>> from ppl_vae import check
        >>> from ppl_vae.guides import Amortized, Diagonal
        >>> from ppl_vae.models import VAE
        >>> model, guide = VAE(64, 2), Amortized(Diagonal(2), 64)
        >>> check(model, guide, torch.bernoulli(torch.full((5, 64), 0.3)))
        []
        >>> for mistake in check(model, guide, torch.full((5, 64), 0.3)):
        ...     print(mistake.partition(",")[0])
        the support of the likelihood at 'x'
    """
    batch = batch_of(data)
    size, device = batch_size(batch), device_of(batch, model, guide)
    with modules_kept(modules_of(model, guide)), alone():
        mistakes = _mistakes(model, guide, batch)
        if not mistakes:
            part = rows(batch, size, 0, _few(guide, size)[0], device)
            with local_parameters(model, guide):
                mistakes += _gradients(model, guide, part)
            with evaluating(model, guide):
                shared = sorted(shared_sites(model, guide, batch, len(part[0])))
            if shared:
                warnings.warn(
                    f"shared by all the data: {', '.join(map(repr, shared))}. fit trains such a pair with all the data "
                    f'in one batch, or with pyro.plate("{DATA_PLATE}", N, subsample=x) in minibatches of N data '
                    "points; it has no log-weight per data point, so bounds, tightness and the like refuse it",
                    SharedLatentWarning,
                    stacklevel=2,
                )
    return mistakes


def _mistakes(model: Program, guide: Program | None, batch: tuple[Any, ...]) -> list[str]:
    """Lists the mistakes that runs show, gradients aside; those of the model alone where the guide is None."""
    size, device = batch_size(batch), device_of(batch, model, guide)
    with evaluating(model, guide), alone():  # dropout would weigh otherwise each time
        mistakes = list(numbers(batch))
        if mistakes:
            return mistakes
        pairs: list[tuple[Trace, Trace]] = []
        for count in _few(guide, size):  # two sizes: one may equal the number of latents by chance
            try:
                pairs.append(run(model, guide, rows(batch, size, 0, count, device)))
            except Exception as error:
                return [told(error)]
        mistakes = list(everywhere(model, guide, batch))
        shared = shared_sites(model, guide, batch, _few(guide, size)[0])
        for count, pair in zip(_few(guide, size), pairs, strict=True):
            mistakes += [line for line in _structure(*pair, count, shared) if line not in mistakes]
        if mistakes:
            return mistakes
        part = rows(batch, size, 0, _few(guide, size)[0], device)
        nesting = plates_below(*pairs[0])
        if guide is not None and _is_enumerated(*pairs[0]):
            mistakes += _enumeration(model, guide, part, nesting)
        if not shared and follows_rows(guide) and not _summed_out(*pairs[0]):  # those have no log-weights
            mistakes += _particles(model, guide, part, nesting)
    return mistakes


def _few(guide: Program | None, size: int) -> list[int]:
    """Says how many rows to run: two numbers of them, but all where the guide is made for all."""
    if not follows_rows(guide):
        return [size]
    return sorted({max(1, min(size, _FEW) - 1), min(size, _FEW)}, reverse=True)


@contextmanager
def explained(model: Program, guide: Program | None, batch: Batch) -> Iterator[None]:
    """Turns the error of a pair that runs for the first time into the sentence that :func:`check` has for it.

    NaN in the data are refused at once. A guide that is None is that of a model that is measured by itself.
    """
    batch_size(batch)
    for line in numbers(batch):
        raise InputError(line)
    try:
        yield
    except InputError as error:
        sentence, *shapes_by_pyro = str(error).splitlines()
        if shapes_by_pyro:  # raised inside a program, to whose errors Pyro adds the shapes of its trace
            raise InputError(sentence) from error
        raise
    except Exception as error:
        try:
            mistakes = _mistakes(model, guide, batch)
        except Exception:  # the first error says more
            mistakes = []
        if not mistakes:
            raise
        raise InputError(mistakes[0]) from error


def _structure(guide_trace: Trace, model_trace: Trace, size: int, shared: set[str]) -> Iterator[str]:
    for kind, own_trace in (("guide", guide_trace), ("model", model_trace)):
        for site in random_sites(own_trace):
            if site["name"] in shared or (site["infer"].get("is_auxiliary", False) and not site["is_observed"]):
                continue
            frames = [frame for frame in site["cond_indep_stack"] if frame.vectorized]
            data = next((frame for frame in frames if frame.name == DATA_PLATE), None)
            free = [dim for dim in range(-len(site["fn"].batch_shape), 0) if dim not in {frame.dim for frame in frames}]
            if data is None:
                yield (
                    f"the {kind}'s site {site['name']!r} lies outside the plate {DATA_PLATE!r}: sample it inside `with "
                    f'pyro.plate("{DATA_PLATE}", len(x)):`'
                )
            elif data.size != size and data.full_size in (None, data.size):
                yield (
                    f"the {kind}'s plate {DATA_PLATE!r} has size {data.size} for {size} data points: make it as long "
                    "as the batch, len(x)"
                )
            elif any(site["fn"].batch_shape[dim] > 1 for dim in free):
                yield (
                    f"the {kind}'s site {site['name']!r} has batch shape {tuple(site['fn'].batch_shape)}, more "
                    f"dimensions than plates: move those of one data point into the event by .to_event(1)"
                )


def _is_enumerated(guide_trace: Trace, model_trace: Trace) -> bool:
    """Says whether a latent is summed over: one that the guide marks, or that the model marks and the guide lacks."""
    sites = (*random_sites(guide_trace), *_summed_out(guide_trace, model_trace))
    return any(site["infer"].get("enumerate") for site in sites)


def _summed_out(guide_trace: Trace, model_trace: Trace) -> list[dict[str, Any]]:
    """Lists the model's latents that the guide lacks."""
    ours = {site["name"] for site in random_sites(guide_trace)}
    return [site for site in latent_sites(model_trace) if site["name"] not in ours]


def _enumeration(model: Program, guide: Program, batch: tuple[Any, ...], nesting: int) -> Iterator[str]:
    """Finds what fails once latents are enumerated: their values come in dimensions left of the plates."""
    try:
        with local_parameters(model, guide), pyro.validation_enabled(True), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            TraceEnum_ELBO(max_plate_nesting=nesting).loss(model, guide, *batch)
    except Exception as error:
        yield (
            f"{told(error, ' once its latents are enumerated')}: let everything broadcast with dimensions left of the "
            "batch, which the enumerated values have (shape (values, 1) for a number of each data point)"
        )


def _particles(model: Program, guide: Program | None, batch: tuple[Any, ...], nesting: int) -> Iterator[str]:
    """Finds what breaks with particles: two at once must weigh what each weighs alone."""
    mend = "keep leading dimensions as they are: no reshape(-1, ...) or flatten(0, ...), no indexing from the left"
    try:
        together = run(model, guide, batch, _PARTICLES, nesting)
    except Exception as error:
        yield f"{told(error, ' with a dimension of particles left of the batch')}: {mend}"
        return
    for number in range(_PARTICLES):
        alone_trace = Trace()
        for site in random_sites(together[0]):
            value = site["value"]
            spread = value.dim() > len(site["fn"].event_shape) + nesting
            alone_trace.add_node(site["name"], **{**site, "value": value[number] if spread else value})
        try:
            with local_parameters(model):
                replayed = trace(model, batch, given=alone_trace)
        except Exception as error:  # a plate of a fixed size, which the guide's own plate would otherwise hide
            yield told(error, " without the guide's plate")
            return
        for site in random_sites(replayed):
            other = together[1].nodes[site["name"]]
            log_prob = other["fn"].log_prob(other["value"])
            mine = site["fn"].log_prob(site["value"])
            if log_prob.dim() <= nesting or not torch.allclose(log_prob[number], mine, rtol=1e-3, atol=1e-3):
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
    with torch.enable_grad(), parameters_recorded() as capture:
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
    """Returns minus the ELBO, with what a neural baseline learns by where the guide has one."""
    pair = run(model, guide, batch)
    nesting = plates_below(*pair)
    if _is_enumerated(*pair):
        return TraceEnum_ELBO(max_plate_nesting=nesting).differentiable_loss(model, guide, *batch)
    if not any(site["infer"].get("baseline") for site in random_sites(pair[0])):
        return Trace_ELBO(max_plate_nesting=nesting).differentiable_loss(model, guide, *batch)
    return TraceGraph_ELBO(max_plate_nesting=nesting)._loss_and_surrogate_loss(model, guide, batch, {})[1]
