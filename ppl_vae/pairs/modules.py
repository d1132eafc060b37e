"""Which modules lie behind a pair's programs: they are moved, put in eval mode and looked at together."""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from types import CodeType, FunctionType, MethodType
from typing import Any

from pyro.infer.autoguide import AutoGuide
from torch import nn

Program = Callable[..., Any]


def modules_of(*programs: Program | None) -> list[nn.Module]:
    """The modules that programs are, whose methods they are, or that their functions refer to, each once.

    A ``partial`` and Pyro's handlers, ``config_enumerate`` say, are looked into.
    """
    found = [*own_modules(*programs), *(module for _, module in _referred(programs))]
    return list(dict.fromkeys(found))


def own_modules(*programs: Program | None) -> list[nn.Module]:
    """The modules that programs are, or whose methods they are (as in Pyro's own VAE example)."""
    owners = (part.__self__ for part in _behind(programs) if isinstance(part, MethodType))
    found = [*programs_that_are_modules(*programs), *(owner for owner in owners if isinstance(owner, nn.Module))]
    return list(dict.fromkeys(found))


def programs_that_are_modules(*programs: Program | None) -> list[nn.Module]:
    """Those of the programs that are modules."""
    return [part for part in _behind(programs) if isinstance(part, nn.Module)]


def follows_rows(guide: Program | None) -> bool:
    """Whether a guide can be run on a few of the rows; an autoguide makes its parameters for those of its first run."""
    return not any(isinstance(part, AutoGuide) for owner in own_modules(guide) for part in owner.modules())


def parameters_beside(*programs: Program) -> dict[str, nn.Parameter]:
    """What could be trained in modules that are no programs, by name.

    Pyro trains of it what ``pyro.module`` or ``pyro.param`` registers, and of programs that are modules, everything.
    """
    whole = programs_that_are_modules(*programs)
    named = [("", owner) for owner in own_modules(*programs)]
    named += [(f"{name}.", module) for name, module in _referred(programs)]
    found: dict[int, tuple[str, nn.Parameter]] = {}
    for name, module in named:
        for key, leaf in module.named_parameters() if module not in whole else ():
            if leaf.requires_grad:
                found.setdefault(id(leaf), (name + key, leaf))
    return dict(found.values())


def _behind(programs: Iterable[Any]) -> Iterator[Any]:
    for program in programs:
        if isinstance(program, partial):
            yield from _behind((program.func, *program.args, *program.keywords.values()))
        else:
            yield program


def _referred(programs: Iterable[Any]) -> list[tuple[str, nn.Module]]:
    """The modules that functions, and methods of other objects, refer to, with the names that they have there."""
    found: list[tuple[str, nn.Module]] = []
    seen: set[int] = set()
    left = [part for part in _behind(programs) if not isinstance(part, nn.Module)]
    while left:
        part = left.pop()
        if isinstance(part, MethodType):
            names = {} if isinstance(part.__self__, nn.Module) else dict(getattr(part.__self__, "__dict__", {}))
            left.append(part.__func__)
        elif isinstance(part, FunctionType) and id(part) not in seen:
            names = names_of(part)
        else:
            continue
        seen.add(id(part))
        for name, value in names.items():
            inside = value.values() if isinstance(value, dict) else value
            inside = inside if isinstance(value, dict | list | tuple) else (value,)
            found += [(name, module) for module in inside if isinstance(module, nn.Module)]
            left += [one for one in _behind(inside) if isinstance(one, FunctionType | MethodType) and _near(one, part)]
    return found


def names_of(function: FunctionType) -> dict[str, Any]:
    """What a function's closure and the globals that its code names hold."""
    found = {}
    for name, (holder, key) in places_of(function).items():
        try:
            found[name] = holder[key] if isinstance(holder, dict) else getattr(holder, key)
        except ValueError:  # a cell that is not filled yet
            continue
    return found


def places_of(function: FunctionType) -> dict[str, tuple[Any, str]]:
    """Where a function's closure and the globals that its code names are: a holder, and the key or attribute in it."""
    known = function.__globals__
    found: dict[str, tuple[Any, str]] = {name: (known, name) for name in named_in(function.__code__) if name in known}
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        found[name] = cell, "cell_contents"
    return found


def named_in(code: CodeType) -> set[str]:
    """The names that code uses, that of the functions inside it too."""
    inner = (named_in(part) for part in code.co_consts if isinstance(part, CodeType))
    return set(code.co_names).union(*inner)


def _near(one: Any, other: Any) -> bool:
    """Whether two functions are of one file: libraries are not searched."""
    return getattr(one, "__module__", None) == getattr(other, "__module__", None)
