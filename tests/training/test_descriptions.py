"""What tells one training from another: values in words, equal in every process and other for anything that differs."""

import os
import random
import subprocess
import sys
from functools import partial

import numpy as np
import pytest
import torch
from cut_off import OBSERVED, normal, train
from pyro.infer import Trace_ELBO
from torch import nn
from torch.optim import SGD, Adam
from torch.utils.data import DataLoader, Dataset, Subset, TensorDataset, WeightedRandomSampler

from ppl_vae import InputError, fit
from ppl_vae.models import VAE
from ppl_vae.training.descriptions import Words


class Threshold:
    def __init__(self, limit):
        self.limit = limit

    def __call__(self, x):
        return (x > self.limit).float()

    def apply(self, x):
        return self(x)


class Slots:
    __slots__ = ("limit",)

    def __init__(self, limit):
        self.limit = limit

    def __call__(self, x):
        return (x > self.limit).float()


class Layer(nn.Module):
    def __init__(self, weight):
        super().__init__()
        self.layer = nn.Linear(OBSERVED, OBSERVED).requires_grad_(False)
        self.layer.weight.fill_(weight)
        self.layer.bias.fill_(0)

    def forward(self, x):
        return (self.layer(x) > 0).float()


def ordered(order):
    return lambda x: (x[:, order] > 0.5).float()


def calling(module):
    return lambda x: module(x)


class Warm:
    def __init__(self, start):
        self.start = start

    def __call__(self, done):
        return min(1.0, self.start + done)


def in_groups(odd):
    def make(leaves):
        leaves = list(leaves)
        return Adam([{"params": leaves[odd::2], "lr": 0.01}, {"params": leaves[1 - odd :: 2]}], lr=0.001)

    return make


class Clipping(SGD):
    def __init__(self, leaves, limit):
        super().__init__(leaves, lr=0.01)
        self.limit = limit


class Owned(VAE):
    """Holds something beside its layers."""

    def __init__(self, held, is_buffer=False):
        torch.manual_seed(0)
        super().__init__(OBSERVED, 2, hidden=(8,))
        if is_buffer:
            self.register_buffer("held", held)
        else:
            self.held = held


def owned(*given):
    return {"make": lambda: (Owned(*given), normal()[1])}


def redefined(number):
    class Model(VAE):
        def unused(self):
            return number + 1

    return {"make": lambda: (Model(OBSERVED, 2, hidden=(8,)), normal()[1])}


def hooked():
    model, guide = normal()
    model.register_forward_hook(lambda *_: None)
    return model, guide


def transformed(transform):
    return {"transform": transform}


REVERSED = list(range(OBSERVED))[::-1]
PAIRS = {
    "object": (*map(transformed, map(Threshold, (0.4, 0.5))), "transform is .*limit=0.4"),
    "slots": (*map(transformed, map(Slots, (0.4, 0.5))), "transform is .*limit=0.4"),
    "method": (*(transformed(Threshold(limit).apply) for limit in (0.4, 0.5)), "transform is .*limit=0.4"),
    "network": (*map(transformed, map(Layer, (0.1, 0.2))), "transform's parameters is 2 of digest"),
    "function of a network": (
        *(transformed(calling(Layer(weight))) for weight in (0.1, 0.2)),
        "transform's parameters is 2 of digest",
    ),
    "tensor": (
        *(transformed(ordered(torch.tensor(order))) for order in (REVERSED, REVERSED[::-1])),
        r"transform is .* \(code",
    ),
    "array": (
        *(transformed(ordered(np.array(order))) for order in (REVERSED, REVERSED[::-1])),
        r"transform is .* \(code",
    ),
    "list": (*(transformed(ordered(order)) for order in (REVERSED, REVERSED[::-1])), r"transform is .* \(code"),
    "schedule": ({"schedule": Warm(0.1)}, {"schedule": Warm(0.2)}, "schedule of the rate is .*start=0.1"),
    "groups": ({"optimizer": in_groups(0)}, {"optimizer": in_groups(1)}, "optimizer's parameters of group 0 is 0 2"),
    "own optimizer": (
        {"optimizer": partial(Clipping, limit=1.0)},
        {"optimizer": partial(Clipping, limit=2.0)},
        "optimizer's limit is 1.0",
    ),
    "attribute": (owned([1, 2]), owned([1, 3]), r"model.held is \(1, 2\)"),
    "dictionary": (owned({"a": 1}), owned({"a": 2}), "model.held is {'a': 1}"),
    "mask": (owned(torch.eye(2)), owned(torch.ones(2, 2)), "model.held is numbers of shape"),
    "buffer": (
        owned(torch.eye(2), True),
        owned(torch.ones(2, 2), True),
        r"buffer model.held is numbers of shape \(2, 2\)",
    ),
    "code of a class": (redefined(1), redefined(2), r"model is .*Model \(code"),
    "hook": ({}, {"make": hooked}, "model's hooks is nothing; here it is"),
}


@pytest.mark.parametrize("kind", PAIRS)
def test_what_differs_in_one_setting_is_refused(tmp_path, kind):
    place, (given, changed, message) = tmp_path / "kept.pt", PAIRS[kind]
    first = {"make": normal, "elbo": Trace_ELBO, "place": place, "epochs": 1, "schedule": None} | given
    train(**first)
    with pytest.raises(InputError, match=f"the checkpoint of another run, whose {message}") as caught:
        train(**(first | changed))
    assert "\n" not in str(caught.value)
    train(**first)


class Scaled(Dataset):
    def __init__(self, scale):
        self.scale = scale

    def __len__(self):
        return 8

    def __getitem__(self, index):
        return torch.ones(OBSERVED).mul(self.scale)


def bits(seed=0):
    return TensorDataset(torch.rand(8, OBSERVED, generator=torch.Generator().manual_seed(seed)).round())


def seeded(seed):
    return {"shuffle": True, "generator": torch.Generator().manual_seed(seed)}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (lambda: DataLoader(bits(0)), lambda: DataLoader(bits(1))),
        (lambda: DataLoader(bits(0)), lambda: DataLoader(bits(0), shuffle=True)),
        (lambda: DataLoader(bits(0), **seeded(1)), lambda: DataLoader(bits(0), **seeded(2))),
        (lambda: DataLoader(Subset(bits(0), range(4))), lambda: DataLoader(Subset(bits(0), range(1, 5)))),
        (lambda: DataLoader(Scaled(0.0)), lambda: DataLoader(Scaled(1.0))),
        (
            lambda: DataLoader(bits(0), sampler=WeightedRandomSampler([1.0] * 8, 8)),
            lambda: DataLoader(bits(0), sampler=WeightedRandomSampler([1.0] * 7 + [2.0], 8)),
        ),
        (
            lambda: DataLoader(bits(0), collate_fn=lambda rows: torch.stack([row[0] for row in rows])),
            lambda: DataLoader(bits(0), collate_fn=lambda rows: 1 - torch.stack([row[0] for row in rows])),
        ),
    ],
)
def test_another_loader_is_refused(tmp_path, one, other):
    def trained(loader):
        return fit(*normal(), loader(), epochs=1, seed=0, progress=False, checkpoint=tmp_path / "kept.pt")

    trained(one)
    with pytest.raises(InputError, match=r"whose loader is a torch.utils.data.dataloader.DataLoader"):
        trained(other)
    trained(one)


def test_words_are_those_of_any_process():
    code = """
from ppl_vae.training.descriptions import Words
def kind(x):
    return x in {"a", "b", "c", "d"}, frozenset({"e", "f"}), sorted, len, abs, min, max
print(Words().of(kind), Words().of({"a", "b", "c"}))
"""
    words = {
        subprocess.run(
            [sys.executable, "-c", code], env=os.environ | {"PYTHONHASHSEED": seed}, capture_output=True, check=True
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(words) == 1


def test_what_refers_to_itself_is_described():
    loop = Threshold(0.1)
    loop.self, loop.all = loop, [loop, {"loop": loop}]
    assert "limit=0.1" in Words().of(loop)

    def calls_itself(x):
        return calls_itself(x)

    assert "calls_itself" in Words().of(calls_itself)
    assert Words().of([random.Random(1), iter([])]) == "(a random.Random, a builtins.list_iterator)"


def test_what_an_optimizer_of_ones_own_notes_is_no_other_run(tmp_path):
    steps = []

    class Noting(SGD):
        def step(self, closure=None):
            steps.append(self.param_groups[0]["lr"])
            return super().step(closure)

    options = {"make": normal, "elbo": Trace_ELBO, "place": tmp_path / "kept.pt", "optimizer": partial(Noting, lr=0.01)}
    with pytest.warns(UserWarning, match="^optimizer changes in training, which a checkpoint does not hold"):
        train(**options)
    assert len(train(**options)[1].elbo) == 6
