"""What of a pair can be trained, found by running it once."""

import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pyro
import torch
from pyro import poutine
from pyro.infer import (
    ELBO,
    JitTrace_ELBO,
    JitTraceEnum_ELBO,
    JitTraceGraph_ELBO,
    JitTraceMeanField_ELBO,
    TraceEnum_ELBO,
)
from pyro.poutine import Trace
from torch import Tensor, nn

from ppl_vae.errors import InputError
from ppl_vae.estimators import LogWeightELBO
from ppl_vae.estimators.requirements import require_known
from ppl_vae.networks import RowTable
from ppl_vae.pairs.checks import NOTHING_REACHED
from ppl_vae.pairs.mistakes import seen
from ppl_vae.pairs.modules import Program, parameters_beside
from ppl_vae.pairs.restore import is_finite, local_parameters, random_state_kept, store_kept
from ppl_vae.pairs.shared import require_whole
from ppl_vae.pairs.traces import (
    bounds_evidence,
    has_weights,
    parameter_sites,
    parameters_recorded,
    random_sites,
    trace,
)
from ppl_vae.training import distributed

COMPILED = (JitTrace_ELBO, JitTraceGraph_ELBO, JitTraceEnum_ELBO, JitTraceMeanField_ELBO)
_OF_MODULE = "$$$"  # between the names of a network and its parameter, where pyro.module registers it


@dataclass(frozen=True)
class Trainable:
    """What an optimizer and an ELBO need to know of a pair.

    Attributes:
        parameters: the leaves that require a gradient.
        names: theirs.
        guide: the guide, as an ELBO is to get it.
        is_bound: whether its ELBO bounds the evidence.
        weighted: whether sites have weights of their own, so that a step's objective is no ELBO.
        sites: those of the leaves that are parameter sites, by name.
        others: those that the parameter store holds where ``pyro.module`` registers a network, and are not that
            network's own.
        unregistered: those of a module whose methods the pair are, which are no parameter sites.
        full_size: the data points that a step's ELBO stands for, where a plate subsamples them.
    """

    parameters: list[Tensor]
    names: list[str]
    guide: Program
    is_bound: bool
    weighted: bool
    sites: dict[str, Tensor]
    others: dict[str, list[Tensor]]
    unregistered: dict[str, nn.Parameter]
    full_size: int | None

    def require_gradients(self) -> None:
        """InputError after a first step that reached nothing, or another network in the place of the optimizer's.

        A warning where it reached what the optimizer does not have.
        """
        for name, leaves in self.others.items():
            if all(leaf.grad is None for leaf in leaves):
                raise InputError(
                    f"pyro.module registers a network as {name!r}, but the parameter store holds another one under "
                    "this name, which would be trained instead: call pyro.clear_param_store() after making it anew"
                )
        if all(leaf.grad is None for leaf in self.parameters):
            raise InputError(NOTHING_REACHED)
        idle = [name for name, leaf in self.unregistered.items() if leaf.grad is not None]
        if idle:
            warnings.warn(
                f"used, but not trained: {', '.join(idle)}, which no pyro.module registers (requires_grad_(False) says "
                "that this is meant)",
                stacklevel=3,
            )

    def require_finite(self, epoch: int) -> None:
        """InputError where a step has made a parameter NaN or infinite."""
        bad = [name for name, leaf in zip(self.names, self.parameters, strict=True) if not is_finite(leaf)]
        if bad:
            raise InputError(
                f"{bad[0]} became NaN or infinite in epoch {epoch} ({len(bad)} of {len(self.names)} parameters did), "
                "which are now those at its beginning: lower the learning rate, or look for a square root, a logarithm "
                "or a scale near 0"
            )


def first_run(
    elbo: ELBO,
    model: Program,
    guide: Program,
    learned: nn.Module | None,
    batch: tuple[Tensor, ...],
    size: int | None = None,
    exactly: bool = True,
) -> Trainable:
    """What can be trained in a pair, by its first run.

    The run also sets up lazy modules and autoguides; the parameters are those it meets, those of the pair where it is
    made of modules, and what the estimator has learned so far.
    Pyro's ELBOs take gradients only where a trace has a parameter site; a pair of plain modules has none, so its
    guide is then run behind one.

    ``size`` is the number of data points in an epoch, where the batch is a part of them (``exactly`` so many, or as a
    loader tells): a pair with latents that all of them share is refused then, see
    :func:`ppl_vae.pairs.shared.require_whole`.
    """
    with torch.no_grad(), poutine.block(), parameters_recorded() as capture:
        guide_trace = trace(guide, batch)
        model_trace = trace(model, batch, given=guide_trace)
    pair = guide_trace, model_trace
    if getattr(elbo, "runs_guide", True):
        for line in seen(*pair):
            raise InputError(line)
        if size is not None:
            require_whole(model, guide, pair, batch, size, exactly)
    if distributed.count() > 1:
        if isinstance(elbo, COMPILED):
            raise InputError(
                f"{type(elbo).__name__} replays its first batch, of which {distributed.count()} processes can't take "
                f"shares: take {type(elbo).__name__.removeprefix('Jit')}, which fit captures by itself"
            )
        distributed.require_shareable(guide_trace, model_trace)
    _settle_nesting(elbo, model, guide, batch)
    sites = parameter_sites(capture.trace)
    leaves = list(sites.values())
    modules = [part for part in (model, guide, learned) if isinstance(part, nn.Module)]
    leaves += [parameter for module in modules for parameter in module.parameters()]
    trainable = list({id(leaf): leaf for leaf in leaves if leaf.requires_grad}.values())
    if not trainable:
        raise InputError("there is nothing to fit: model and guide have no parameter that requires a gradient")

    require_known(elbo, guide_trace, trainable)
    for leaf in trainable:
        if any(step == 0 and size > 1 for step, size in zip(leaf.stride(), leaf.shape, strict=True)):
            leaf.data = leaf.data.clone(memory_format=torch.contiguous_format)  # expanded: one number for many

    def anchored(*args: Any, **kwargs: Any) -> Any:
        pyro.param("ppl_vae.anchor", torch.zeros(()))
        return guide(*args, **kwargs)

    others: dict[str, list[Tensor]] = {}
    for name, site in capture.trace.nodes.items():
        network, separator, _ = name.partition(_OF_MODULE)
        if separator and all(own is not sites[name] for own in site["args"][1:]):
            others.setdefault(network, []).append(sites[name])
    named = {name.replace(_OF_MODULE, "."): leaf for name, leaf in sites.items()}
    known = {id(leaf) for leaf in trainable}
    idle = {name: leaf for name, leaf in parameters_beside(model, guide).items() if id(leaf) not in known}
    for leaf in idle.values():
        leaf.grad = None  # that of the first step is looked for
    whole = _full_size(model_trace)
    owners = zip(("model", "guide", "estimator"), (model, guide, learned), strict=True)
    called = {id(leaf): name for name, leaf in named.items()}
    for kind, owner in owners:
        for name, leaf in owner.named_parameters() if isinstance(owner, nn.Module) else ():
            called.setdefault(id(leaf), f"{kind}.{name}")
    names = [called[id(leaf)] for leaf in trainable]
    anchor = guide if sites else anchored
    weighted = has_weights(*pair)
    return Trainable(trainable, names, anchor, bounds_evidence(guide_trace), weighted, named, others, idle, whole)


def _settle_nesting(elbo: ELBO, model: Program, guide: Program, batch: tuple[Tensor, ...]) -> None:
    """Has Pyro find its plates now: at the first step the random numbers that this takes would be missing there."""
    looks = elbo.vectorize_particles or isinstance(elbo, TraceEnum_ELBO)
    if looks and math.isinf(elbo.max_plate_nesting) and not isinstance(elbo, LogWeightELBO):
        with random_state_kept(), torch.no_grad():
            elbo._guess_max_plate_nesting(model, guide, batch, {})


def _full_size(trace: Trace) -> int | None:
    frames = (frame for site in random_sites(trace) if site["is_observed"] for frame in site["cond_indep_stack"])
    return max((frame.full_size for frame in frames if frame.full_size not in (None, frame.size)), default=None)


@contextmanager
def parameters_for(elbo: ELBO, model: Program, guide: Program) -> Iterator[None]:
    """Where the parameters live: with each module, but in a store of this fit's own for Pyro's compiled ELBOs.

    Those read the store only, and it thaws what is frozen: it stays out of the optimizer and is frozen again after.
    """
    if not isinstance(elbo, COMPILED):
        with local_parameters(model, guide):
            yield
        return
    modules = (program for program in (model, guide) if isinstance(program, nn.Module))
    frozen = [leaf for module in modules for leaf in module.parameters() if not leaf.requires_grad]
    try:
        with store_kept():
            yield
    finally:
        for leaf in frozen:
            leaf.requires_grad_(False)


@contextmanager
def training(modules: list[nn.Module], own: list[nn.Module], parameters: list[Tensor]) -> Iterator[None]:
    """Train mode for the modules that train, eval mode for them afterwards, and for all of the pair's own.

    The gradients of tables are sparse meanwhile.
    """
    trained = {id(leaf) for leaf in parameters}
    training = [module for module in modules if any(id(leaf) in trained for leaf in module.parameters())]
    for module in own:
        module.eval()
    for module in training:
        module.train()
    tables = [part for module in modules for part in module.modules() if isinstance(part, RowTable)]
    for table in tables:
        table.sparse = True
    try:
        yield
    finally:
        for table in tables:
            table.sparse = False
        for module in (*own, *training):
            module.eval()
