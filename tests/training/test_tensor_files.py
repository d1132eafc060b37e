"""Files of tensors and settings: what is written comes back, and a damaged file is refused in one line."""

import math
import os
import random

import numpy as np
import pytest
import torch

from ppl_vae import InputError
from ppl_vae.training.tensor_files import read_content, write_content

CASES = int(os.environ.get("PPL_VAE_SOAK", "300"))


def content():
    generator = torch.Generator().manual_seed(0)
    return {
        "tensors": [
            torch.randn(3, 4, generator=generator),
            torch.tensor(1.5),
            torch.zeros(0, 3),
            torch.arange(6).view(2, 3).T,
        ],
        "kinds": {"half": torch.ones(2, dtype=torch.bfloat16), "bits": torch.tensor([True, False])},
        "state": {0: {"step": torch.tensor(3.0)}, "nothing": None},
        "random": random.Random(0).getstate(),
        "numbers": [0.1, -math.inf, 2**70, True, "a\nword"],
    }


def same(ours, theirs):
    if isinstance(ours, torch.Tensor):
        return ours.dtype == theirs.dtype and ours.shape == theirs.shape and torch.equal(ours, theirs)
    if isinstance(ours, dict):
        return list(ours) == list(theirs) and all(same(ours[key], theirs[key]) for key in ours)
    if isinstance(ours, list | tuple):
        return type(ours) is type(theirs) and len(ours) == len(theirs) and all(map(same, ours, theirs))
    return type(ours) is type(theirs) and ours == theirs


def test_all_comes_back_as_it_was(tmp_path):
    write_content(tmp_path / "deep" / "kept.pt", content())
    assert same(content(), read_content(tmp_path / "deep" / "kept.pt", "a checkpoint"))
    assert os.listdir(tmp_path / "deep") == ["kept.pt"]


def test_tied_tensors_have_memory_of_their_own(tmp_path):
    weight = torch.ones(2, 3)
    write_content(tmp_path / "kept.pt", {"a": weight, "b": weight.T, "c": weight[:1]})
    read = read_content(tmp_path / "kept.pt", "a checkpoint")
    read["a"].zero_()
    assert read["b"].sum() == 6
    assert read["c"].shape == (1, 3)


def test_what_no_file_keeps_is_named(tmp_path):
    with pytest.raises(InputError, match=r"state\.0\.call is a function, which no file keeps"):
        write_content(tmp_path / "kept.pt", {"state": [{"call": same}]})
    assert not list(tmp_path.iterdir())


def damaged(raw, generator):
    """A copy with a bit turned over, a piece cut off, added, written over or moved."""
    copy, place = bytearray(raw), int(generator.integers(len(raw)))
    kind = generator.integers(6)
    if kind == 0:
        copy[place] ^= 1 << int(generator.integers(8))
    elif kind == 1:
        del copy[place:]
    elif kind == 2:
        copy += generator.bytes(5)
    elif kind == 3:
        copy[place : place + 8] = generator.bytes(8)
    elif kind == 4:
        copy[place % 8] = int(generator.integers(256))  # the length of the header
    else:
        copy[place : place + 4] = copy[:4]
    return bytes(copy)


def test_a_damaged_file_is_refused_in_one_line(tmp_path):
    write_content(tmp_path / "kept.pt", content())
    raw, generator = (tmp_path / "kept.pt").read_bytes(), np.random.default_rng(0)
    place = tmp_path / "damaged.pt"
    for _ in range(CASES):
        changed = damaged(raw, generator)
        place.write_bytes(changed)
        if changed != raw:
            with pytest.raises(InputError, match=r"damaged\.pt (is|can't)") as caught:
                read_content(place, "a checkpoint")
            assert len(str(caught.value).splitlines()) == 1


def test_other_kinds_of_files_are_refused(tmp_path):
    from safetensors.torch import save_file

    save_file({"weight": torch.ones(2)}, tmp_path / "other.safetensors")
    os.mkfifo(tmp_path / "pipe")
    torch.save({"weight": torch.ones(2)}, tmp_path / "pickle.pt")
    for name, words in (
        ("other.safetensors", "is a safetensors file, but not a checkpoint"),
        ("pipe", "is no plain file, expected a checkpoint"),
        (".", "is a folder, expected a checkpoint"),
        ("nowhere", r"can't be read \(No such file or directory\), expected a checkpoint"),
        ("pickle.pt", "is not a checkpoint, or is damaged"),
    ):
        with pytest.raises(InputError, match=words):
            read_content(tmp_path / name, "a checkpoint")
