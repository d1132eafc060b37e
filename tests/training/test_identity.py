"""The checkpoint of another run is refused, in one line that says what differs."""

import os
import sys
from functools import partial

import pytest
import torch
from cut_off import OBSERVED, bits, normal, train, wide
from pyro.infer import Trace_ELBO, TraceGraph_ELBO, TraceMeanField_ELBO
from torch import nn
from torch.optim import Adam

from ppl_vae.estimators import RunningMean
from ppl_vae.guides import IAF, MAF, Amortized, FixedScale
from ppl_vae.models import VAE
from ppl_vae.training.descriptions import Words
from ppl_vae.training.tensor_files import write_content


def tanh():
    model, guide = normal()
    model.decoder[1] = nn.Tanh()
    return model, guide


def narrow():
    model, _ = normal()
    return model, Amortized(FixedScale(2, 0.3), OBSERVED, hidden=(8,))


def flow(family, **options):
    def make():
        torch.manual_seed(0)
        return VAE(OBSERVED, 2, hidden=(8,)), Amortized(
            family(2, hidden=(8,), context=4), OBSERVED, hidden=(8,), **options
        )

    return make


def also(x):
    return torch.bernoulli(1 - x)


def risen(done):
    return 1 - done / 3


OTHERS = {
    "data": ({}, {"rows": 19}, "whose data is 20 rows of digest .*; here it is 19 rows"),
    "order of rows": ({}, {"order": -1}, "whose data is 20 rows of digest (.*); here it is 20 rows of digest (?!\\1)"),
    "batch": ({}, {"batch_size": 4}, "whose batch size is 8; here it is 4"),
    "seed": ({}, {"seed": 4}, "whose seed is 3; here it is 4: name another file, or go on with the same settings"),
    "estimator": (
        {},
        {"elbo": TraceMeanField_ELBO},
        "whose estimator is .*Trace_ELBO.*; here it is .*TraceMeanField_ELBO",
    ),
    "estimator's number": (
        {"make": bits, "elbo": RunningMean},
        {"make": bits, "elbo": partial(RunningMean, decay=0.5)},
        r"RunningMean\(.*decay=0.9.*; here it is .*RunningMean\(.*decay=0.5",
    ),
    "rate": (
        {},
        {"optimizer": partial(Adam, lr=0.01)},
        "whose optimizer's lr is 0.001; here it is 0.01",
    ),
    "betas": (
        {"optimizer": partial(Adam, lr=0.01)},
        {"optimizer": partial(Adam, lr=0.01, betas=(0.5, 0.6))},
        r"whose optimizer's betas is \(0.9, 0.999\); here it is \(0.5, 0.6\)",
    ),
    "precision": ({}, {"precision": "bf16"}, "whose precision is float32; here it is bf16"),
    "schedule": ({}, {"schedule": risen}, r"whose schedule of the rate is .*halved .*; here it is .*risen"),
    "transform": ({}, {"transform": also}, r"whose transform is .*bernoulli; here it is .*also \(code"),
    "width": ({}, {"make": wide}, r"whose parameter .* is torch.float32 of shape \(8, 2\); here it is .* \(9, 2\)"),
    "activation": ({}, {"make": tanh}, r"whose model.decoder.1 is .*ReLU\(.*; here it is .*Tanh\("),
    "family": (
        {"make": flow(IAF)},
        {"make": flow(MAF)},
        r"whose guide.family is ppl_vae.guides.flows.IAF\(\); here it is .*MAF",
    ),
    "a family's number": (
        {"make": lambda: (normal()[0], Amortized(FixedScale(2, 0.5), OBSERVED, hidden=(8,)))},
        {"make": narrow},
        "whose guide.family.scale is 0.5; here it is 0.3",
    ),
    "score function": (
        {"make": flow(IAF), "elbo": TraceGraph_ELBO},
        {"make": flow(IAF, reparameterized=False), "elbo": TraceGraph_ELBO},
        "whose guide.reparameterized is True; here it is False",
    ),
}


@pytest.mark.parametrize("other", OTHERS)
def test_the_checkpoint_of_another_run_is_refused(tmp_path, other):
    place = tmp_path / "kept.pt"
    given, changed, message = OTHERS[other]
    first_run = {"make": normal, "elbo": Trace_ELBO, "place": place} | given
    first, _ = train(**first_run)
    with pytest.raises(ValueError, match=message) as caught:
        train(**(first_run | changed))
    assert "\n" not in str(caught.value)
    again, _ = train(**first_run)
    assert torch.equal(first, again)


def test_two_lambdas_are_two_transforms(tmp_path):
    place = tmp_path / "kept.pt"
    train(normal, Trace_ELBO, place, transform=lambda x: (x > 0.5).float())
    train(normal, Trace_ELBO, place, transform=lambda x: (x > 0.5).float())
    with pytest.raises(ValueError, match=r"whose transform is .*<lambda> \(code .*; here it is .*<lambda> \(code"):
        train(normal, Trace_ELBO, place, transform=lambda x: (x > 0.4).float())


def threshold(limit):
    def above(x):
        return (x > limit).float() if limit else above(x)

    return above


def test_a_number_that_a_transform_refers_to_tells_it_from_others(tmp_path):
    place = tmp_path / "kept.pt"
    train(normal, Trace_ELBO, place, transform=threshold(0.5))
    train(normal, Trace_ELBO, place, transform=threshold(0.5))
    with pytest.raises(ValueError, match=r"whose transform is .*above \(code (.*)\); here it is .*above \(code (?!\1)"):
        train(normal, Trace_ELBO, place, transform=threshold(0.4))


def test_an_older_file_is_refused(tmp_path):
    place = tmp_path / "kept.pt"
    write_content(place, {"format": 2, "tensors": [], "others": [], "run": {}, "progress": {}})
    with pytest.raises(ValueError, match=r"kept.pt was written by another version of fit, .*: name another file"):
        train(normal, Trace_ELBO, place)


def test_the_environment_is_no_setting(monkeypatch):
    def transform(x):
        return x * float(os.environ.get("FACTOR", "1")) * len(sys.argv)

    words = Words().of(transform)
    monkeypatch.setenv("ANOTHER", "1")
    assert Words().of(transform) == words
