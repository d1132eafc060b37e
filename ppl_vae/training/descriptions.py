"""Settings in words: numbers and names as they are, functions and classes of one's own with a digest of their code."""

import enum
import hashlib
import sys
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Sampler, TensorDataset

from ppl_vae.graphs.private import OF_EVERY_MODULE, PYRO_PREFIX
from ppl_vae.pairs.contents import attributes_of
from ppl_vae.pairs.modules import named_in, names_of
from ppl_vae.training.digests import digest

_LIBRARIES = ("torch", "pyro", "ppl_vae", "torchvision", "zuko", "numpy", "builtins", "functools", "random")
_NUMBERS = 2**14  # of a tensor that only a setting holds; the data's are all looked at
_MOST, _DEEPEST, _LONGEST = 1000, 12, 300
# How a loader gets its rows, and not which.
_HOW_IT_LOADS = {
    *("num_workers", "prefetch_factor", "pin_memory", "pin_memory_device", "timeout", "persistent_workers", "in_order"),
    *("_iterator", "_DataLoader__initialized", "_DataLoader__multiprocessing_context", "_IterableDataset_len_called"),
}
_OPEN = DataLoader | Dataset | Sampler  # classes of libraries that hold what the user gave them
_PLAIN = bool | int | float | complex | str | bytes | range | None
_NAMED = type | partial | FunctionType | MethodType | BuiltinFunctionType
_HOLDING = (
    tuple | list | dict | set | frozenset | Tensor | np.ndarray | np.generic | torch.Generator | Dataset | Sampler
)


class Words:
    """Describes values so that two are told apart in any process; what was described already is named the next time.

    Examples:
        >>> from functools import partial
        >>> from ppl_vae.training.descriptions import Words
        >>> Words().of(partial(round, ndigits=2))
        'partial(builtins.round, ndigits=2)'
    """

    def __init__(self) -> None:
        self._seen: dict[int, Any] = {}
        self._depth = 0

    def of(self, value: Any) -> str:
        """Describes a value."""
        if isinstance(value, _PLAIN):
            return repr(value)
        if isinstance(value, np.generic | enum.Enum | torch.dtype | torch.device):
            return str(value)
        if isinstance(value, Tensor | np.ndarray):
            return _numbers(value)
        if isinstance(value, torch.Generator):
            return f"a torch.Generator of seed {value.initial_seed()}"
        if isinstance(value, BuiltinFunctionType):
            return f"{value.__module__}.{value.__qualname__}".removeprefix("None.")
        if (id(value) in self._seen and not isinstance(value, tuple)) or self._depth > _DEEPEST:
            return _name(value)
        self._seen[id(value)] = value
        self._depth += 1
        try:
            return self._of_parts(value)
        finally:
            self._depth -= 1

    def of_class(self, kind: type) -> str:
        """Names a class, and of one's own gives a digest of its functions and of what else it defines."""
        parts = []
        for base in (base for base in kind.__mro__ if not _is_of_library(base) and id(base) not in self._seen):
            self._seen[id(base)] = base
            for key, part in sorted(vars(base).items()):
                inner = part.fget if isinstance(part, property) else getattr(part, "__func__", part)
                is_setting = not key.startswith("__") and isinstance(inner, _PLAIN | _NAMED | _HOLDING)
                if is_setting or isinstance(inner, FunctionType):
                    parts.append(f"{key}={self.of(inner)}")
        return f"{_name(kind)} (code {_few_digits(parts)})" if parts else _name(kind)

    def of_attributes(self, thing: Any, skip: Iterable[str] = ()) -> Iterator[tuple[str, str]]:
        """Describes what an object holds, each under its name, but for modules and what they train."""
        kinds = _PLAIN | _NAMED
        if not _is_of_library(type(thing)) or isinstance(thing, _OPEN):
            kinds |= _HOLDING
        of_all = OF_EVERY_MODULE if isinstance(thing, nn.Module) else _HOW_IT_LOADS
        for name in sorted(attributes_of(thing)):
            value = getattr(thing, name, None)
            parts = value if isinstance(value, tuple) else (value,)
            is_own = name not in of_all and name not in skip and not name.startswith(PYRO_PREFIX)
            if is_own and all(isinstance(part, kinds) for part in parts):
                yield name, self.of(value)

    def _of_parts(self, value: Any) -> str:
        if isinstance(value, partial):
            parts = [self.of(part) for part in (value.func, *value.args)]
            return f"partial({', '.join(parts + self._items(value.keywords))})"
        if isinstance(value, MethodType):
            return f"{self.of(value.__self__)}.{value.__func__.__name__}"
        if isinstance(value, FunctionType):
            return self._of_function(value)
        if isinstance(value, type):
            return self.of_class(value)
        if isinstance(value, Mapping):
            return _short("{", [f"{self.of(key)}: {self.of(part)}" for key, part in _some(value.items())], "}")
        if isinstance(value, set | frozenset):
            return _short("{", sorted(self.of(part) for part in _some(value)), "}")
        if isinstance(value, tuple | list):
            return _short("(", [self.of(part) for part in _some(value)], ")")
        kind = self.of_class(type(value))
        if isinstance(value, TensorDataset):
            return f"a {kind} of digest {digest(value.tensors)}"
        if _is_of_library(type(value)) and not isinstance(value, _OPEN):
            return f"a {kind}"
        return _short(f"a {kind}(", [f"{name}={words}" for name, words in self.of_attributes(value)], ")")

    def _of_function(self, function: FunctionType) -> str:
        """Names a function, and of one's own gives a digest of its code and of what it refers to."""
        if _is_of_library(function) and "<" not in function.__qualname__:
            return _name(function)
        refers = names_of(function) | (function.__kwdefaults__ or {})
        refers |= {str(number): value for number, value in enumerate(function.__defaults__ or ())}
        held = []
        for key, value in refers.items():
            if isinstance(value, ModuleType):
                known = set() if _is_of_library(value) else named_in(function.__code__) & vars(value).keys()
                held += [f"{key}.{part}" for part in self._items({part: vars(value)[part] for part in known})]
            else:
                held.append(f"{key}={self.of(value)}")
        return f"{_name(function)} (code {_few_digits([*_code(function.__code__), *held])})"

    def _items(self, values: Mapping[str, Any]) -> list[str]:
        return [f"{key}={self.of(value)}" for key, value in sorted(values.items())]


def _name(value: Any) -> str:
    if isinstance(value, type | FunctionType):
        return f"{value.__module__}.{value.__qualname__}"
    return f"a {type(value).__module__}.{type(value).__qualname__}"


def _numbers(value: Tensor | np.ndarray) -> str:
    """Tells an array from others by its shape and some of its numbers; what is trained by its shape alone."""
    shape, step = tuple(value.shape), max(1, int(np.prod(value.shape)) // _NUMBERS)
    if isinstance(value, np.ndarray):
        if value.dtype.kind not in "biuf":
            return f"an array of shape {shape}"
        value = torch.as_tensor(value.reshape(-1)[::step].astype("float64"))
    elif value.requires_grad or value.layout != torch.strided:
        return f"a tensor of shape {shape}"
    else:
        value = value.detach().reshape(-1)[::step]
    return f"numbers of shape {shape}, digest {digest([value])}"


def _code(code: CodeType) -> Iterator[str]:
    yield code.co_code.hex()
    yield repr(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _code(constant)
        else:  # a set has another order in each process
            yield repr(sorted(map(repr, constant)) if isinstance(constant, frozenset) else constant)


def _is_of_library(value: Any) -> bool:
    if isinstance(value, ModuleType):  # those of Python hold what is no setting: the environment, the arguments
        root = value.__name__.partition(".")[0]
        return root in _LIBRARIES or root in sys.stdlib_module_names
    return str(getattr(value, "__module__", "")).partition(".")[0] in _LIBRARIES


def _some(values: Iterable[Any]) -> list[Any]:
    """Takes all of a few values, and of many those at regular distances."""
    listed = list(values)
    return listed[:: max(1, len(listed) // _MOST)]


def _short(before: str, parts: list[str], after: str) -> str:
    words = ", ".join(parts)
    return f"{before}{words if len(words) < _LONGEST else f'{len(parts)} of digest {_few_digits(parts)}'}{after}"


def _few_digits(words: list[str]) -> str:
    return hashlib.blake2b("\n".join(words).encode(), digest_size=4).hexdigest()
