"""What programs hold outside their parameters and buffers: numbers, tensors, generators, iterators.

They hold it in closures, in the globals that their code names, in attributes and in containers. A graph of a program
has it as it was when the program was traced, so it must be noticed when it changes.
"""

import sys
from argparse import Namespace
from collections import UserDict, UserList, deque
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from threading import local
from types import BuiltinMethodType, FunctionType, MethodType, ModuleType, SimpleNamespace
from typing import Any

import numpy as np
from pyro.infer import ELBO
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Sampler

from ppl_vae.graphs.private import hooks_of_module, hooks_of_tensor
from ppl_vae.pairs.contents import PLAIN, attributes_of, content_of, position_of
from ppl_vae.pairs.modules import Program, modules_of, named_in, places_of

_MOST = 20_000  # values that are looked at
_SMALL_BYTES = 2**12
# Classes of libraries that hold what the user gave them.
_NAMESPACES = (Namespace, SimpleNamespace, UserDict, UserList, local, DataLoader, Dataset, Sampler)
_LIBRARIES = sys.stdlib_module_names | {
    "arviz",
    "matplotlib",
    "numpy",
    "pandas",
    "ppl_vae",
    "pyro",
    "scipy",
    "sklearn",
    "torch",
    "torchvision",
    "xarray",
    "zuko",
}
_OF_EVERY_MODULE = nn.Module().__dict__.keys()
_GONE = object()
_ANY = -1


@dataclass(frozen=True)
class _Place:
    """The place of a value, under a key of a dictionary or list or as an attribute, and what was there."""

    holder: Any
    key: Any
    value: Any

    def now(self) -> Any:
        try:
            if isinstance(self.holder, dict | list):
                return self.holder[self.key]
            return getattr(self.holder, self.key)
        except (LookupError, AttributeError, ValueError):
            return _GONE


@dataclass(frozen=True)
class _Versioned:
    """A tensor, and how often it was changed in place."""

    tensor: Tensor
    version: int


class Held:
    """A picture of what programs hold at this moment.

    Functions, methods, modules, instances and containers are looked into; what libraries hold is not.

    Args:
        programs: the model and the guide, say.
        changing: tensors that may change: those that are trained, beside the parameters and buffers of the programs.
        apart: classes of values that are no part of the picture, as somebody else looks after them.

    Attributes:
        others: the values of the classes ``apart``, by name.
    """

    def __init__(
        self, programs: Iterable[Program], changing: Iterable[Tensor] = (), apart: tuple[type, ...] = ()
    ) -> None:
        programs, changing = tuple(programs), tuple(changing)
        own_tensors = [tensor for part in modules_of(*programs) for tensor in (*part.parameters(), *part.buffers())]
        self._moving = {tensor.data_ptr() for tensor in (*own_tensors, *changing)} - {0}
        self._apart, self.others = apart, dict[str, Any]()
        self._places: dict[str, _Place] = {}
        self._states: dict[str, Any] = {}
        self._small: list[tuple[str, Any, Any]] = []  # what is cheap to look at again
        self._seen: dict[int, Any] = {}  # it keeps what was seen alive, so that nothing else gets the same id
        self._left: deque[tuple[str, Any]] = deque((_name(program), program) for program in programs)
        for tensor in (*own_tensors, *changing):
            self._left += [("a hook of a parameter", hook) for hook in hooks_of_tensor(tensor)[0]]
        for program in programs:
            if isinstance(program, ELBO):  # a library's, but a setting of it may be changed
                self._look_at_attributes(_name(program), program, vars(program))
        while self._left and len(self._seen) + len(self._places) < _MOST:
            self._look(*self._left.popleft())

    def changed_since(self, before: "Held", but: Container[str] = ()) -> str:
        """Names something that is new, gone or another than it was in an earlier picture; empty for nothing."""
        for name in {**self._states, **before._states}:
            if name not in but and not _same(before._states.get(name, _GONE), self._states.get(name, _GONE)):
                return name
        for name in {**self._places, **before._places}:
            places = before._places.get(name), self._places.get(name)
            if name in but:
                continue
            if None in places or not _same(places[0].value, places[1].value):  # type: ignore[union-attr]
                return name
        return ""

    def drifted(self) -> str:
        """Names a number or tensor that is another by now; cheap enough for each step of a training."""
        for name, place in self._places.items():
            now = place.now()
            if now is not place.value and not _same(place.value, _kept(now)):
                return name
        return next((name for name, value, state in self._small if not _same(content_of(value), state)), "")

    def _look(self, name: str, value: Any) -> None:
        if id(value) in self._seen:
            return
        self._seen[id(value)] = value
        if isinstance(value, self._apart):
            self.others[_free(name, self.others)] = value
        elif isinstance(value, FunctionType):
            self._look_at_function(name, value)
        elif isinstance(value, MethodType):
            self._left += [(_name(value.__self__), value.__self__), (name, value.__func__)]
        elif isinstance(value, BuiltinMethodType) and not isinstance(value.__self__, ModuleType):
            self._left.append((name, value.__self__))
        elif isinstance(value, partial):
            self._left += [(name, value.func), (name, value.args), (name, value.keywords)]
        elif isinstance(value, dict | list | tuple | set | frozenset | deque):
            self._look_at_items(name, value)
        elif isinstance(value, nn.Module):
            self._look_at_attributes(name, value, [key for key in vars(value) if key not in _OF_EVERY_MODULE])
            for tensors in (value._parameters, value._buffers):
                for key in tensors:
                    self._add(f"{name}.{key}", tensors, key)
            self._left += [(f"a hook of {name}", hook) for hook in hooks_of_module(value)]
            self._left += [(f"{name}.{key}", part) for key, part in value._modules.items() if part is not None]
            self._look_at_class(type(value), name, value)
        elif isinstance(value, type):
            self._look_at_class(value)
        elif isinstance(value, _NAMESPACES) or (not _of_library(type(value)) and attributes_of(value)):
            self._look_at_attributes(name, value, attributes_of(value))
            self._look_at_class(type(value), name, value)
        elif (content := content_of(value)) is not None:
            self._states[name] = content
            if not isinstance(value, np.ndarray) or value.nbytes <= _SMALL_BYTES:
                self._small.append((name, value, content))
        elif (position := position_of(value)) is not None:  # others may move it between two runs
            self._states[name] = position

    def _look_at_function(self, name: str, function: FunctionType) -> None:
        for key, (holder, attribute) in places_of(function).items():
            if attribute == "cell_contents" or not _of_library(function):  # what a wrapper wraps is in its closure
                self._add(key, holder, attribute, named_in(function.__code__))
        if not _of_library(function):
            self._left += [(name, function.__defaults__), (name, function.__kwdefaults__)]
            self._look_at_attributes(name, function, vars(function))

    def _look_at_items(self, name: str, container: Any) -> None:
        self._states[f"the length of {name}"] = len(container)
        self._small.append((f"the length of {name}", container, len(container)))
        indexed = container if isinstance(container, dict | list) else list(container)
        for key in list(indexed) if isinstance(indexed, dict) else range(len(indexed)):
            if len(self._seen) + len(self._places) > _MOST:
                return
            self._add(f"{name}[{key!r}]", indexed, key)

    def _look_at_attributes(self, name: str, owner: Any, keys: Iterable[str]) -> None:
        # what a transform of Pyro's has computed last is written before it is read, in each run
        passed = ("_pyro", "__", "_cached") if _of_library(type(owner)) else ("_pyro", "__")
        for key in keys:
            if not key.startswith(passed):
                self._add(f"{name}.{key}", owner, key)

    def _look_at_class(self, kind: type, name: str = "", owner: Any = None) -> None:
        """Looks at the functions of a class, and at its plain attributes as an instance has them."""
        for base in kind.__mro__:
            if _of_library(base):
                continue
            for key, part in vars(base).items():
                inner = part.fget if isinstance(part, property) else getattr(part, "__func__", part)
                if isinstance(inner, FunctionType):
                    self._left.append((key, inner))
                elif not key.startswith("__") and (owner is None or key not in attributes_of(owner)):
                    self._add(f"{name or base.__name__}.{key}", owner if owner is not None else base, key)

    def _add(self, name: str, holder: Any, key: Any, names: Iterable[str] = ()) -> None:
        value = _kept(_Place(holder, key, None).now())
        name = _free(name, self._places)
        if isinstance(value, ModuleType):
            if value.__name__.partition(".")[0] not in _LIBRARIES:
                for attribute in sorted(set(names) & vars(value).keys()):
                    self._add(f"{name}.{attribute}", value, attribute)
        elif isinstance(value, PLAIN):
            self._places[name] = _Place(holder, key, value)
        elif isinstance(value, _Versioned):
            # it may change, and must stay the tensor that it is; an empty one has no place in memory to know it by
            moves = value.tensor.data_ptr() in self._moving or not value.tensor.numel()
            self._places[name] = _Place(holder, key, _Versioned(value.tensor, _ANY) if moves else value)
        elif value is not _GONE:
            self._left.append((name, value))


def _kept(value: Any) -> Any:
    """Returns a value as a picture keeps it."""
    if not isinstance(value, Tensor):
        return value
    return _Versioned(value, _ANY if value.is_inference() else value._version)


def _free(name: str, taken: Mapping[str, Any]) -> str:
    """Makes a name that is not taken: two functions may have variables of the same name."""
    while name in taken:
        name += "'"
    return name


def _name(value: Any) -> str:
    return getattr(value, "__name__", type(value).__name__)


def _of_library(value: Any) -> bool:
    return str(getattr(value, "__module__", "")).partition(".")[0] in _LIBRARIES


def _same(before: Any, now: Any) -> bool:
    """Says whether a value is what it was; a NaN is the same NaN."""
    if before is now:
        return True
    if type(before) is not type(now):
        return False
    if isinstance(before, _Versioned):
        return before.tensor is now.tensor and before.version in (_ANY, now.version)
    if isinstance(before, tuple):
        return len(before) == len(now) and all(map(_same, before, now))
    return bool(before == now) or bool(before != before and now != now)
