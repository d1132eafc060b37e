"""Random numbers that a run draws: counted, given again, or drawn where no graph sees it."""

import random
from typing import Any

import numpy as np
import torch
from torch.utils._pytree import tree_map

from ppl_vae.graphs.private import TorchDispatchMode


class RandomOperations(TorchDispatchMode):
    """Counts the operations that draw random numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if torch.Tag.nondeterministic_seeded not in func.tags:
            return func(*args, **(kwargs or {}))
        self.count += 1
        return self.draw(func, args, kwargs or {})

    def draw(self, func: Any, args: Any, kwargs: Any) -> Any:
        """Runs the operation and returns what it gives."""
        return func(*args, **kwargs)


class OtherNoise(RuntimeError):
    """Raised where a run draws more, fewer or other random numbers than were recorded."""


class Replayed(RandomOperations):
    """Gives recorded values to random operations, in their order."""

    def __init__(self, values: list[Any]) -> None:
        super().__init__()
        self._values = list(values)

    def draw(self, func: Any, args: Any, kwargs: Any) -> Any:
        """Returns the next recorded value."""
        if not self._values:
            raise OtherNoise
        value = self._values.pop(0)
        if func._schema.is_mutable:
            if args[0].shape != value.shape:
                raise OtherNoise
            return args[0].copy_(value)
        return tree_map(torch.clone, value)

    def __exit__(self, kind: Any, *rest: Any) -> None:
        super().__exit__(kind, *rest)
        if kind is None and self._values:
            raise OtherNoise


def generators() -> tuple[Any, ...]:
    """Returns the states of the generators that no graph sees, Python's and numpy's."""
    name, keys, *rest = np.random.get_state()
    return random.getstate(), name, tuple(keys), *rest
