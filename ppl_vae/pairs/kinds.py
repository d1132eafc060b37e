"""What the parameters of a public function may be, as its annotations have it; numbers of numpy become Python's."""

import inspect
import os
from collections.abc import Callable, Mapping
from functools import wraps
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, ParamSpec, TypeVar, Union, get_args, get_origin

import numpy as np

from ppl_vae.errors import InputError, is_number, require_seed, shown
from ppl_vae.pairs.modules import Program

P = ParamSpec("P")
R = TypeVar("R")

# What may be given for an annotation, and in words; an annotation that is not here is looked at by the function itself.
_KINDS: dict[Any, tuple[Callable[[Any], bool], str]] = {
    NoneType: (lambda value: value is None, "None"),
    bool: (lambda value: isinstance(value, int) and value in (0, 1), "True or False"),
    float: (is_number, "a number"),
    str: (lambda value: isinstance(value, str), "a string"),
    Path: (lambda value: isinstance(value, os.PathLike), "a path"),
    Program: (
        lambda value: callable(value) and not isinstance(value, type),
        "a Pyro program: a made module, or a function",
    ),
    Callable: (callable, "a function"),
}


def looked_at(function: Callable[P, R]) -> Callable[P, R]:
    """Refuses arguments of other kinds than a function is annotated with, before it does anything.

    Examples:
        >>> from ppl_vae.pairs.kinds import looked_at
        >>> @looked_at
        ... def measure(particles: int, progress: bool = True):
        ...     return particles
        >>> measure(2, progress="no")
        Traceback (most recent call last):
        ppl_vae.errors.InputError: progress is 'no'; expected True or False
    """
    signature = inspect.signature(function)

    @wraps(function)
    def ask(*args: P.args, **kwargs: P.kwargs) -> R:
        plain: Any = tuple(map(_plain, args)), {name: _plain(value) for name, value in kwargs.items()}
        args, kwargs = plain
        try:
            given = signature.bind(*args, **kwargs)
        except TypeError:
            return function(*args, **kwargs)  # Python says what is missing or unknown
        _require_kinds(signature.parameters, given.arguments)
        return function(*args, **kwargs)

    return ask


def _plain(value: Any) -> Any:
    """Makes numpy's numbers Python's, which every library below takes alike and a checkpoint holds."""
    return value.item() if isinstance(value, np.bool_ | np.integer | np.floating) else value


def _require_kinds(parameters: Mapping[str, inspect.Parameter], given: Mapping[str, Any]) -> None:
    for name, value in given.items():
        kind = parameters[name].annotation
        members = get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)
        kinds = [_KINDS[key] for key in map(_key, members) if key in _KINDS]
        if len(kinds) == len(members) and not any(fits(value) for fits, _ in kinds):
            program = Program in members
            expected = " or ".join(words for _, words in kinds)
            raise InputError(f"{'the ' if program else ''}{name} is {shown(value)}; expected {expected}")
        if name == "seed" and (value is not None or NoneType not in members):
            require_seed(value)


def _key(kind: Any) -> Any:
    """Returns what an annotation is found by: any function but a program is one kind."""
    if kind == Program:
        return Program
    return Callable if get_origin(kind) is get_origin(Program) else kind
