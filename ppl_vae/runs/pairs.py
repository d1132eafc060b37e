"""A pair of your own in a folder: the parameters and buffers of its model and guide, to be loaded into them again."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from ppl_vae.errors import InputError
from ppl_vae.pairs.kinds import looked_at
from ppl_vae.pairs.restore import put
from ppl_vae.training.tensor_files import read_content, write_content

_WHAT = "a file of save_pair"


@looked_at
def save_pair(folder: str | Path, model: nn.Module, guide: nn.Module) -> None:
    """Writes the parameters and buffers of a model and its guide to a folder, to be read by :func:`load_pair`.

    The numbers are in ``model.safetensors`` and ``guide.safetensors``, under their names in ``state_dict()``; no code
    is written. Files of these names are replaced.

    Args:
        folder: made where it is missing.
        model: any module.
        guide: likewise.

    Raises:
        InputError: for a program that is no module (its parameters are in Pyro's parameter store), a state that holds
            more than tensors, or a folder that can't be written.

    Examples:
        >>> import tempfile, torch
        >>> from ppl_vae import load_pair, save_pair
        >>> from ppl_vae.guides import Amortized, Diagonal
        >>> from ppl_vae.models import VAE
        >>> model, guide = VAE(64, 2), Amortized(Diagonal(2), 64)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save_pair(folder, model, guide)
        ...     again = VAE(64, 2), Amortized(Diagonal(2), 64)
        ...     load_pair(folder, *again)
        >>> torch.equal(again[0].decoder.output.bias, model.decoder.output.bias)
        True
    """
    states = {role: _state(role, program) for role, program in (("model", model), ("guide", guide))}
    for role, state in states.items():
        write_content(Path(folder) / f"{role}.safetensors", state)


@looked_at
def load_pair(folder: str | Path, model: nn.Module, guide: nn.Module) -> None:
    """Puts what :func:`save_pair` wrote into a model and a guide of the same parameters, in place.

    All names, shapes and types are compared first; where any differs, nothing is changed.

    Args:
        folder: where the pair was written.
        model: made as the saved one was.
        guide: likewise.

    Raises:
        InputError: where the files are missing or damaged, or the modules have other parameters; it says which.

    Examples:
        >>> import tempfile
        >>> from ppl_vae import InputError, load_pair, save_pair
        >>> from ppl_vae.guides import Amortized, Diagonal
        >>> from ppl_vae.models import VAE
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save_pair(folder, VAE(64, 2), Amortized(Diagonal(2), 64))
        ...     try:
        ...         load_pair(folder, VAE(64, 3), Amortized(Diagonal(2), 64))
        ...     except InputError as error:
        ...         print(str(error).partition("safetensors: ")[2].partition(": make")[0])
        decoder.0.weight is float32 of shape (400, 2) in the file and float32 of shape (400, 3) here
    """
    places = [
        (Path(folder) / f"{role}.safetensors", role, program) for role, program in (("model", model), ("guide", guide))
    ]
    read = [(program, read_module(place, role, program)) for place, role, program in places]
    for program, state in read:
        fill(program, state)


def write_module(path: Path, module: nn.Module) -> None:
    """Writes one module's parameters and buffers, under their names in its ``state_dict()``."""
    write_content(path, _state("module", module))


def read_module(path: Path, role: str, module: nn.Module) -> dict[str, Tensor]:
    """Reads what fits a module; InputError where its names, shapes or types are others."""
    theirs, ours = read_content(path, _WHAT), _state(role, module)
    if not all(isinstance(value, Tensor) for value in theirs.values()):
        raise InputError(f"{path} is another file of this project, expected {_WHAT}")
    kind = type(module).__name__
    if theirs and not ours:
        raise InputError(
            f"the {role} here, a {kind}, has no parameters yet, and {path} holds {len(theirs)}: run it on the data "
            "once before it is loaded"
        )
    differences = [
        f"{name} is {_described(theirs.get(name))} in the file and {_described(ours.get(name))} here"
        for name in [*theirs, *(name for name in ours if name not in theirs)]
        if _described(theirs.get(name)) != _described(ours.get(name))
    ]
    if differences:
        more = f", and {len(differences) - 3} more" if len(differences) > 3 else ""
        raise InputError(
            f"the {role} here, a {kind}, is not that of {path}: {'; '.join(differences[:3])}{more}: make it as the "
            "saved one was"
        )
    return theirs


def fill(module: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Copies numbers into a module's own parameters and buffers."""
    ours = _state("module", module)
    put(list(ours.values()), [state[name] for name in ours])


def _state(role: str, program: Any) -> dict[str, Tensor]:
    if not isinstance(program, nn.Module):
        name = getattr(program, "__name__", type(program).__name__)
        raise InputError(
            f"the {role} {name} is a {type(program).__name__}, expected a module: make it a PyroModule, or keep "
            "Pyro's parameter store by pyro.get_param_store().save(path)"
        )
    state: dict[str, Any] = program.state_dict(keep_vars=True)
    for name, value in state.items():
        if not isinstance(value, Tensor):
            raise InputError(
                f"the {role}'s state holds {name}, a {type(value).__name__}, expected tensors alone: register it by "
                "register_buffer"
            )
        if value.layout != torch.strided or (value.is_meta and type(value) in (Tensor, nn.Parameter)) or is_lazy(value):
            raise InputError(
                f"the {role}'s {name} is sparse or not made yet: run the pair once, and keep dense tensors"
            )
    return state


def _described(tensor: Tensor | None) -> str:
    if tensor is None:
        return "missing"
    return f"{str(tensor.dtype).removeprefix('torch.')} of shape {tuple(tensor.shape)}"
