"""What running a pair must leave as it was: random numbers, where parameters live, modes and gradients."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pyro
import torch
from pyro.infer.autoguide import AutoGuide
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from ppl_vae.errors import InputError
from ppl_vae.graphs.private import give_its_own_parameters, pyro_state_of
from ppl_vae.graphs.private import unvalidated as unvalidated  # estimators import it from here
from ppl_vae.pairs.modules import Program, modules_of, own_modules, programs_that_are_modules


class Moment:
    """A moment to go back to: the random numbers, on every device in use, and some tensors.

    Args:
        tensors: what a run changes in place and must leave as it was: buffers such as running means, parameters.
    """

    def __init__(self, tensors: Iterable[Tensor] = ()) -> None:
        tensors = list(tensors)
        self._tensors = tensors, [tensor.detach().clone() for tensor in tensors]
        self._random = pyro.util.get_rng_state()
        self._on_gpus = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []

    def has_the_random_numbers_of_now(self) -> bool:
        """Says whether torch's random numbers go on as they did at this moment."""
        gpus = torch.cuda.get_rng_state_all() if self._on_gpus else []
        states = [self._random["torch"], *self._on_gpus], [torch.get_rng_state(), *gpus]
        return all(map(torch.equal, *states))

    def put_back(self) -> None:
        """Makes everything what it was."""
        pyro.util.set_rng_state(self._random)
        if self._on_gpus:
            torch.cuda.set_rng_state_all(self._on_gpus)
        put(*self._tensors)


def put(tensors: Sequence[Tensor], values: Sequence[Tensor]) -> None:
    """Writes values into tensors in place, without a gradient."""
    with torch.no_grad():
        for tensor, value in zip(tensors, values, strict=True):
            tensor.copy_(value)


@contextmanager
def random_state_kept() -> Iterator[None]:
    """Puts the random numbers back where they were, on every device in use."""
    before = Moment()
    try:
        yield
    finally:
        before.put_back()


@contextmanager
def seeded(seed: int | None) -> Iterator[None]:
    """Draws by a seed and puts the random numbers of before back; leaves them as they come where it is None."""
    if seed is None:
        yield
        return
    with random_state_kept():
        pyro.set_rng_seed(seed)
        yield


@contextmanager
def store_kept() -> Iterator[Callable[[], list[str]]]:
    """Puts the global parameter store back as it was, where Pyro also keeps decaying averages.

    Yields a function that names what is another tensor by now.
    """
    store, changed = pyro.get_param_store(), store_watched()
    with store.scope(state=store.get_state()):
        yield changed


def store_watched() -> Callable[[], list[str]]:
    """Returns a function that names what is another tensor in the global parameter store than now."""
    before = pyro.get_param_store().get_state()["params"]

    def changed() -> list[str]:
        now = pyro.get_param_store().get_state()["params"]
        return [name for name, leaf in now.items() if leaf is not before.get(name)]

    return changed


@contextmanager
def modules_kept(modules: Iterable[nn.Module], always: bool = True) -> Iterator[None]:
    """Puts back what modules hold: parameters that were made, buffers, attributes, lists, and lazy layers' laziness.

    Only after an error, unless ``always``.
    """
    modules = list(modules)
    parts = list(dict.fromkeys(part for module in modules for part in module.modules()))
    buffers = [buffer for part in parts for buffer in part.buffers(recurse=False)]
    leaves = [*(leaf for part in parts for leaf in part.parameters(recurse=False)), *buffers]
    lazy = [leaf for leaf in leaves if is_lazy(leaf)]
    kinds = [(holder, type(holder)) for holder in (*parts, *lazy)]
    containers = list({id(container): container for part in parts for container in _containers(part)}.values())
    contents = [container.copy() for container in containers]
    values = [(buffer, buffer.clone()) for buffer in buffers if not is_lazy(buffer)]
    fine = False
    try:
        yield
        fine = not always
    finally:
        if not fine:
            for leaf in lazy:
                if not is_lazy(leaf):
                    leaf.data = leaf.new_empty(0)
            for holder, kind in kinds:
                holder.__class__ = kind  # a lazy one becomes another at its first run
            for container, content in zip(containers, contents, strict=True):
                container.clear()
                container.extend(content) if isinstance(container, list) else container.update(content)
            with torch.no_grad():
                for buffer, value in values:
                    buffer.copy_(value)


@contextmanager
def undone_on_error(modules: Iterable[nn.Module]) -> Iterator[None]:
    """Leaves nothing of what is refused behind, in modules or in the parameter store."""
    store = pyro.get_param_store()
    before = store.get_state()
    with modules_kept(modules, always=False):
        try:
            yield
        except BaseException:
            store.clear()
            store.set_state(before)
            raise


def _containers(part: nn.Module) -> Iterator[Any]:
    """Finds the dicts, lists and sets in which a module keeps things; those of Pyro's parameters too."""
    for attributes in (vars(part), pyro_state_of(part)):
        yield attributes
        for value in attributes.values():
            if isinstance(value, dict | list | set):
                yield value
                if isinstance(value, dict):
                    yield from (inner for inner in value.values() if isinstance(inner, dict | list | set))


@contextmanager
def tensors_kept(tensors: Iterable[Tensor]) -> Iterator[None]:
    """Puts back what is changed in tensors in place: buffers such as running means, parameters."""
    tensors = list(tensors)
    before = [tensor.detach().clone() for tensor in tensors]
    try:
        yield
    finally:
        put(tensors, before)


@contextmanager
def restored_unless_finite(
    parameters: Sequence[Tensor], tensors: Sequence[Tensor], spare: Sequence[Tensor]
) -> Iterator[None]:
    """Puts tensors back after an InputError, where the parameters among them are not finite any more.

    Args:
        parameters: those that are looked at.
        tensors: what is put back.
        spare: memory of the same shapes, which a table of a million rows should not take anew each time.
    """
    for tensor, value in zip(tensors, spare, strict=True):
        value.copy_(tensor.detach())
    try:
        yield
    except InputError:
        if not all(map(is_finite, parameters)):
            put(tensors, spare)
        raise


def is_finite(tensor: Tensor) -> bool:
    """Says whether no number in a tensor is NaN or infinite, in one pass without memory of its own."""
    return tensor.numel() == 0 or all(bool(end.isfinite()) for end in tensor.detach().aminmax())


@contextmanager
def local_parameters(*programs: Program) -> Iterator[None]:
    """Lets each module keep its own parameters, and frozen ones frozen, whatever the global store holds.

    Pyro keeps this state per module only if the setting was on when the module was made; it is added here. A pair of
    plain functions is left alone, their parameters live in the global store as in any SVI script; so is an autoguide of
    a function, which Pyro can't run with parameters of its own.
    """
    modules = own_modules(*programs)
    guides = [part for module in modules for part in module.modules() if isinstance(part, AutoGuide)]
    of_guides = own_modules(*(guide.model for guide in guides))  # which may be other instances than the model
    for part in (part for module in (*modules, *of_guides) for part in module.modules()):
        give_its_own_parameters(part)
    if any(isinstance(part, AutoGuide) and not programs_that_are_modules(part.model) for part in modules):
        yield
    else:
        with pyro.settings.context(module_local_params=bool(modules) or pyro.settings.get("module_local_params")):
            yield


@contextmanager
def evaluating(*programs: Program | None) -> Iterator[None]:
    """Puts modules in eval mode and takes no gradients; each submodule is as it was afterwards."""
    modules = [part for module in modules_of(*programs) for part in module.modules()]
    modes = [part.training for part in modules]
    try:
        for part in modules:
            part.training = False
        with torch.no_grad():
            yield
    finally:
        for part, mode in zip(modules, modes, strict=True):
            part.training = mode
