"""What is usually wrong with a pair of one's own, found before it trains to nonsense."""

import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pyro
import torch
from pyro.infer import Trace_ELBO, TraceEnum_ELBO, TraceGraph_ELBO
from pyro.poutine import Trace
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from ppl_vae.errors import InputError, first_line
from ppl_vae.pairs.arguments import Batch, Data, batch_of, batch_size, device_of
from ppl_vae.pairs.entrance import runs_a_pair
from ppl_vae.pairs.mistakes import alone, everywhere, numbers, run, told
from ppl_vae.pairs.modules import Program, follows_rows, modules_of, parameters_beside
from ppl_vae.pairs.restore import evaluating, local_parameters, modules_kept
from ppl_vae.pairs.runs import first_run
from ppl_vae.pairs.structure import (
    Shown,
    discrete_latents,
    few_rows,
    has_fixed_length,
    runs_of,
    structure,
    wrong_arguments,
)
from ppl_vae.pairs.traces import (
    latent_sites,
    parameter_sites,
    parameters_recorded,
    plates_below,
    random_sites,
    trace,
)

NOTHING_REACHED = "no parameter reaches the ELBO: use them inside the programs, and detach nothing on the way"
UNSET = "a lazy layer has no shape yet after a run of model and guide: use it there, or remove it"
_PARTICLES = 2
_SLOWLY = "it runs one particle after the other, slowly"


@runs_a_pair
def check(model: Program, guide: Program, data: Data, *, plate: str | None = None) -> list[str]:
    """Looks for the usual mistakes in a pair; nothing is trained, and nothing is left behind.

    The shapes are looked at with a few rows, or with all where the programs take no fewer, the values with one draw for
    each row. Programs with latents that are enumerated (``infer={"enumerate": "parallel"}``) are run as
    ``TraceEnum_ELBO`` runs them, too. A latent that all the data share is no mistake.

    Args:
        model: a Pyro program.
        guide: its guide.
        data: a tensor, a tuple of tensors (one row a data point) or a DataLoader: the arguments of both. With fewer
            than 3 rows some mistakes can't be told.
        plate: the name of the plate that holds the data, where it can't be told.

    Returns:
        One sentence for each mistake: what it is and how to mend it. An empty list means that none was found. A model
        that runs one particle after the other, slowly but rightly, is listed too.

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
    with modules_kept(modules_of(model, guide)), alone():
        try:
            mistakes, part = _mistakes(model, guide, batch, plate)
        except InputError as error:  # which plate holds the data can't be told
            return [str(error)]
        if not mistakes:
            with local_parameters(model, guide):
                mistakes += _gradients(model, guide, part)
    return mistakes


def _mistakes(model: Program, guide: Program | None, batch: Batch, plate: str | None = None) -> tuple[list[str], Batch]:
    """Lists the mistakes that runs show, gradients aside; those of the model alone where the guide is None.

    Returns them and the rows to run the pair on. Raises InputError where several plates may hold the data.
    """
    size, device = batch_size(batch), device_of(batch, model, guide)
    with evaluating(model, guide), alone():  # dropout would weigh otherwise each time
        mistakes = [*numbers(batch)] or [*wrong_arguments(model, guide, batch)]
        if mistakes:
            return mistakes, batch
        try:
            part, shown = first_run(lambda part: Shown(model, guide, part, plate), batch, (model, guide), device)
        except Exception as error:
            return [*discrete_latents(model, guide, batch)] or [told(error)], batch
        unit, pair = shown.unit, shown.pair
        few = few_rows(size)
        own_guide = guide if follows_rows(guide) else None
        runs, failed = runs_of(model, own_guide, batch, few)
        if (
            failed is not None
            and not unit.whole
            and follows_rows(guide)
            and (batch_size(part) < size or not has_fixed_length(model, guide, batch, few, unit.plate))
        ):
            return [told(failed)], part  # the other runs are right by chance, as long as a latent has dimensions
        mistakes = list(everywhere(model, guide, batch, cut=batch_size(part) < size))
        mistakes += [
            line for line in structure(runs or [(size, pair)], unit, alone=own_guide is None) if line not in mistakes
        ]
        if mistakes:
            return mistakes, part
        if guide is not None and _is_enumerated(*pair):
            mistakes += _enumeration(model, guide, part, unit.nesting)
        if not unit.whole and follows_rows(guide) and not _summed_out(*pair):
            mistakes += _particles(model, guide, part, unit.nesting)
    return mistakes, part


@contextmanager
def explained(model: Program, guide: Program | None, batch: Batch, plate: str | None = None) -> Iterator[None]:
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
            mistakes, _ = _mistakes(model, guide, batch, plate)
        except Exception:  # the first error says more
            mistakes = []
        # that particles are run one after the other explains no error but its own
        mistakes = [line for line in mistakes if _SLOWLY not in line or _same_error(error, line)]
        if not mistakes:
            raise
        raise InputError(mistakes[0]) from error


def _same_error(error: Exception, line: str) -> bool:
    """Says whether a sentence tells of an error, whatever the numbers in it: it may have had more particles."""
    text = first_line(error)
    return re.sub(r"\d+", "", text) in re.sub(r"\d+", "", line)


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
    mend = (
        f"{_SLOWLY}; to run many at once keep leading dimensions as they are: no reshape(-1, ...) or flatten(0, ...), "
        "no indexing from the left"
    )
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
    if any(map(is_lazy, parameters.values())):
        yield UNSET
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
