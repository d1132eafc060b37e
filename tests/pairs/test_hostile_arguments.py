"""Values that arguments are not made for, in every public function: one line says what is wrong, and nothing is left.

``PPL_VAE_SOAK=5000`` makes so many calls: each value of each parameter by itself, then several at once.
"""

import inspect
import itertools
import os
import random

import hostile
import numpy as np
import pyro
import pytest
import torch
from hostile import Attack

import ppl_vae
from ppl_vae import InputError, bounds, evidence, fit
from ppl_vae.errors import shown

ARITHMETIC = {"cooldown", "cosine", "cyclical", "no_guide", "temperatures", "warm_up"}


def fault(attack: Attack) -> str:
    """What is wrong with how a call ends; nothing where it is told in one line, or where it may work."""
    pyro.set_rng_seed(0)
    pyro.clear_param_store()
    try:
        found = attack()
    except InputError as error:
        found = "" if str(error) and "\n" not in str(error) else f"more than a line: {error}"
    except Exception as error:
        found = "" if attack.of_the_callers(error) else f"{type(error).__name__}: {error}"
    else:
        told = attack.function == "check" and all("\n" not in line for line in found) and found
        found = "" if told or attack.may_work else "nothing is said"
    left = {
        "validation is off": not torch.distributions.Distribution._validate_args,
        "a handler is left": bool(pyro.poutine.runtime._PYRO_STACK),
        "a parameter is left": bool(pyro.get_param_store().keys()),
        "gradients are off": not torch.is_grad_enabled(),
    }
    return "; ".join([found, *(name for name, is_so in left.items() if is_so)]).strip("; ")


def attacks() -> list[Attack]:
    """One value of each parameter and some several at once; as many as ``PPL_VAE_SOAK`` says, where that is set."""
    every, dice = list(hostile.single()), random.Random(0)
    dice.shuffle(every)
    if soak := int(os.environ.get("PPL_VAE_SOAK", "0")):
        return list(itertools.islice(itertools.chain(every, hostile.several(seed=0)), soak))
    one_each = {(attack.function, attack.changed[0][0]): attack for attack in every}
    return [*one_each.values(), *itertools.islice(hostile.several(seed=0), 50)]


ATTACKS = attacks()


@pytest.mark.parametrize("function", sorted({attack.function for attack in ATTACKS}))
@pytest.mark.filterwarnings("ignore")
def test_a_mistake_is_told_in_one_line(function):
    faults = {attack.label: fault(attack) for attack in ATTACKS if attack.function == function}
    assert not {label: what for label, what in faults.items() if what}


def test_every_public_function_is_attacked():
    public = {name for home in (ppl_vae, evidence) for name in home.__all__ if inspect.isfunction(getattr(home, name))}
    assert public - ARITHMETIC == set(hostile.CALLS)


def test_numbers_of_numpy_are_numbers():
    model, guide, x = hostile.model(), hostile.guide(), hostile.bits()
    plain = bounds(model, guide, x, particles=12, curve=[1, 4], seed=3, progress=False)
    given = {"particles": np.int64(12), "curve": np.array([1, 4]), "seed": np.uint8(3), "progress": np.bool_(False)}
    assert bounds(model, guide, x, **given).identical(plain)
    assert len(fit(model, guide, x, epochs=np.int32(2), lr=np.float32(1e-3), progress=np.False_).elbo) == 2


def test_data_that_have_a_gradient_are_given_none():
    x = hostile.bits().requires_grad_()
    for capture in (True, False):
        fit(hostile.model(), hostile.guide(), x, epochs=2, capture=capture, progress=False)
    ppl_vae.gradient_statistics(
        hostile.model(), hostile.guide(), x, elbo=hostile.Trace_ELBO(), draws=10, progress=False
    )
    assert x.grad is None


def test_a_value_is_shown_in_one_short_line():
    assert shown("adam") == "'adam'"
    assert shown(hostile.model()) == "a VAE"
    assert shown(torch.zeros(3, 3)) == "a Tensor"
