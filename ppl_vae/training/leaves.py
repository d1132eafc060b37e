"""The leaves of a pair that are trained: which they are, how they lie in memory, and what they are called."""

from typing import Any

import torch
from pyro.params.param_store import module_from_param_with_module_name
from pyro.poutine import Trace
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from ppl_vae.errors import InputError
from ppl_vae.pairs.checks import UNSET
from ppl_vae.pairs.modules import Program, parameters_beside


def trained_leaves(sites: dict[str, Tensor], *programs: Program | nn.Module | None) -> list[Tensor]:
    """Lists the leaves that require a gradient, those of parameter sites first, each once."""
    leaves = [*sites.values()]
    leaves += [leaf for part in programs if isinstance(part, nn.Module) for leaf in part.parameters()]
    if any(map(is_lazy, leaves)):
        raise InputError(UNSET)
    trainable = list({id(leaf): leaf for leaf in leaves if leaf.requires_grad}.values())
    if not trainable:
        raise InputError("there is nothing to fit: model and guide have no parameter that requires a gradient")
    return trainable


def give_memory_of_their_own(leaves: list[Tensor]) -> None:
    """Spreads leaves that were expanded, of which one number in memory stands for many: a step changes each."""
    for leaf in leaves:
        if any(step == 0 and size > 1 for step, size in zip(leaf.stride(), leaf.shape, strict=True)):
            leaf.data = leaf.data.clone(memory_format=torch.contiguous_format)


def leaf_names(leaves: list[Tensor], sites: dict[str, Tensor], owners: dict[str, Any]) -> list[str]:
    """Names each leaf: as its parameter site is named, else as in the module that owns it."""
    names = {id(leaf): name for name, leaf in sites.items()}
    for kind, owner in owners.items():
        for name, leaf in owner.named_parameters() if isinstance(owner, nn.Module) else ():
            names.setdefault(id(leaf), f"{kind}.{name}")
    return [names[id(leaf)] for leaf in leaves]


def leaves_of_other_networks(trace: Trace, sites: dict[str, Tensor]) -> dict[str, list[Tensor]]:
    """Lists what the parameter store holds under the name of a registered network, but is another network's."""
    others: dict[str, list[Tensor]] = {}
    for name, site in trace.nodes.items():
        network = module_from_param_with_module_name(name)
        if network != name and all(leaf is not sites[name] for leaf in site["args"][1:]):
            others.setdefault(network, []).append(sites[name])
    return others


def unregistered(model: Program, guide: Program, trained: list[Tensor]) -> dict[str, nn.Parameter]:
    """Lists the untrained leaves beside the programs, and clears their gradients: a step shows which it reaches."""
    known = {id(leaf) for leaf in trained}
    untrained = {name: leaf for name, leaf in parameters_beside(model, guide).items() if id(leaf) not in known}
    for leaf in untrained.values():
        leaf.grad = None
    return untrained
