"""What of a pair can be trained, found by running it once on a probe batch."""

import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pyro
import torch
from pyro import poutine
from pyro.infer import ELBO, TraceEnum_ELBO
from pyro.params.param_store import normalize_param_name
from pyro.poutine import Trace
from torch import Tensor, nn

from ppl_vae.errors import InputError
from ppl_vae.estimators import LogWeightELBO
from ppl_vae.estimators.requirements import require_known
from ppl_vae.estimators.weighed import require_weighable
from ppl_vae.estimators.weights import Weights
from ppl_vae.graphs.private import settle_plates
from ppl_vae.pairs.arguments import require_values
from ppl_vae.pairs.checks import explained
from ppl_vae.pairs.mistakes import seen
from ppl_vae.pairs.modules import Program, modules_of, own_modules
from ppl_vae.pairs.restore import local_parameters, modules_kept, random_state_kept, undone_on_error
from ppl_vae.pairs.shared import require_whole
from ppl_vae.pairs.traces import (
    bounds_evidence,
    has_weights,
    parameter_sites,
    parameters_recorded,
    plates_below,
    random_sites,
    trace,
)
from ppl_vae.pairs.units import unit_of
from ppl_vae.training import distributed
from ppl_vae.training.batches import Batch, Batches
from ppl_vae.training.leaves import (
    give_memory_of_their_own,
    leaf_names,
    leaves_of_other_networks,
    trained_leaves,
    unregistered,
)
from ppl_vae.training.modes import COMPILED, parameters_for, training
from ppl_vae.training.precision import Precision, computing_in
from ppl_vae.training.trainable import Trainable


@dataclass(frozen=True)
class Prepared:
    """A pair that is ready to be trained.

    Attributes:
        trainable: what is trained of it.
        modules: its modules, and the network that the estimator trains beside it.
        learned: that network, None without one.
    """

    trainable: Trainable
    modules: list[nn.Module]
    learned: nn.Module | None

    @property
    def tensors(self) -> list[Tensor]:
        """The parameters and the buffers."""
        return [*self.trainable.parameters, *(buffer for module in self.modules for buffer in module.buffers())]


@contextmanager
def prepared(
    model: Program,
    guide: Program,
    elbo: ELBO,
    source: Batches,
    precision: Precision,
    device: torch.device,
    weights: Weights | None = None,
) -> Iterator[Prepared]:
    """Makes a pair ready by one run on a probe batch: moved to the device, set up, in train mode; in eval mode after.

    The probe batch is drawn as the first one of a first epoch that nothing is trained by.

    Raises:
        InputError: for a pair, an estimator or data that can't be trained; nothing is left behind then.
    """
    if isinstance(elbo, COMPILED) and not source.even:
        raise InputError(
            f"{type(elbo).__name__} replays its first batch, but the last batch is shorter: take a batch_size "
            f"that divides {source.size}, not {source.batch_size}, or Trace_ELBO"
        )
    require_values(model, guide)
    if weights is not None:
        require_weighable(elbo, weights)
    modules = [module.to(device) for module in modules_of(model, guide)]
    probe = next(source.epoch())
    learned = _learned_network(elbo, model, guide, probe)
    if learned is not None:
        modules.append(learned.to(device))
    coarse = computing_in(precision, modules, device)
    with coarse, parameters_for(elbo, model, guide), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Encountered NaN", module="pyro")  # fit's own error says more
        with undone_on_error(modules), explained(model, guide, probe):
            size = source.size if source.steps > 1 else None
            trainable = first_run(elbo, model, guide, learned, probe, size, source.is_exact, weights)
        del probe  # it may be as large as the data
        with training(modules, own_modules(model, guide), trainable.parameters):
            yield Prepared(trainable, modules, learned)


def _learned_network(elbo: ELBO, model: Program, guide: Program, probe: Batch) -> nn.Module | None:
    """Makes the network that an estimator trains beside the pair; the random numbers are put back afterwards."""
    if not isinstance(elbo, LogWeightELBO):
        return None
    with local_parameters(model, guide), random_state_kept():
        return elbo.learned(model, guide, *(part[:2] for part in probe))


def first_run(
    elbo: ELBO,
    model: Program,
    guide: Program,
    learned: nn.Module | None,
    batch: tuple[Tensor, ...],
    size: int | None = None,
    exactly: bool = True,
    weights: Weights | None = None,
) -> Trainable:
    """Finds out what can be trained in a pair, by its first run.

    The run also sets up lazy modules and autoguides; the parameters are those it meets, those of the pair where it is
    made of modules, and what the estimator has learned so far.
    Pyro's ELBOs take gradients only where a trace has a parameter site; a pair of plain modules has none, so its
    guide is then run behind one.

    ``size`` is the number of data points in an epoch, where the batch is a part of them (``exactly`` so many, or as a
    loader tells): a pair with latents that all of them share is refused then, see
    :func:`ppl_vae.pairs.shared.require_whole`. ``weights`` are those of the divergence in the objective.
    """
    with torch.no_grad(), poutine.block(), parameters_recorded() as parameter_trace:
        guide_trace = trace(guide, batch)
        of_guide = parameter_sites(parameter_trace.trace)
        with parameters_recorded() as of_model:
            model_trace = trace(model, batch, given=guide_trace)
    pair = guide_trace, model_trace
    if getattr(elbo, "runs_guide", True):
        for line in seen(*pair):
            raise InputError(line)
        if size is not None:
            require_whole(model, guide, pair, batch, size, exactly)
    if distributed.count() > 1:
        _require_shareable(elbo, guide_trace, model_trace)
    _require_room(elbo, *pair)
    if weights is not None:
        weights.meet(*pair, len(batch[0]))
    _settle_nesting(elbo, model, guide, batch)
    sites = parameter_sites(parameter_trace.trace)
    trainable = trained_leaves(sites, model, guide, learned)
    require_known(elbo, guide_trace, trainable)
    give_memory_of_their_own(trainable)
    weighted = has_weights(*pair)
    named = {normalize_param_name(name): leaf for name, leaf in sites.items()}
    names = leaf_names(trainable, named, {"model": model, "guide": guide, "estimator": learned})
    return Trainable(
        parameters=trainable,
        names=names,
        guide=guide if sites else _anchored(guide),
        is_bound=_bounds_evidence(guide_trace, guide, batch) and getattr(elbo, "is_bound", True) and not weighted,
        weighted=weighted,
        sites=named,
        others=leaves_of_other_networks(parameter_trace.trace, sites),
        unregistered=unregistered(model, guide, trainable),
        full_size=_full_size(model_trace),
        whole=_is_whole(guide_trace, model_trace, len(batch[0])),
        nesting=plates_below(guide_trace, model_trace),
        encoder=_of_one_alone((guide, of_guide), (model, parameter_sites(of_model.trace)), trainable, names)
        if getattr(elbo, "runs_guide", True)
        else {},
    )


def _is_whole(guide_trace: Trace, model_trace: Trace, size: int) -> bool:
    """Says whether the data share a latent; a pair without a guide's latents has none to share."""
    if not any(not site["is_observed"] for site in random_sites(guide_trace)):
        return False
    try:
        return unit_of(guide_trace, model_trace, size).whole
    except InputError:  # two plates are as long as the data by chance
        return False


def _bounds_evidence(guide_trace: Trace, guide: Program, batch: tuple[Tensor, ...]) -> bool:
    """Says whether the ELBO is a bound; the run that this may take leaves random numbers and buffers as they are."""

    def again() -> Trace:
        with random_state_kept(), torch.no_grad(), poutine.block(), modules_kept(modules_of(guide)):
            return trace(guide, batch)

    return bounds_evidence(guide_trace, again)


def _require_shareable(elbo: ELBO, *traces: Trace) -> None:
    if isinstance(elbo, COMPILED):
        raise InputError(
            f"{type(elbo).__name__} replays its first batch, of which {distributed.count()} processes can't take "
            f"shares: take {type(elbo).__name__.removeprefix('Jit')}, which fit captures by itself"
        )
    distributed.require_shareable(*traces)


def _settle_nesting(elbo: ELBO, model: Program, guide: Program, batch: tuple[Tensor, ...]) -> None:
    """Has Pyro find its plates now: at the first step the random numbers that this takes would be missing there."""
    looks = elbo.vectorize_particles or isinstance(elbo, TraceEnum_ELBO)
    if looks and math.isinf(elbo.max_plate_nesting) and not isinstance(elbo, LogWeightELBO):
        with random_state_kept(), torch.no_grad():
            settle_plates(elbo, model, guide, batch)


def _require_room(elbo: ELBO, *traces: Trace) -> None:
    """Refuses an estimator that puts its particles, or the values of latents, into a dimension of a plate."""
    frames = (frame for trace in traces for site in random_sites(trace) for frame in site["cond_indep_stack"])
    plates = max((-frame.dim for frame in frames if frame.vectorized), default=0)
    of_particles = elbo.vectorize_particles and elbo.num_particles > 1  # Pyro has added a dimension for them
    room = elbo.max_plate_nesting - of_particles
    looks = (of_particles or isinstance(elbo, TraceEnum_ELBO)) and not isinstance(elbo, LogWeightELBO)
    if looks and room < plates:
        raise InputError(
            f"max_plate_nesting of {type(elbo).__name__} is {room}, but the plates of the pair take {plates}: leave it "
            f"away, or give {plates}"
        )


def _of_one_alone(
    one: tuple[Program, dict[str, Tensor]],
    other: tuple[Program, dict[str, Tensor]],
    leaves: list[Tensor],
    names: list[str],
) -> dict[str, Tensor]:
    """Picks the leaves that are of one program alone, by its modules or by the parameter sites that its run meets."""
    of_modules = [
        {id(leaf) for module in modules_of(program) for leaf in module.parameters()} for program, _ in (one, other)
    ]
    of_sites = [set(map(id, sites.values())) for _, sites in (one, other)]
    alone = (of_modules[0] - of_modules[1]) | (of_sites[0] - of_sites[1])
    return {name: leaf for name, leaf in zip(names, leaves, strict=True) if id(leaf) in alone}


def _anchored(guide: Program) -> Program:
    """Puts a parameter site before a guide: without any in the trace, Pyro's ELBOs take no gradients."""

    def anchored(*args: Any, **kwargs: Any) -> Any:
        pyro.param("ppl_vae.anchor", torch.zeros(()))
        return guide(*args, **kwargs)

    return anchored


def _full_size(trace: Trace) -> int | None:
    frames = (frame for site in random_sites(trace) if site["is_observed"] for frame in site["cond_indep_stack"])
    return max((frame.full_size for frame in frames if frame.full_size not in (None, frame.size)), default=None)
