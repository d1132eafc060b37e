"""What a training changes beside tensors and optimizers: all random numbers, and averages in the parameter store."""

import random
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pyro
import torch
from torch import Tensor
from torch.distributions import constraints

from ppl_vae.pairs.held import Held

_GENERATORS = (torch.Generator, np.random.Generator, np.random.RandomState, random.Random)


class Beside:
    """Finds the generators that programs, transforms and loaders hold, and what a training puts into Pyro's store.

    Args:
        programs: all that runs in a training; None among them is passed over.
        changing: the tensors that are trained.
    """

    def __init__(self, programs: Iterable[Any], changing: Sequence[Tensor] = ()) -> None:
        self._programs = [program for program in programs if program is not None]
        self._changing = changing
        self._store = pyro.get_param_store().get_state()["params"]
        self._before = self._look()

    def changed(self) -> str:
        """Names a number, list or iterator that has changed since the beginning; empty where nothing has."""
        found_out = [f"{type(program).__name__}.max_plate_nesting" for program in self._programs]  # by a first run
        return self._look().changed_since(self._before, but=found_out)

    def state_dict(self) -> dict[str, Any]:
        """Returns the states of all generators, and what was put into the store."""
        generators = self._generators()
        store = pyro.get_param_store().get_state()["params"]
        return {
            **random_state(),
            "generators": {name: _state_of(generator) for name, generator in generators.items()},
            "store": {name: leaf for name, leaf in store.items() if leaf is not self._store.get(name)},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Puts all of it back; what a generator does not take raises an error of its own."""
        generators = self._generators()
        for name, of_one in state["generators"].items():
            if name not in generators:
                raise ValueError(f"it has the random numbers of {name}, which is not there")
            _set_state(generators[name], of_one)
        put_random_state(state)
        leaves = {name: leaf.clone().requires_grad_() for name, leaf in state["store"].items()}
        known = pyro.get_param_store().get_state()["constraints"]
        limits = {name: known.get(name, constraints.real) for name in leaves}
        pyro.get_param_store().set_state({"params": leaves, "constraints": limits})

    def _look(self) -> Held:
        return Held(self._programs, self._changing, apart=_GENERATORS)

    def _generators(self) -> dict[str, Any]:
        found = self._look().others
        of_all = (torch.default_generator, getattr(random.random, "__self__", None), np.random.mtrand._rand)
        return {
            name: generator
            for name, generator in found.items()
            if all(generator is not other for other in of_all) and not isinstance(generator, random.SystemRandom)
        }


def random_state() -> dict[str, Any]:
    """Returns the states of the generators that all programs share: torch's, Python's and numpy's."""
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else [],
        "python": random.getstate(),
        "numpy": _state_of(np.random.mtrand._rand),
    }


def put_random_state(state: Mapping[str, Any]) -> None:
    """Puts the states of :func:`random_state` back; lists may stand for tensors and tuples."""
    random.setstate(_in_tuples(state["python"]))
    _set_state(np.random.mtrand._rand, state["numpy"])
    torch.set_rng_state(_in_bytes(state["torch"]))
    if state["cuda"] and torch.cuda.is_available():
        torch.cuda.set_rng_state_all([_in_bytes(part) for part in state["cuda"]])


def _state_of(generator: Any) -> Any:
    if isinstance(generator, torch.Generator):
        return generator.get_state()
    if isinstance(generator, random.Random):
        return generator.getstate()
    return _in_plain_numbers(_numpy_state(generator))


def _set_state(generator: Any, state: Any) -> None:
    if isinstance(generator, torch.Generator):
        generator.set_state(_in_bytes(state))
    elif isinstance(generator, random.Random):
        generator.setstate(_in_tuples(state))
    elif isinstance(generator, np.random.RandomState):
        generator.set_state(_in_arrays(state, _numpy_state(generator)))
    else:
        generator.bit_generator.state = _in_arrays(state, _numpy_state(generator))


def _numpy_state(generator: Any) -> Any:
    if isinstance(generator, np.random.RandomState):
        return generator.get_state(legacy=False)
    return generator.bit_generator.state


def _in_bytes(state: Any) -> Tensor:
    return torch.as_tensor(state, dtype=torch.uint8)


def _in_tuples(state: Any) -> Any:
    return tuple(map(_in_tuples, state)) if isinstance(state, list | tuple) else state


def _in_plain_numbers(state: Any) -> Any:
    if isinstance(state, dict):
        return {key: _in_plain_numbers(part) for key, part in state.items()}
    return state.tolist() if isinstance(state, np.ndarray | np.generic) else state


def _in_arrays(state: Any, like: Any) -> Any:
    """Makes arrays of the lists in a state, where those of a generator have them."""
    if isinstance(like, dict):
        return {key: _in_arrays(state[key], part) for key, part in like.items()}
    if isinstance(like, np.ndarray):
        return np.array(state, dtype=like.dtype).reshape(like.shape)
    return type(like)(state)
