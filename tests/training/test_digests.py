"""A digest is that of the values in their order, wherever in memory they lie."""

import hashlib

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from ppl_vae.training import digests
from ppl_vae.training.digests import digest

TABLE = torch.arange(60.0).reshape(10, 6)


def whole(tensor):
    """What a digest is: of dtype, shape and all bytes at once."""
    hashed = hashlib.blake2b(f"{tensor.dtype}{tuple(tensor.shape)}".encode(), digest_size=6)
    hashed.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return hashed.hexdigest()


@pytest.mark.parametrize(
    "tensor",
    [
        TABLE,
        TABLE.T,
        TABLE[::3, 1::2],
        TABLE[:1].expand(4, 6),
        TABLE.reshape(5, 2, 6).transpose(1, 2),
        TABLE.bfloat16(),
        TABLE.to(torch.uint8),
        TABLE > 7,
        torch.tensor(3.5),
        torch.zeros(0, 6),
        torch.zeros(4, 0),
        torch.zeros(0),
    ],
    ids=lambda tensor: f"{tensor.dtype} {tuple(tensor.shape)} {tensor.stride()}",
)
@pytest.mark.parametrize("numbers", [1, 7, 2**20])
def test_it_is_that_of_all_bytes_however_many_are_hashed_at_a_time(monkeypatch, tensor, numbers):
    monkeypatch.setattr(digests, "_NUMBERS", numbers)
    assert digest([tensor]) == whole(tensor)


class Largest(TorchDispatchMode):
    """Notes the largest piece of memory that an operation makes."""

    numbers = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        made = func(*args, **(kwargs or {}))
        if func in (torch.ops.aten.clone.default, torch.ops.aten._to_copy.default):
            self.numbers = max(self.numbers, made.numel())
        return made


def test_data_that_are_not_contiguous_are_not_copied_at_once(monkeypatch):
    monkeypatch.setattr(digests, "_NUMBERS", 12)
    column_by_column = TABLE.T.contiguous().T
    with Largest() as largest:
        digest([column_by_column])
    assert largest.numbers == 12
