"""Programs whose KL weight is drawn, read or counted outside torch, and what is said of each."""

import itertools
import random
import time
from datetime import datetime

import numpy as np
import pyro
import pyro.distributions as dist
import torch
from torch import nn
from twice import OBSERVED

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
