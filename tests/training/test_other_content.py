"""A checkpoint with a valid digest but other content is refused in one line, and nothing is changed then."""

import copy
import os
import random

import numpy as np
import pytest
import torch
from cut_off import OBSERVED, bits, normal
from torch.optim import Adam

from ppl_vae import InputError, cosine, fit
from ppl_vae.estimators import RunningMean
from ppl_vae.training.tensor_files import read_content, write_content

CASES = int(os.environ.get("PPL_VAE_SOAK", "40"))


def start(place, optimizers, generator):
    """The arguments of a training; its optimizers are noted."""

    def make(leaves):
        optimizers.append(Adam(leaves, lr=0.01))
        return optimizers[-1]

    def noisy(x):
        return (x > torch.from_numpy(generator.random(x.shape)).float()).float()

    model, guide = bits()
    x = torch.rand(16, OBSERVED, generator=torch.Generator().manual_seed(2))
    options = {"transform": noisy, "optimizer": make, "elbo": RunningMean(), "schedule": cosine, "checkpoint": place}
    return (model, guide, x), options | {"epochs": 3, "batch_size": 8, "progress": False, "capture": True}


def places(content, path=()):
    """The keys that lead to each part."""
    items = content.items() if isinstance(content, dict) else enumerate(content)
    for key, part in items:
        yield (*path, key)
        if isinstance(part, dict | list | tuple):
            yield from places(part, (*path, key))


OTHERS = (
    *(None, "a word", 3, -1.5, 10**30, [], {}, (1, 2), True, float("nan")),
    *(torch.zeros(0), torch.zeros(3, dtype=torch.float64), torch.tensor([True]), torch.zeros(2, 2, 2)),
)


def changed(content, chance):
    """A copy with a part left out, replaced, cut, or of another type."""
    copied = copy.deepcopy(content)
    *path, key = chance.choice(list(places(copied)))
    holder = copied
    for step in path:
        holder = holder[step]
    if isinstance(holder, tuple):
        (*outer, last), listed = path, list(holder)
        owner = copied
        for step in outer:
            owner = owner[step]
        if isinstance(owner, tuple):
            return changed(content, chance)
        holder = owner[last] = listed
    part = holder[key]
    kind = chance.randrange(5)
    if kind == 0:
        del holder[key]
    elif kind == 1 and isinstance(part, torch.Tensor):
        holder[key] = chance.choice([part[:-1] if part.dim() else part[None], part.double(), part.int(), part[None]])
    elif kind == 2 and isinstance(part, dict):
        part["more"] = 1
    elif kind == 3 and isinstance(part, list):
        part.append(chance.choice(OTHERS))
    else:
        holder[key] = chance.choice(OTHERS)
    return copied


def refusal(*given, **options):
    try:
        fit(*given, **options)
    except InputError as error:
        return str(error)
    return ""


def test_other_content_is_refused_in_one_line_and_nothing_is_changed(tmp_path):
    place, other, chance = tmp_path / "kept.pt", tmp_path / "other.pt", random.Random(0)
    given, options = start(place, [], np.random.default_rng(1))
    fit(*given, **(options | {"after_epoch": lambda done: done == 2}))
    content, refused = read_content(place, ""), 0
    for _ in range(CASES):
        write_content(other, changed(content, chance))
        optimizers, generator = [], np.random.default_rng(1)
        (model, guide, x), options = start(other, optimizers, generator)
        leaves = [leaf.clone() for module in (model, guide) for leaf in module.parameters()]
        torch.manual_seed(9)
        np.random.seed(9)
        random.seed(9)
        states = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
        error = refusal(model, guide, x, **options)
        if error:
            refused += 1
            assert len(error.splitlines()) == 1
            assert error.startswith(str(other))
            assert all(map(torch.equal, leaves, [leaf for part in (model, guide) for leaf in part.parameters()]))
            assert not optimizers[0].state
            assert optimizers[0].param_groups[0]["lr"] == 0.01
            assert torch.equal(states[0], torch.get_rng_state())
            assert states[1:] == (np.random.get_state()[1].tolist(), random.getstate())
    print({"tried": CASES, "refused in one line": refused, "gone on from": CASES - refused})
    assert refused > CASES / 2


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda content: content.pop("parts"), "'parts'"),
        (lambda content: content["tensors"].pop(), "its tensors have other shapes"),
        (lambda content: content["tensors"].__setitem__(0, torch.zeros(1)), "its tensors have other shapes"),
        (lambda content: content["parts"]["updates"]["optimizers"].append({}), "it has 2 optimizers, not 1"),
        (
            lambda content: content["parts"]["updates"]["optimizers"][0]["state"][0].pop("exp_avg"),
            "its optimizer's memory of parameter 0 has another form",
        ),
        (
            lambda content: content["parts"]["updates"]["optimizers"][0]["state"][0].update(exp_avg=torch.zeros(1)),
            "its optimizer's memory of parameter 0 has another form",
        ),
        (
            lambda content: content["parts"]["updates"]["optimizers"][0]["param_groups"][0].update(maximize=3),
            "its optimizer's maximize is a int",
        ),
        (lambda content: content["parts"]["beside"].update(torch=torch.zeros(5, dtype=torch.uint8)), "RNG"),
        (
            lambda content: content["parts"]["beside"].update(generators={"other": 1}),
            "it has the random numbers of other, which is not there",
        ),
        (lambda content: content["run"].update(seed=torch.eye(3)), "what it says of its run is not in words"),
        (lambda content: content.update(epochs=torch.zeros(0)), "it does not say how long it was to be"),
        (lambda content: content.update(format=3), "was written by another version of fit"),
    ],
)
def test_what_is_missing_or_of_another_shape_is_named(tmp_path, change, words):
    place = tmp_path / "kept.pt"

    def train(epochs):
        x = torch.ones(8, OBSERVED)
        return fit(*normal(), x, epochs=epochs, seed=0, progress=False, checkpoint=place)

    train(1)
    content = read_content(place, "")
    change(content)
    write_content(place, content)
    with pytest.raises(InputError, match=words) as caught:
        train(2)
    assert len(str(caught.value).splitlines()) == 1
