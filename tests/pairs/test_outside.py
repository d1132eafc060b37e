"""What a program draws, reads or changes outside torch: captured training gives what uncaptured training gives."""

import io
import itertools
import logging
import os
import random
import re
import warnings
from argparse import Namespace
from contextvars import ContextVar
from functools import partial

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from outside import BY, SETTINGS, warmed
from pyro.infer import Trace_ELBO
from torch import nn
from twice import OBSERVED, bits, both, pair

from ppl_vae import bounds, fit
from ppl_vae.estimators import GumbelSoftmax
from ppl_vae.pairs.held import Held
from ppl_vae.pairs.pair import Pair
from ppl_vae.pairs.watching import watched
from ppl_vae.training.capture import CaptureWarning


@pytest.mark.parametrize(("by", "reason"), BY, ids=lambda part: getattr(part, "__name__", ""))
def test_no_replay_freezes_what_a_program_draws_reads_or_counts(by, reason):
    def make():
        _, guide, x = pair()
        return warmed(by()), guide, x

    plain, captured = both(make, Trace_ELBO, epochs=30, batch_size=7)
    assert torch.equal(captured[0], plain[0])
    assert captured[1] == plain[1]
    (warned,) = captured[2]
    assert re.search(f"the pair runs uncaptured: it ({reason})", str(warned.message))


class Weighed(nn.Module):
    """Holds a weight that others set."""

    weight = 1.0


class Slotted:
    __slots__ = ("weight",)


def outside(kind):
    """A weight that is read by a model, and a function that sets it from outside."""
    if kind in ("namespace", "slots"):
        place = Namespace() if kind == "namespace" else Slotted()
        place.weight = 1.0
        return (lambda: place.weight), partial(setattr, place, "weight")
    if kind == "array":
        numbers = np.ones(1)
        return (lambda: float(numbers[0])), partial(numbers.__setitem__, 0)
    if kind == "context":
        variable = ContextVar("weight", default=1.0)
        return variable.get, variable.set
    if kind == "attribute":
        held = Weighed()
        return (lambda: held.weight), partial(setattr, held, "weight")
    if kind == "dictionary":
        SETTINGS["weight"] = 1.0
        return (lambda: SETTINGS["weight"]), partial(SETTINGS.__setitem__, "weight")
    if kind == "tensor":
        tensor = torch.ones(())
        return (lambda: tensor * 1.0), tensor.fill_
    os.environ["WEIGHT"] = "1.0"
    return (lambda: float(os.environ["WEIGHT"])), lambda value: os.environ.__setitem__("WEIGHT", str(value))


def trained(kind, capture, at=50, epochs=100):
    """A training of single batches, in which something outside sets the weight before step ``at``."""
    _, guide, x = pair()
    weight, put = outside(kind)
    steps = itertools.count()

    def transform(batch):
        if next(steps) == at:
            put(3.0)
        return batch

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        history = fit(
            warmed(weight),
            guide,
            x,
            transform=transform,
            epochs=epochs,
            batch_size=7,
            seed=1,
            progress=False,
            capture=capture,
        )
    return history.elbo, [str(one.message) for one in caught if one.category is CaptureWarning]


@pytest.mark.parametrize("kind", ["attribute", "dictionary", "tensor", "namespace", "slots", "array", "context"])
def test_what_is_set_from_outside_is_seen_before_the_next_replay(kind):
    (plain, _), (captured, warned) = trained(kind, False), trained(kind, True)
    assert captured == pytest.approx(plain, rel=1e-5)
    (message,) = warned
    assert "is no longer what it was when the pair was traced" in message


def test_what_cannot_be_seen_is_found_by_comparison_and_its_steps_are_named():
    (plain, _), (captured, warned) = trained("environment", False), trained("environment", True)
    (message,) = warned
    assert "(found in step 66; steps 35 to 65 were taken with what it gave before)" in message
    assert captured[:49] == pytest.approx(plain[:49], rel=1e-5)
    assert captured[50:65] != pytest.approx(plain[50:65], rel=1e-3)  # what the warning says


def test_what_changes_after_the_last_comparison_is_told_at_the_end():
    _, warned = trained("environment", True, at=80, epochs=100)
    (message,) = warned
    assert "steps 67 to" in message


def frozen(model, guide, elbo):
    model.requires_grad_(False)


def evaluated(model, guide, elbo):
    model.decoder[1].eval()


def cooled(model, guide, elbo):
    elbo.temperature = 0.3


@pytest.mark.parametrize("change", [frozen, evaluated, cooled])
def test_what_is_frozen_switched_or_cooled_between_epochs_is_so_from_then_on(change):
    """Parameters, the modes of parts, and the estimator's settings."""
    found = []
    for capture in (False, True):
        model, guide, x = bits() if change is cooled else pair()
        if change is evaluated:
            model.decoder = nn.Sequential(nn.Linear(2, 8), nn.Dropout(0.5), nn.Linear(8, OBSERVED))
        elbo = GumbelSoftmax(temperature=1.0) if change is cooled else Trace_ELBO()

        def after(epoch, pair=(model, guide, elbo)):
            if epoch == 40:
                change(*pair)

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", CaptureWarning)
            history = fit(
                model,
                guide,
                x,
                elbo=elbo,
                epochs=90,
                batch_size=7,
                seed=1,
                progress=False,
                capture=capture,
                after_epoch=after,
            )
        found.append(history.elbo)
    assert found[1] == pytest.approx(found[0], rel=1e-5)


def test_a_program_that_sets_the_seed_runs_uncaptured():
    def make():
        _, guide, x = pair()
        inner = warmed(lambda: 1.0)

        def model(x):
            torch.manual_seed(0)
            inner(x)

        return model, guide, x

    plain, captured = both(make, Trace_ELBO, epochs=20, batch_size=7)
    assert torch.equal(captured[0], plain[0])
    assert "sets the seed of torch's random numbers" in str(captured[2][0].message)


def test_a_number_that_creeps_is_found_at_once():
    """A warm-up of a ten-thousandth a step, by a counter that no picture shows."""

    def make():
        _, guide, x = pair()
        os.environ["STEP"] = "0"

        def weight():
            os.environ["STEP"] = str(int(os.environ["STEP"]) + 1)
            return 0.1 + int(os.environ["STEP"]) / 10_000

        return warmed(weight), guide, x

    _, captured = both(make, Trace_ELBO, epochs=6, batch_size=7)
    (warned,) = captured[2]
    assert "gives other numbers when it runs again with the same random numbers" in str(warned.message)


def test_evaluation_replays_no_frozen_draws(monkeypatch):
    """Bounds of many chunks come from a graph too: of random scales of 1 and 2, their mean is needed."""
    torch.manual_seed(0)
    x = torch.randn(3000, 1)

    def model(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(1), 1.0).to_event(1))
            pyro.factor("weight", torch.full((len(x),), float(random.random() < 0.5)))
            pyro.sample("x", dist.Normal(z, 1.0).to_event(1), obs=x)

    def guide(x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(x / 2, 0.5**0.5).to_event(1))

    exact = dist.Normal(0.0, 2**0.5).log_prob(x[:, 0])
    with torch.no_grad():
        pair = Pair(model, guide, x)
        monkeypatch.setattr("ppl_vae.pairs.pair.CHUNK_BYTES", 5 * pair.largest_bytes)
        found = torch.cat([draws.log_weights for draws in pair.chunks(1)], 1)[0] - exact
    assert set(found.round(decimals=3).unique().tolist()) == {0.0, 1.0}
    assert abs(float(found.mean()) - 0.5) < 4 * 0.5 / 600**0.5
    assert bounds(model, guide, x[:5], particles=2).elbo.notnull().all()


def test_a_picture_sees_what_programs_hold_and_no_parameter():
    model, guide, x = pair()
    before = Held((model, guide))
    fit(model, guide, x, epochs=2, progress=False)
    assert Held((model, guide)).changed_since(before) == ""
    assert before.drifted() == ""
    guide.extra = 1
    assert Held((model, guide)).changed_since(before) == "Amortized.extra"


class Log(io.TextIOWrapper):
    """A file of a class of one's own."""


def test_a_picture_leaves_an_open_file_open(tmp_path):
    with open(tmp_path / "log.txt", "wb") as raw:
        log = Log(raw)
        Held([lambda: log.write("a line")])
        assert not raw.closed


def test_a_log_line_is_no_clock():
    def logging_model():
        logging.getLogger("quiet").warning("a line")
        return 1

    logging.getLogger("quiet").addHandler(logging.NullHandler())
    logging.getLogger("quiet").propagate = False
    found, reason, _ = watched(logging_model, [logging_model])
    assert (found, reason) == (1, "")
