"""What a container, an array, a generator or an iterator holds, in values that can be compared later."""

import random
import warnings
from array import array
from collections import deque
from collections.abc import Iterable
from contextvars import ContextVar
from types import GeneratorType
from typing import Any

import numpy as np
import torch

PLAIN = (bool, int, float, complex, str, bytes, type(None), np.generic)
_ARRAY_BYTES = 2**20


def content_of(value: Any) -> Any:
    """Returns what a container, an array or the like holds, its length at least; None for other objects."""
    if isinstance(value, dict | list | tuple | set | frozenset | deque):
        return len(value)
    if isinstance(value, ContextVar):
        return repr(value.get(None))
    if isinstance(value, array):
        return value.tobytes()
    if isinstance(held := getattr(value, "value", None), PLAIN) and held is not None:  # ctypes, multiprocessing
        return held
    if isinstance(value, np.ndarray):
        return value.tobytes() if value.nbytes <= _ARRAY_BYTES else value.shape
    return None


def position_of(value: Any) -> Any:
    """Returns how far a generator or an iterator has come, as far as it says so; None for other objects."""
    if isinstance(value, random.Random):
        return value.getstate()
    if isinstance(value, np.random.Generator):
        return repr(value.bit_generator.state)
    if isinstance(value, np.random.RandomState):
        return repr(value.get_state(legacy=False))
    if isinstance(value, torch.Generator):
        return value.get_state().numpy().tobytes()
    if isinstance(value, GeneratorType):
        frame = value.gi_frame
        return None if frame is None else (frame.f_lasti, *_plain_of(frame.f_locals.values()))
    if not hasattr(value, "__next__"):
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Python 3.14 takes this from the iterators of itertools
        try:
            parts = value.__reduce_ex__(2)  # plain __reduce__ makes another file of an open one, and closes it
        except Exception:  # an iterator of others may say in whatever way that it has none
            return ()
    return _plain_of(parts) if isinstance(parts, tuple) else ()


def _plain_of(values: Iterable[Any]) -> tuple[Any, ...]:
    """Lists the plain values among some, those inside tuples and iterators too."""
    plain: list[Any] = []
    for value in values:
        if isinstance(value, PLAIN):
            plain.append(value)
        elif isinstance(value, tuple):
            plain += _plain_of(value)
        elif hasattr(value, "__next__"):
            plain += position_of(value) or ()
    return tuple(plain)


def attributes_of(value: Any) -> list[str]:
    """Names an instance's attributes, those in slots too."""
    slots = [slot for base in type(value).__mro__ for slot in _listed(base.__dict__.get("__slots__", ()))]
    return [*getattr(value, "__dict__", ()), *(slot for slot in slots if not slot.startswith("__"))]


def _listed(slots: Any) -> list[str]:
    return [slots] if isinstance(slots, str) else list(slots)
