"""The whole state of a training in one file, written after each epoch: a run that was cut off goes on from there."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ppl_vae.errors import InputError

Settings = dict[str, Any]


def save(
    path: Path, tensors: Sequence[Tensor], others: Sequence[Any], run: Settings, progress: dict[str, list[float]]
) -> None:
    """Writes parameters and buffers, what has a ``state_dict``, the random numbers' state, settings and progress.

    The file is whole at any moment: a new one takes the place of the old one at once.
    """
    content = {
        "tensors": [tensor.detach().cpu() for tensor in tensors],
        "others": [other.state_dict() for other in others],
        "random": torch.get_rng_state(),
        "random_cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else [],
        "run": run,
        "progress": progress,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    torch.save(content, partial)
    os.replace(partial, path)


def load(
    path: Path, tensors: Sequence[Tensor], others: Sequence[Any], run: Settings, epochs: int
) -> dict[str, list[float]]:
    """Puts everything back, and returns the progress.

    Raises:
        InputError: for a file that is no checkpoint, or that of another run.
    """
    try:
        content = torch.load(path, weights_only=True, map_location="cpu")
        kept, settings, progress = content["tensors"], content["run"], content["progress"]
    except Exception:
        what = "a folder" if path.is_dir() else "no checkpoint of fit"
        raise InputError(f"{path} is {what}: name another file, which is written after the first epoch") from None
    for name, value in run.items():
        if settings.get(name) != value:
            raise InputError(
                f"{path} is the checkpoint of another run, whose {name} is {settings.get(name)}; here it is {value}: "
                "name another file, or go on with the same settings"
            )
    if len(progress["elbo"]) > epochs:
        raise InputError(f"{path} holds {len(progress['elbo'])} epochs, more than {epochs}: name another file")
    shapes = [tuple(tensor.shape) for tensor in kept], [tuple(tensor.shape) for tensor in tensors]
    if shapes[0] != shapes[1] or len(content["others"]) != len(others):
        raise InputError(
            f"{path} is the checkpoint of another model or guide ({len(kept)} tensors, here {len(tensors)}, or of "
            "other shapes): name another file"
        )
    with torch.no_grad():
        for tensor, value in zip(tensors, kept, strict=True):
            tensor.copy_(value)
    for other, state in zip(others, content["others"], strict=True):
        other.load_state_dict(state)
    torch.set_rng_state(content["random"])
    if content["random_cuda"] and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(content["random_cuda"])
    return progress
