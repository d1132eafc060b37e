"""What a program draws, reads or changes outside torch: captured training gives what uncaptured training gives."""

import itertools
import logging
import os
import random
import re
import time
import warnings
from argparse import Namespace
from contextvars import ContextVar
from datetime import datetime
from functools import partial

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import Trace_ELBO
from torch import nn
from twice import OBSERVED, bits, both, pair

from ppl_vae import bounds, fit
from ppl_vae.capture import CaptureWarning
from ppl_vae.estimators import GumbelSoftmax
from ppl_vae.held import Held
from ppl_vae.log_weights import log_weight_chunks
from ppl_vae.watching import watched

SETTINGS = {"step": 0}


class Settings:
    """A class as a namespace."""

    step = 0


def warmed(weight):
    """A KL warm-up: the prior's scale by a number that ``weight`` gives at each run."""

    def model(x):
        with pyro.plate("data", len(x)):
            with pyro.poutine.scale(scale=weight()):
                z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            pyro.sample("x", dist.Bernoulli(logits=decoder(z)).to_event(1), obs=x)

    torch.manual_seed(2)
    decoder = nn.Linear(2, OBSERVED)
    return model


def by_random():
    return lambda: 0.1 + float(random.random() < 0.5)


def by_numpy():
    return lambda: 0.1 + float(np.random.uniform() < 0.5)


def by_a_generator_of_numpy():
    generator = np.random.default_rng(3)
    return lambda: 0.1 + float(generator.uniform() < 0.5)


def by_an_instance_of_random():
    generator = random.Random(3)
    return lambda: 0.1 + float(generator.random() < 0.5)


def by_the_clock():
    start = time.perf_counter()
    return lambda: 1.0 + 0.0 * (time.perf_counter() - start)


def by_the_date():
    return lambda: 1.0 + 0.0 * datetime.now().timestamp()


def by_a_dictionary():
    SETTINGS["step"] = 0

    def weight():
        SETTINGS["step"] += 1
        return min(1.0, SETTINGS["step"] / 20)

    return weight


def by_a_list():
    calls = []

    def weight():
        calls.append(1)
        return min(1.0, len(calls) / 20)

    return weight


def by_a_closure():
    step = 0

    def weight():
        nonlocal step
        step += 1
        return min(1.0, step / 20)

    return weight


def by_an_attribute_of_a_function():
    def weight():
        weight.step += 1
        return min(1.0, weight.step / 20)

    weight.step = 0
    return weight


def by_a_class():
    Settings.step = 0

    def weight():
        Settings.step += 1
        return min(1.0, Settings.step / 20)

    return weight


def by_an_instance():
    class Warm:
        def __init__(self):
            self.inner = {"steps": [0]}

        def __call__(self):
            self.inner["steps"][0] += 1
            return min(1.0, self.inner["steps"][0] / 20)

    return Warm()


def by_a_default():
    def weight(kept={"step": 0}):  # noqa: B006
        kept["step"] += 1
        return min(1.0, kept["step"] / 20)

    weight.__defaults__[0]["step"] = 0
    return weight


def by_a_count():
    steps = itertools.count(1)
    return lambda: min(1.0, next(steps) / 20)


def by_a_chain_of_iterators():
    steps = zip(itertools.count(1), itertools.cycle("ab"), strict=False)
    return lambda: min(1.0, next(steps)[0] / 20)


def by_a_list_that_is_used_up():
    weights = iter([0.1] * 5 + [1.0] * 500)
    return lambda: next(weights)


def by_a_generator():
    def rising():
        step = 0
        while True:
            step += 1
            yield min(1.0, step / 20)

    steps = rising()
    return lambda: next(steps)


def by_a_tensor_of_its_own():
    step = torch.zeros(())

    def weight():
        step.add_(1)
        return (step / 20).clamp(max=1.0)

    return weight


def by_an_array():
    step = np.zeros(1)

    def weight():
        step[0] += 1
        return float(min(1.0, step[0] / 20))

    return weight


BY = [
    (by_random, "draws from Python's random module"),
    (by_numpy, "draws from numpy's random numbers"),
    (by_a_generator_of_numpy, "sets generator anew"),
    (by_an_instance_of_random, "sets generator anew"),
    (by_the_clock, r"reads time.perf_counter\(\)"),
    (by_the_date, r"reads datetime.now\(\)"),
    (by_a_dictionary, "sets SETTINGS.'step'. anew"),
    (by_a_list, "sets the length of calls anew"),
    (by_a_closure, "sets step anew"),
    (by_an_attribute_of_a_function, "sets weight.step anew"),
    (by_a_class, "sets Settings.step anew"),
    (by_an_instance, "sets Warm.inner.'steps'..0. anew|sets weight.inner.'steps'..0. anew"),
    (by_a_default, "sets weight.0..'step'. anew"),
    (by_a_count, "sets steps anew"),
    (by_a_chain_of_iterators, "sets steps anew"),
    (by_a_list_that_is_used_up, "sets weights anew"),
    (by_a_generator, "sets steps anew"),
    (by_a_tensor_of_its_own, "sets step anew"),
    (by_an_array, "sets step anew"),
]


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
            warmed(weight), guide, x, transform=transform, epochs=epochs, batch_size=7, seed=1, progress=False,
            capture=capture,
        )  # fmt: skip
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
                model, guide, x, elbo, epochs=90, batch_size=7, seed=1, progress=False, capture=capture,
                after_epoch=after,
            )  # fmt: skip
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


def test_evaluation_replays_no_frozen_draws():
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
        found = torch.cat(list(log_weight_chunks(model, guide, x, particles=1, chunk=5)), 1)[0] - exact
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


def test_a_log_line_is_no_clock():
    def logging_model():
        logging.getLogger("quiet").warning("a line")
        return 1

    logging.getLogger("quiet").addHandler(logging.NullHandler())
    logging.getLogger("quiet").propagate = False
    found, reason, _ = watched(logging_model, [logging_model])
    assert (found, reason) == (1, "")
