"""What a training goes up beside the ELBO itself: a weight of its divergence, by schedule or not, and free bits."""

import math
from functools import partial
from typing import Any

import torch

from ppl_vae.errors import InputError, is_number, shown
from ppl_vae.estimators.weights import Weights
from ppl_vae.training.clipping import Clipping
from ppl_vae.training.identity import KL_SCHEDULE
from ppl_vae.training.optimizers import Schedule, factor_after
from ppl_vae.training.preparation import Prepared


class KLWeight:
    """The weight of the divergence, a tensor that graphs read where it is, set anew after each step.

    Args:
        value: the weight, or a function of the share of the training that is done.
        device: where the tensor is.

    Attributes:
        tensor: the weight at this moment.
        is_scheduled: whether it is a function.
        steps: of the whole training.
    """

    def __init__(self, value: float | Schedule, device: torch.device) -> None:
        self._value, self.is_scheduled, self.steps = value, callable(value), 1
        self.tensor = torch.zeros((), dtype=torch.float64, device=device)
        self.set(0)

    def set(self, steps: int) -> None:
        """Has the weight be as after so many steps."""
        value: Any = self._value
        if self.is_scheduled:
            value = factor_after(value, self.steps, steps, "kl_weight")
        self.tensor.fill_(value)


class Objective:
    """What ``fit`` is asked to go up.

    Args:
        kl_weight: the weight of the divergence.
        free_bits: bits of each latent's dimension that cost nothing.
        clip: the largest norm of a gradient.
        device: where the training is.

    Attributes:
        kl_weight: the weight of the divergence at this moment; None where the objective is the bound.
        weights: what an estimator takes it from; None where the objective is the bound.
        schedule: the weight as a function, None where it is none.
        identity: what tells it from the bound, by name.

    Raises:
        InputError: for values that are none of these.
    """

    def __init__(self, kl_weight: Any, free_bits: Any, clip: Any, device: torch.device) -> None:
        if not callable(kl_weight) and not _is_between(kl_weight):
            raise InputError(
                f"kl_weight is {shown(kl_weight)}; expected a finite number from 0 on, or a schedule such as warm_up()"
            )
        if not _is_between(free_bits):
            raise InputError(f"free_bits is {shown(free_bits)}; expected a finite number of bits from 0 on")
        if clip is not None and (not _is_between(clip) or clip == 0):
            raise InputError(
                f"clip is {shown(clip)}; expected the largest norm of a gradient, finite and above 0, or None"
            )
        self._clip, self.schedule = clip, kl_weight if callable(kl_weight) else None
        self.kl_weight: KLWeight | None = None
        self.weights: Weights | None = None
        self.identity: dict[str, Any] = {} if clip is None else {"clip": float(clip)}
        if callable(kl_weight) or kl_weight != 1:
            self.identity |= {KL_SCHEDULE: kl_weight} if callable(kl_weight) else {"KL weight": float(kl_weight)}
            given = f"kl_weight is {'a schedule' if callable(kl_weight) else shown(kl_weight)}"
        if free_bits:
            self.identity["free bits"] = float(free_bits)
            given = f"free_bits is {shown(free_bits)}"
        if self.identity.keys() - {"clip"}:
            self.kl_weight = KLWeight(kl_weight, device)
            self.weights = Weights(self.kl_weight.tensor, free_bits * math.log(2), given)

    def clipping(self, ready: Prepared) -> Clipping | None:
        """Makes what shortens the gradients of a pair; those of what an estimator learns beside it are let be."""
        if self._clip is None:
            return None
        beside = {id(leaf) for leaf in ready.learned.parameters()} if ready.learned is not None else set()
        leaves = [leaf for leaf in ready.trainable.parameters if id(leaf) not in beside]
        return Clipping(leaves, self._clip, ready.trainable.full_size)


def warm_up(share: float = 0.3, start: float = 0.0) -> Schedule:
    """Makes a KL weight that rises linearly to 1 over the first part of a training, and stays there.

    The latents find a use before they cost anything (Bowman et al. 2016, Sønderby et al. 2016).

    Args:
        share: of the training, in which it rises.
        start: the weight of the first step.

    Examples:
        >>> from ppl_vae import warm_up
        >>> weight = warm_up(0.5)
        >>> weight(0.0), weight(0.25), weight(0.75)
        (0.0, 0.5, 1.0)
    """
    if not is_number(share) or not 0 < share <= 1:
        raise InputError(f"share of warm_up is {shown(share)}; expected one above 0, and 1 at most")
    if not _is_between(start):
        raise InputError(f"start of warm_up is {shown(start)}; expected a finite weight from 0 on")
    return partial(_warmed_up, share=share, start=start)


def cyclical(cycles: int = 4, share: float = 0.5) -> Schedule:
    """Makes a KL weight that rises linearly from 0 to 1 and stays there, and begins anew with each cycle.

    Each cycle starts from latents that have a use already (Fu et al. 2019).

    Args:
        cycles: how often.
        share: of each cycle, in which it rises.

    Examples:
        >>> from ppl_vae import cyclical
        >>> weight = cyclical(cycles=2)
        >>> weight(0.0), weight(0.125), weight(0.25), weight(0.5), weight(1.0)
        (0.0, 0.5, 1.0, 0.0, 1.0)
    """
    if isinstance(cycles, bool) or not isinstance(cycles, int) or cycles < 1:
        raise InputError(f"cycles of cyclical is {shown(cycles)}; expected a whole number from 1 on")
    if not is_number(share) or not 0 < share <= 1:
        raise InputError(f"share of cyclical is {shown(share)}; expected one above 0, and 1 at most")
    return partial(_in_cycles, cycles=cycles, share=share)


def _warmed_up(done: float, share: float, start: float) -> float:
    return start + (1.0 - start) * min(1.0, done / share)


def _in_cycles(done: float, cycles: int, share: float) -> float:
    return 1.0 if done >= 1 else min(1.0, done * cycles % 1 / share)


def _is_between(value: Any) -> bool:
    """Says whether a value is a finite number from 0 on."""
    return is_number(value) and 0 <= value < math.inf
