"""What running a pair must leave as it was: random numbers, where parameters live, modes and gradients."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from unittest import mock

import pyro
import torch
from pyro.infer.autoguide import AutoGuide
from pyro.nn import PyroModule
from torch import Tensor, nn
from torch.distributions import Distribution
from torch.nn.functional import one_hot

from ppl_vae.errors import InputError
from ppl_vae.modules import Program, modules_of, own_modules, programs_that_are_modules


@contextmanager
def random_state_kept() -> Iterator[None]:
    """Puts the random numbers back where they were, on every device in use."""
    state = pyro.util.get_rng_state()
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
    try:
        with torch.random.fork_rng(devices=devices):
            yield
    finally:
        pyro.util.set_rng_state(state)


@contextmanager
def store_kept() -> Iterator[Callable[[], list[str]]]:
    """Puts the global parameter store back as it was, where Pyro also keeps decaying averages.

    Yields a function that names what is another tensor by now.
    """
    store = pyro.get_param_store()
    before = store.get_state()["params"]

    def changed() -> list[str]:
        return [name for name, leaf in store.get_state()["params"].items() if leaf is not before.get(name)]

    with store.scope(state=store.get_state()):
        yield changed


@contextmanager
def attributes_kept(modules: Iterable[nn.Module]) -> Iterator[Callable[[], list[str]]]:
    """Puts back what modules set anew: buffers, counters, whatever they remember. Lists that grow are not seen.

    Yields a function that names the tensors and numbers that are others by now.
    """
    kept = [
        (type(part).__name__, place, dict(place))
        for module in modules
        for part in module.modules()
        for place in (part.__dict__, part._buffers)
    ]

    def rebound() -> list[str]:
        return [
            f"{name}.{key}"
            for name, place, before in kept
            for key, value in place.items()
            if (isinstance(value, Tensor) and value is not before.get(key))
            or (isinstance(value, int | float | str) and value != before.get(key))
        ]

    try:
        yield rebound
    finally:
        for _, place, before in kept:
            for key in place.keys() - before.keys():
                del place[key]
            place.update(before)


@contextmanager
def tensors_kept(tensors: Iterable[Tensor]) -> Iterator[None]:
    """Puts back what is changed in tensors in place: buffers such as running means, parameters."""
    before = [(tensor, tensor.detach().clone()) for tensor in tensors]
    try:
        yield
    finally:
        with torch.no_grad():
            for tensor, value in before:
                tensor.copy_(value)


@contextmanager
def restored_unless_finite(
    parameters: Sequence[Tensor], tensors: Sequence[Tensor], spare: Sequence[Tensor]
) -> Iterator[None]:
    """After an InputError puts tensors back as they were, where the parameters among them are not finite any more.

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
            with torch.no_grad():
                for tensor, value in zip(tensors, spare, strict=True):
                    tensor.copy_(value)
        raise


def is_finite(tensor: Tensor) -> bool:
    """Whether no number in it is NaN or infinite, in one pass without memory of its own."""
    return tensor.numel() == 0 or all(bool(end.isfinite()) for end in tensor.detach().aminmax())


@contextmanager
def unvalidated() -> Iterator[None]:
    """No distribution looks at what it is given, as one still does that was expanded while validation was on.

    Nor does the drawing of categories: torch's ``one_hot`` reads its indices to check them.
    """
    unseen = mock.patch.object(Distribution, "_validate_sample")
    with pyro.validation_enabled(False), unseen, mock.patch("torch.nn.functional.one_hot", _one_hot):
        yield


def _one_hot(indices: Tensor, num_classes: int = -1) -> Tensor:
    if num_classes < 0:
        return one_hot(indices)
    return (indices.unsqueeze(-1) == torch.arange(num_classes, device=indices.device)).long()


@contextmanager
def local_parameters(*programs: Program) -> Iterator[None]:
    """Each module keeps its own parameters, and frozen ones stay frozen, whatever the global store holds.

    Pyro keeps this state per module only if the setting was on when the module was made; it is added here. A pair of
    plain functions is left alone, their parameters live in the global store as in any SVI script; so is an autoguide of
    a function, which Pyro can't run with parameters of its own.
    """
    modules = own_modules(*programs)
    for part in (part for module in modules for part in module.modules()):
        if isinstance(part, PyroModule) and not hasattr(part._pyro_context, "param_state"):
            part._pyro_context.param_state = {"params": {}, "constraints": {}}
    if any(isinstance(part, AutoGuide) and not programs_that_are_modules(part.model) for part in modules):
        yield
    else:
        with pyro.settings.context(module_local_params=bool(modules) or pyro.settings.get("module_local_params")):
            yield


@contextmanager
def evaluating(*programs: Program | None) -> Iterator[None]:
    """Modules in eval mode and without gradients, each submodule as it was afterwards."""
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
