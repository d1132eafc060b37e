"""A few digits that stand for the values of tensors."""

import hashlib
from collections.abc import Iterable

import torch
from torch import Tensor

_NUMBERS = 2**20  # hashed at a time


def digest_of_bytes(content: bytes) -> str:
    """A few digits that change with any byte."""
    return hashlib.blake2b(content, digest_size=8).hexdigest()


def digest(tensors: Iterable[Tensor]) -> str:
    """A few digits that change with any value, order or shape."""
    hashed = hashlib.blake2b(digest_size=6)
    for tensor in tensors:
        hashed.update(f"{tensor.dtype}{tuple(tensor.shape)}".encode())
        table = tensor.detach() if tensor.dim() else tensor.detach().reshape(1)
        # a few rows at once: a table that is not contiguous, or on a GPU, is as large as the data when it is copied
        for rows in table.split(max(1, _NUMBERS // max(1, table[:1].numel()))):
            hashed.update(rows.cpu().contiguous().flatten().view(torch.uint8).numpy())
    return hashed.hexdigest()
