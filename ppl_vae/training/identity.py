"""What tells one training from another, in words: a checkpoint holds them, and is refused to another run.

Compared are the names, classes and settings of modules, and the code of functions of one's own; not that of classes.
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType
from typing import Any

from pyro.infer import ELBO
from torch import Tensor, nn
from torch.optim import Optimizer

from ppl_vae.errors import InputError
from ppl_vae.graphs.private import OF_EVERY_MODULE, PYRO_PREFIX
from ppl_vae.pairs.modules import Program, modules_of, names_of
from ppl_vae.pairs.restore import random_state_kept
from ppl_vae.training.batches import Batches
from ppl_vae.training.digests import digest
from ppl_vae.training.preparation import Prepared

Identity = dict[str, str]
HOW_IT_COMPUTES = ("fused", "foreach", "capturable")  # of an optimizer's options; the others say what
SCHEDULE, NOTHING = "schedule of the rate", "None"
_LIBRARIES = ("torch", "pyro", "ppl_vae", "torchvision", "zuko")


def run_identity(source: Batches, ready: Prepared, optimizer: str, seed: int | None, precision: str) -> Identity:
    """Describes what stays as it is in a training: with any of this changed, none goes on from its checkpoint."""
    pair = ready.trainable
    trained = {id(leaf) for leaf in pair.parameters}
    frozen = [leaf for module in ready.modules for leaf in module.parameters() if id(leaf) not in trained]
    return {
        "data": source.fingerprint(),
        "batch size": str(source.batch_size),
        "seed": str(seed),
        "optimizer": optimizer,
        "precision": precision,
        **tensors_identity(pair.names, pair.parameters),
        "frozen parameters": f"{len(frozen)} of digest {digest(frozen)}" if frozen else "nothing",
    }


def code_identity(elbo: ELBO, transform: Any, schedule: Any, *programs: Program | nn.Module | None) -> Identity:
    """Describes what runs in a training, as it is at this moment."""
    return {
        "estimator": settings_of(elbo, ("max_plate_nesting",)),  # which it finds out at a run
        "transform": described(transform),
        SCHEDULE: described(schedule),
        **programs_identity(*programs),
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
    """Describes programs, and each module behind them by its class and the numbers, words and functions that set it."""
    identity: Identity = {}
    seen: set[int] = set()
    for kind, program in zip(("model", "guide", "estimator's network"), programs, strict=False):
        if program is not None and not isinstance(program, nn.Module):
            identity[kind] = described(program)
        for number, module in enumerate(modules_of(program)):
            root = kind if module is program else f"{kind}[{number}]"
            with random_state_kept():  # a flow of zuko's draws a random number for the words of extra_repr
                for name, part in module.named_modules(prefix=root):
                    if id(part) not in seen:
                        seen.add(id(part))
                        identity |= _module(name, part)
    return identity


def tensors_identity(names: Iterable[str], tensors: Iterable[Tensor]) -> Identity:
    """Describes what is trained by names and shapes."""
    pairs = zip(names, tensors, strict=True)
    return {f"parameter {name}": f"{tensor.dtype} of shape {tuple(tensor.shape)}" for name, tensor in pairs}


def optimizer_identity(steppers: Iterable[Optimizer]) -> str:
    """Describes optimizers by their classes and all their options, as they are before a schedule changes any."""
    words = []
    for stepper in steppers:
        groups = [
            ", ".join(
                f"{key}={described(value)}"
                for key, value in sorted(group.items())
                if key not in ("params", *HOW_IT_COMPUTES)
            )
            for group in stepper.param_groups
        ]
        words.append(f"{type(stepper).__name__}({'; '.join(dict.fromkeys(groups))})")
    return " and ".join(words)


def described(value: Any) -> str:
    """Puts a setting in words: a function by its name, and one of no library by its code and what it holds too."""
    if isinstance(value, partial):
        inside = [described(part) for part in (value.func, *value.args)]
        inside += [f"{key}={described(part)}" for key, part in sorted(value.keywords.items())]
        return f"partial({', '.join(inside)})"
    if isinstance(value, MethodType):
        return f"{type(value.__self__).__name__}.{value.__func__.__name__}"
    if isinstance(value, FunctionType):
        return _function(value)
    if isinstance(value, type | BuiltinFunctionType):
        return f"{value.__module__}.{value.__qualname__}".removeprefix("None.")
    if isinstance(value, tuple | list):
        return f"({', '.join(map(described, value))})"
    if isinstance(value, bool | int | float | str | None):
        return repr(value)
    if isinstance(value, Tensor):
        return f"a tensor {digest([value])}"
    return f"a {type(value).__module__}.{type(value).__qualname__}"


def settings_of(thing: Any, skip: Iterable[str]) -> str:
    """Describes an object by its class and the numbers, names and functions that it holds."""
    settings = ", ".join(f"{name}={described(value)}" for name, value in _settings(thing, skip))
    return f"{type(thing).__module__}.{type(thing).__qualname__}({settings})"


def _module(name: str, part: nn.Module) -> Identity:
    kind = {name: f"{type(part).__module__}.{type(part).__qualname__}({part.extra_repr()})"}
    skip = {key for key in part.__dict__ if key in OF_EVERY_MODULE or key.startswith(PYRO_PREFIX)}
    return kind | {f"{name}.{key}": described(value) for key, value in _settings(part, skip)}


def _settings(thing: Any, skip: Iterable[str]) -> Iterator[tuple[str, Any]]:
    """What an object holds that does not grow: no lists, no dictionaries."""
    plain = bool | int | float | str | None | type | partial | FunctionType | MethodType | BuiltinFunctionType
    for name, value in sorted(getattr(thing, "__dict__", {}).items()):
        inside = value if isinstance(value, tuple) else (value,)
        if name not in skip and all(isinstance(part, plain) for part in inside):
            yield name, value


def _function(function: FunctionType, inside: tuple[int, ...] = ()) -> str:
    """Its name, and for one's own a digest of its code and of the numbers, words and functions that it refers to."""
    name = f"{function.__module__}.{function.__qualname__}"
    library = function.__module__.partition(".")[0] in _LIBRARIES and "<" not in name
    if library or id(function) in inside:
        return name
    refers = names_of(function) | (function.__kwdefaults__ or {}) | dict(enumerate(function.__defaults__ or ()))
    held = [
        f"{key}={_function(value, (*inside, id(function))) if isinstance(value, FunctionType) else described(value)}"
        for key, value in refers.items()
        if isinstance(value, bool | int | float | str | FunctionType)
    ]
    words = "\n".join([*_code(function.__code__), *sorted(held)])
    return f"{name} (code {hashlib.blake2b(words.encode(), digest_size=4).hexdigest()})"


def _code(code: CodeType) -> Iterator[str]:
    yield code.co_code.hex()
    yield repr(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _code(constant)
        else:
            yield repr(constant)
