"""Which modules lie behind a pair's programs: they are moved, put in eval mode and looked at together."""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from types import CodeType, FunctionType, MethodType
from typing import Any

from pyro.infer.autoguide import AutoGuide
from torch import nn

Program = Callable[..., Any]
_CALL = "__call__"


def modules_of(*programs: Program | None) -> list[nn.Module]:
    """Lists the modules that programs are, whose methods they are, or that their functions refer to, each once.

    A ``partial`` and Pyro's handlers, ``config_enumerate`` say, are looked into.
    """
    modules = [*own_modules(*programs), *(module for _, module in _referred(programs))]
    return list(dict.fromkeys(modules))


def own_modules(*programs: Program | None) -> list[nn.Module]:
    """Lists the modules that programs are, or whose methods they are (as in Pyro's own VAE example)."""
    owners = (part.__self__ for part in _behind(programs) if isinstance(part, MethodType))
    modules = [*programs_that_are_modules(*programs), *(owner for owner in owners if isinstance(owner, nn.Module))]
    return list(dict.fromkeys(modules))


def programs_that_are_modules(*programs: Program | None) -> list[nn.Module]:
    """Lists those programs that are modules themselves."""
    return [part for part in _behind(programs) if isinstance(part, nn.Module)]


def follows_rows(guide: Program | None) -> bool:
    """Says whether a guide can be run on a few of the rows.

    An autoguide can't: it makes its parameters for the rows of its first run.
    """
    return not any(isinstance(part, AutoGuide) for owner in own_modules(guide) for part in owner.modules())


def parameters_beside(*programs: Program) -> dict[str, nn.Parameter]:
    """Finds what could be trained in modules that are no programs, by name.

    Pyro trains of it what ``pyro.module`` or ``pyro.param`` registers, and of programs that are modules, everything.
    """
    whole = programs_that_are_modules(*programs)
    named = [("", owner) for owner in own_modules(*programs)]
    named += [(f"{name}.", module) for name, module in _referred(programs)]
    leaves: dict[int, tuple[str, nn.Parameter]] = {}
    for name, module in named:
        for key, leaf in module.named_parameters() if module not in whole else ():
            if leaf.requires_grad:
                leaves.setdefault(id(leaf), (name + key, leaf))
    return dict(leaves.values())


def _behind(programs: Iterable[Any]) -> Iterator[Any]:
    for program in programs:
        if isinstance(program, partial):
            yield from _behind((program.func, *program.args, *program.keywords.values()))
        elif (method := _call_of(program)) is not None:
            yield method
        else:
            yield program


def _call_of(program: Any) -> MethodType | None:
    """Returns the method behind an object that can be called: what it holds is looked into as a method's object is."""
    if isinstance(program, nn.Module | type | MethodType | FunctionType):
        return None
    method = getattr(program, _CALL, None)
    return method if isinstance(method, MethodType) else None


def _referred(programs: Iterable[Any]) -> list[tuple[str, nn.Module]]:
    """Lists the modules that functions, and methods of other objects, refer to, with the names that they have there."""
    named: list[tuple[str, nn.Module]] = []
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
            named += [(name, module) for module in inside if isinstance(module, nn.Module)]
            functions = (inner for inner in _behind(inside) if isinstance(inner, FunctionType | MethodType))
            left += [function for function in functions if _near(function, part)]
    return named


def names_of(function: FunctionType) -> dict[str, Any]:
    """Returns what a function's closure and the globals that its code names hold, by name."""
    values = {}
    for name, (holder, key) in places_of(function).items():
        try:
            values[name] = holder[key] if isinstance(holder, dict) else getattr(holder, key)
        except ValueError:  # a cell that is not filled yet
            continue
    return values


def places_of(function: FunctionType) -> dict[str, tuple[Any, str]]:
    """Returns where a function's closure and globals are, by name: a holder, and the key or attribute in it.

    The globals are those that its code names.
    """
    known = function.__globals__
    names = sorted(named_in(function.__code__))  # a set has another order in each process
    places: dict[str, tuple[Any, str]] = {name: (known, name) for name in names if name in known}
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        places[name] = cell, "cell_contents"
    return places


def named_in(code: CodeType) -> set[str]:
    """Returns the names that code uses, those of the functions inside it too."""
    inner = (named_in(part) for part in code.co_consts if isinstance(part, CodeType))
    return set(code.co_names).union(*inner)


def _near(function: Any, other: Any) -> bool:
    """Says whether two functions are of one file: libraries are not searched."""
    return getattr(function, "__module__", None) == getattr(other, "__module__", None)
