"""The whole state of a training in one file, written after each epoch: a run that was cut off goes on from there."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ppl_vae.errors import InputError


def save(path: Path, tensors: Sequence[Tensor], others: Sequence[Any], progress: dict[str, Any]) -> None:
    """Writes parameters and buffers, what has a ``state_dict``, the random numbers' state and plain values.

    The file is whole at any moment: a new one takes the place of the old one at once.
    """
    content = {
        "tensors": [tensor.detach().cpu() for tensor in tensors],
        "others": [other.state_dict() for other in others],
        "random": torch.get_rng_state(),
        "random_cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else [],
        "progress": progress,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    torch.save(content, partial)
    os.replace(partial, path)


def load(path: Path, tensors: Sequence[Tensor], others: Sequence[Any]) -> dict[str, Any]:
    """Puts everything back, and returns the plain values.

    Raises:
        InputError: for a file that is no checkpoint, or that of another pair.
    """
    try:
        content = torch.load(path, weights_only=True, map_location="cpu")
        kept = content["tensors"]
    except Exception as error:
        reason = str(error).strip().splitlines()[0]
        raise InputError(f"{path} is no checkpoint ({reason}): remove it, or name another file") from None
    shapes = [tuple(tensor.shape) for tensor in kept], [tuple(tensor.shape) for tensor in tensors]
    if shapes[0] != shapes[1] or len(content["others"]) != len(others):
        raise InputError(
            f"{path} is the checkpoint of another pair or optimizer ({len(kept)} tensors, here {len(tensors)}; other "
            "shapes, or another number of optimizers): name another file"
        )
    with torch.no_grad():
        for tensor, value in zip(tensors, kept, strict=True):
            tensor.copy_(value)
    for other, state in zip(others, content["others"], strict=True):
        other.load_state_dict(state)
    torch.set_rng_state(content["random"])
    if content["random_cuda"] and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(content["random_cuda"])
    return content["progress"]
