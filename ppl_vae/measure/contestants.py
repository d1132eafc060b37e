"""What takes part in a comparison: programs that may be compared, copied, finished after their fit, made pairs."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from pyro.infer import ELBO
from torch import nn

from ppl_vae.errors import InputError, shown
from ppl_vae.pairs.arguments import Batch, Data
from ppl_vae.pairs.autoguides import ProgramModule, copied, finished, has_parameters
from ppl_vae.pairs.modules import Program, follows_rows
from ppl_vae.pairs.pair import Pair
from ppl_vae.programs import FamilyGuide
from ppl_vae.training.arguments import require_elbo
from ppl_vae.training.warning import warn_caller


def can_be_trained(model: nn.Module, guide: nn.Module) -> bool:
    """Says whether there is anything to fit; an autoguide makes its parameters when it is first run."""
    leaves = (leaf for part in (model, guide) for leaf in part.parameters())
    return not follows_rows(guide) or any(leaf.requires_grad for leaf in leaves)


def finished_guide(model: nn.Module, guide: nn.Module, data: Data, plate: str | None) -> nn.Module:
    """Finishes a fitted guide; one that this makes is run once, which fails where its draws have no density."""
    made = finished(model, guide, data)
    if made is not guide:
        Pair(model, made, data, plate=plate)
    return made  # type: ignore[return-value]


def leave_out(name: str, error: InputError, remaining: dict[str, Any], *others: dict[str, Any]) -> None:
    """Takes a guide that fails after its fit out of the table, with a warning; the error where no other remains."""
    if len(remaining) == 1:
        raise error
    for part in (remaining, *others):
        part.pop(name, None)
    warn_caller(f"{name} is left out of the table: {error}")


def by_itself(guide: nn.Module, model: nn.Module) -> nn.Module:
    """Copies a guide but for the model in it: guides that share an encoder would go on from each other's training."""
    return copied(guide, (guide,), {id(model): model})


def all_copied(
    model: Program, guides: Mapping[str, nn.Module], base: nn.Module | None, data: Data
) -> tuple[nn.Module, dict[str, nn.Module], nn.Module | None]:
    """Copies the programs; a model that is a function becomes a module, whose autoguides have their own parameters."""
    memo: dict[int, Any] = {}
    if not isinstance(model, nn.Module):
        if has_parameters(model, data):
            raise InputError(
                "model is a function with parameters; compare freezes and copies modules: make it a PyroModule, or fit "
                "each pair by itself and compare its tightness"
            )
        memo[id(model)] = model = ProgramModule(model)  # which the guides are of from now on
        memo[id(model)] = model
    programs = (model, *guides.values(), base)
    return copied((model, dict(guides), base), programs, memo)


def pairs_of(
    programs: Mapping[str, tuple[nn.Module, nn.Module]], batch: Batch, plate: str | None, device: torch.device
) -> dict[str, Pair]:
    """Makes the pairs on the test data; those that were not trained are moved to the device of the others."""
    for part in (part for both in programs.values() for part in both):
        part.to(device)
    pairs = {name: Pair(*both, batch, plate=plate) for name, both in programs.items()}
    for pair in pairs.values():
        pair.require_all("the gap to log p(x)")
    if len({pair.unit.whole for pair in pairs.values()}) > 1:
        whole = [repr(name) for name, pair in pairs.items() if pair.unit.whole]
        raise InputError(
            f"the guides {', '.join(whole)} have one log-weight for all the data, the others one for each data point, "
            "so they can't stand in one table: compare them with each other, or the others"
        )
    return pairs


def refuse_other_kinds(guides: Any, base: Any) -> None:
    """Raises InputError where the guides are not modules by name, or there is none."""
    if not isinstance(guides, Mapping):
        raise InputError(f"guides is a {type(guides).__name__}; expected guides by name, such as {{'diagonal': guide}}")
    if not guides:
        raise InputError("there is no guide to compare: give at least one")
    for name, program in guides.items():
        if not isinstance(name, str) or (name == "model" and base is not None):
            why = ", which names the model's training" if name == "model" else ""
            raise InputError(f"a guide's name is {shown(name)}{why}; expected another string")
        if not isinstance(program, nn.Module):
            raise InputError(
                f"guide {name!r} is a {type(program).__name__}; compare copies modules: make it a PyroModule, or fit "
                "each pair by itself and compare its tightness"
            )


def can_be_split(pair: Pair) -> bool:
    """Says whether the gap of a pair can be taken apart."""
    guide: Any = pair.guide
    if pair.unit.whole:
        return pair.is_bound and any(leaf.requires_grad for leaf in guide.parameters())
    return isinstance(guide, FamilyGuide) and guide.family(guide.params(*pair.rows(0, 1))).has_rsample


def elbo_for(elbo: ELBO | Callable[[Any], ELBO] | None, guide: nn.Module) -> ELBO | None:
    """Returns what a guide is trained with; None for the usual ELBO."""
    if elbo is None:
        return None
    made: Any = elbo if isinstance(elbo, ELBO | type) or not callable(elbo) else elbo(guide)
    if made is not None:
        require_elbo(made)
    return made
