"""What tells one training from another, in words: a checkpoint holds them, and is refused to another run.

Compared are names, settings, buffers, and the code of functions and classes of one's own.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from pyro.infer import ELBO
from torch import Tensor, nn
from torch.optim import SGD, Optimizer

from ppl_vae.errors import InputError
from ppl_vae.graphs.private import hooks_of_module
from ppl_vae.pairs.modules import Program, modules_of
from ppl_vae.pairs.restore import random_state_kept
from ppl_vae.training.batches import Batches
from ppl_vae.training.descriptions import Words
from ppl_vae.training.digests import digest
from ppl_vae.training.preparation import Prepared

Identity = dict[str, str]
HOW_IT_COMPUTES = ("fused", "foreach", "capturable")  # of an optimizer's options; the others say what
SCHEDULE, NOTHING, BUFFER = "schedule of the rate", "None", "buffer"
KL_SCHEDULE = "schedule of the KL weight"
_OF_OPTIMIZERS = {*vars(SGD([torch.zeros(1)])), "step"}  # the last one is a schedule's
_FOUND_OUT = ("max_plate_nesting", "state")  # by an estimator, at a run


def run_identity(
    source: Batches,
    held_out: Batches | None,
    ready: Prepared,
    optimizer: Identity,
    seed: int | None,
    precision: str,
) -> Identity:
    """Describes what stays as it is in a training: with any of this changed, none goes on from its checkpoint."""
    pair = ready.trainable
    trained = {id(leaf) for leaf in pair.parameters}
    frozen = [leaf for module in ready.modules for leaf in module.parameters() if id(leaf) not in trained]
    return {
        "data": source.fingerprint(),
        "held-out data": NOTHING if held_out is None else held_out.fingerprint(),
        "batch size": str(source.batch_size),
        "seed": str(seed),
        "precision": precision,
        **optimizer,
        **tensors_identity(pair.names, pair.parameters),
        "frozen parameters": f"{len(frozen)} of digest {digest(frozen)}" if frozen else NOTHING,
    }


def code_identity(
    source: Batches,
    elbo: ELBO,
    optimizers: Sequence[Optimizer],
    transform: Any,
    schedule: Any,
    objective: Mapping[str, Any],
    ready: Prepared,
    *programs: Program,
) -> Identity:
    """Describes what runs in a training, as it is at this moment.

    ``objective`` is what makes it another one than the bound.
    """
    words = Words()
    trained = {id(leaf) for leaf in ready.trainable.parameters}
    of_transform = [leaf for part in modules_of(transform) for leaf in part.parameters() if id(leaf) not in trained]
    settings = ", ".join(f"{name}={value}" for name, value in words.of_attributes(elbo, _FOUND_OUT))
    return {
        "loader": words.of(source.loader),
        "estimator": f"{words.of_class(type(elbo))}({settings})",
        "transform": words.of(transform),
        "transform's parameters": f"{len(of_transform)} of digest {digest(of_transform)}" if of_transform else NOTHING,
        SCHEDULE: words.of(schedule),
        **{name: words.of(value) for name, value in objective.items()},
        **_optimizers(words, optimizers),
        **_programs(words, *programs, ready.learned, transform),
    }


def refuse_other(path: Path, theirs: Identity, ours: Identity, remedy: str, moving: Sequence[str] = ()) -> None:
    """Raises an InputError where a file is that of another run, but for what moves in the course of one."""
    for name in [*ours, *(name for name in theirs if name not in ours)]:
        if name not in moving and theirs.get(name) != ours.get(name):
            there, here = (identity.get(name, "nothing") for identity in (theirs, ours))
            raise InputError(
                f"{path} is the checkpoint of another run, whose {name} is {there}; here it is {here}: "
                f"{remedy}, or go on with the same settings"
            )


def programs_identity(*programs: Program | nn.Module | None) -> Identity:
    """Describes programs, and each module behind them by its class and the settings, functions and buffers it holds."""
    return _programs(Words(), *programs)


def tensors_identity(names: Iterable[str], tensors: Iterable[Tensor]) -> Identity:
    """Describes what is trained by names and shapes."""
    pairs = zip(names, tensors, strict=True)
    return {f"parameter {name}": f"{tensor.dtype} of shape {tuple(tensor.shape)}" for name, tensor in pairs}


def optimizer_identity(optimizers: Sequence[Optimizer], parameters: Sequence[Tensor]) -> Identity:
    """Describes all options of optimizers, as they are before a schedule changes any."""
    words, numbers = Words(), {id(leaf): str(number) for number, leaf in enumerate(parameters)}
    identity: Identity = {}
    for name, optimizer in _named(optimizers):
        for number, group in enumerate(optimizer.param_groups):
            of_group = f" of group {number}" if len(optimizer.param_groups) > 1 else ""
            members = " ".join(numbers.get(id(leaf), "?") for leaf in group["params"])
            options = {key: words.of(value) for key, value in group.items() if key not in ("params", *HOW_IT_COMPUTES)}
            options |= {"parameters": members} if of_group else {}
            identity |= {f"{name}'s {key}{of_group}": value for key, value in options.items()}
    return identity


def _optimizers(words: Words, optimizers: Sequence[Optimizer]) -> Identity:
    """Describes optimizers by their classes, and what those of one's own hold beside options."""
    identity: Identity = {}
    for name, optimizer in _named(optimizers):
        identity[name] = words.of_class(type(optimizer))
        identity |= {f"{name}'s {key}": value for key, value in words.of_attributes(optimizer, _private(optimizer))}
    return identity


def _private(optimizer: Optimizer) -> set[str]:
    """Names what torch notes in an optimizer."""
    return _OF_OPTIMIZERS | {name for name in vars(optimizer) if name.startswith("_")}


def _named(optimizers: Sequence[Optimizer]) -> list[tuple[str, Optimizer]]:
    if len(optimizers) == 1:
        return [("optimizer", optimizers[0])]
    return [(f"optimizer {number}", optimizer) for number, optimizer in enumerate(optimizers)]


def _programs(words: Words, *programs: Program | nn.Module | None) -> Identity:
    identity: Identity = {}
    seen: set[int] = set()
    for kind, program in zip(("model", "guide", "estimator's network", "transform"), programs, strict=False):
        if program is not None and not isinstance(program, nn.Module) and kind != "transform":
            identity[kind] = words.of(program)
        for number, module in enumerate(modules_of(program)):
            root = kind if module is program else f"{kind}[{number}]"
            for name, part in module.named_modules(prefix=root):
                if id(part) not in seen:
                    seen.add(id(part))
                    identity |= _module(words, name, part)
    return identity


def _module(words: Words, name: str, part: nn.Module) -> Identity:
    settings = {f"{name}.{key}": value for key, value in words.of_attributes(part)}
    buffers = {f"{BUFFER} {name}.{key}": words.of(buffer) for key, buffer in part.named_buffers(recurse=False)}
    with random_state_kept():  # zuko's flows draw numbers for their words
        kind = f"{words.of_class(type(part))}({part.extra_repr()})"
    hooks = {f"{name}'s hooks": words.of(hooks)} if (hooks := hooks_of_module(part)) else {}
    return {name: kind} | settings | buffers | hooks
