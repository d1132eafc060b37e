"""Optimizers of torch or Pyro, one more for tables with sparse gradients, and schedules of their learning rates."""

import math
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import torch
from pyro.optim import PyroOptim
from pyro.optim.lr_scheduler import PyroLRScheduler
from torch import Tensor, nn
from torch.optim import LBFGS, Adam, Optimizer, SparseAdam
from torch.optim.lr_scheduler import LambdaLR

from ppl_vae.errors import InputError, is_number, require_rate, shown

OptimizerFactory = Callable[[Iterable[Tensor]], Optimizer]
Schedule = Callable[[float], float]
ADAM_RATE = 1e-3  # where none is given


def optimizer_or_adam(optimizer: OptimizerFactory | PyroOptim | None, lr: float | None) -> OptimizerFactory | PyroOptim:
    """Gives the optimizer, or where there is none Adam of a learning rate; InputError where the rate has no use."""
    if lr is not None:
        require_rate(lr)
    if optimizer is None:
        return partial(Adam, lr=ADAM_RATE if lr is None else lr)
    if lr is not None:
        raise InputError(f"lr is {lr}, which is Adam's: give the rate to the optimizer, or leave the optimizer away")
    return optimizer


def make_optimizers(
    optimizer: OptimizerFactory | PyroOptim, parameters: list[Tensor], modules: list[nn.Module]
) -> list[Optimizer]:
    """Makes the optimizer, and a ``SparseAdam`` of the same learning rate for tables with sparse gradients."""
    embeddings = (part for module in modules for part in module.modules() if isinstance(part, nn.Embedding))
    sparse = {id(table.weight): table.weight for table in embeddings if table.sparse and table.weight.requires_grad}
    dense = [parameter for parameter in parameters if id(parameter) not in sparse]
    if isinstance(optimizer, PyroOptim):
        if not isinstance(optimizer.pt_optim_args, dict):
            raise InputError("this pyro.optim optimizer picks options per parameter, give fit a function of them all")
        if isinstance(optimizer, PyroLRScheduler):
            raise InputError("fit does not step the schedulers of pyro.optim: give it the optimizer and schedule=")
        if optimizer.pt_clip_args:
            raise InputError(
                f"fit does not clip gradients by pyro.optim's {optimizer.pt_clip_args}: give fit clip= instead, the "
                "largest norm for a data point"
            )
        optimizer = partial(optimizer.pt_optim_constructor, **optimizer.pt_optim_args)
    made = [_made(optimizer, dense)] if dense else []
    if made and isinstance(made[0], LBFGS):
        raise InputError("LBFGS runs the objective many times a step, which fit does not: take Adam, say")
    if sparse:
        rate = (made[0] if made else _made(optimizer, [torch.zeros((), requires_grad=True)])).defaults["lr"]
        made.append(SparseAdam(list(sparse.values()), lr=rate))
    for stepper in made:
        for group in stepper.param_groups:
            if not stepper.state and _may_be_fused(group):  # what it remembers already, it made for another way
                group["fused"] = True
    return made


def _made(optimizer: OptimizerFactory, leaves: list[Tensor]) -> Optimizer:
    """Makes an optimizer; InputError where it is none, or one of other parameters."""
    made: Any = optimizer(leaves)
    if not isinstance(made, Optimizer):
        raise InputError(f"optimizer makes {shown(made)} of the parameters; expected a torch.optim.Optimizer")
    known = {id(leaf) for group in made.param_groups for leaf in group["params"]}
    if not any(id(leaf) in known for leaf in leaves):
        raise InputError("optimizer makes one without any of the parameters: give it those that it is called with")
    return made


def _may_be_fused(group: dict[str, Any]) -> bool:
    """Says whether one operation may update all parameters of a group: where nobody has said how, and torch has it.

    It reads numbers in the order of their memory, so a parameter with gaps in it is none for it.
    """
    if not all(key in group and group[key] is None for key in ("fused", "foreach")) or group.get("differentiable"):
        return False
    leaves = group["params"]
    on_gpu = any(leaf.is_cuda for leaf in leaves)  # there a fused one may be missing, but not if a graph may hold it
    dense = all(torch.empty_like(leaf).stride() == leaf.stride() for leaf in leaves)
    return dense and all(leaf.is_floating_point() for leaf in leaves) and (not on_gpu or "capturable" in group)


def make_schedulers(schedule: Schedule | None, steppers: Iterable[Optimizer], steps: int) -> list[LambdaLR]:
    """Makes what multiplies each learning rate by a factor, which depends on the share of the steps that is done."""
    if schedule is None:
        return []
    factor = partial(factor_after, schedule, steps)
    return [LambdaLR(stepper, factor) for stepper in steppers]


def set_steps(scheduler: LambdaLR, steps: int) -> None:
    """Has a scheduler, and the learning rates, be as after so many steps of this training."""
    scheduler.last_epoch = steps
    optimizer = scheduler.optimizer
    for group, rate, factor in zip(optimizer.param_groups, scheduler.base_lrs, scheduler.lr_lambdas, strict=True):
        set_rate(group, rate * factor(steps))


def set_rate(group: dict[str, Any], rate: float | Tensor) -> None:
    """Sets the learning rate of a group of parameters, in place where a graph reads it as a tensor."""
    if isinstance(group["lr"], Tensor):
        group["lr"].fill_(rate)
    else:
        group["lr"] = rate


def factor_after(schedule: Schedule, steps: int, step: int, name: str = "schedule") -> float:
    """Returns what a schedule gives after some of all steps; InputError, by the argument's name, for no factor."""
    factor: Any = schedule(step / steps)
    if isinstance(factor, Tensor) and factor.numel() == 1:
        factor = factor.item()
    if not is_number(factor) or not 0 <= factor < math.inf:
        raise InputError(f"{name} gives {shown(factor)} at {step / steps:.3g}; expected a factor from 0 on")
    return factor


def cosine(done: float) -> float:
    """Falls from 1 to 0 along half a cosine as a training goes on: the step noise dies away at the end.

    Examples:
        >>> from ppl_vae import cosine
        >>> cosine(0.0), cosine(1.0)
        (1.0, 0.0)
    """
    return (1 + math.cos(math.pi * done)) / 2


def cooldown(done: float) -> float:
    """Stays at 1, and falls linearly to 0 over the last 30% of a training.

    It goes as far as the steps go, then the noise dies away.

    Examples:
        >>> from ppl_vae import cooldown
        >>> cooldown(0.0), cooldown(0.5), cooldown(1.0)
        (1.0, 1.0, 0.0)
    """
    return min(1.0, (1 - done) / 0.3)
