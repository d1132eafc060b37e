"""An optimizer's step as a graph: the same operations on the same tensors, without the optimizer's own Python.

For a small model that Python takes longer than the rest of a captured training step.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from ppl_vae.graphs.engines import interpreted
from ppl_vae.graphs.private import hooks_of, unwrapped_step
from ppl_vae.graphs.tracing import traced
from ppl_vae.pairs.restore import put
from ppl_vae.pairs.rhythm import is_compared
from ppl_vae.training.cuda_graphs import state_of

# Numbers in all parameters: above, the work on them is all that counts, and a comparison needs memory for copies.
_LARGEST = 10**7


class RecordedUpdate:
    """Takes an optimizer's step by a graph once it has been recorded, and by the optimizer itself where it can't be.

    It is recorded in the second step, since the first one makes the optimizer's memory. The graph must give what the
    optimizer gives, bit for bit, when it is recorded and whenever they are compared: one that reads its count of steps
    as a number, say, gives others in the next step and goes on by itself. So does any that is not torch's own or has
    hooks (:func:`is_torchs_own`), and one whose options, memory or parameters somebody changes.

    Args:
        optimizer: any, of parameters on a CPU, before a scheduler is made of it.
        is_scheduled: whether its learning rates change from step to step; otherwise they are constants of the graph.
    """

    def __init__(self, optimizer: Optimizer, is_scheduled: bool) -> None:
        self._optimizer, self._is_scheduled = optimizer, is_scheduled
        self._leaves = [leaf for group in optimizer.param_groups for leaf in group["params"]]
        self._is_refused = not is_torchs_own(optimizer) or sum(leaf.numel() for leaf in self._leaves) > _LARGEST
        self._steps, self._runs = 0, 0
        self._run: Any = None
        self._rates: list[Any] = []
        self._reached: list[bool] = []
        self._picture: list[Any] = []

    def step(self) -> None:
        """Changes the parameters by their gradients."""
        self._steps += 1
        if self._run is not None and not _are_same(self._held(), self._picture):
            self._is_refused, self._run = True, None
        if self._steps == 1 or self._is_refused:
            self._optimizer.step()
            return
        gradients = [leaf.grad for leaf in self._leaves]
        if any(gradient is not None and gradient.layout != torch.strided for gradient in gradients):
            self._optimizer.step()
        elif self._run is None:
            self._take_beside_the_optimizer(gradients)
        elif not self._fits(gradients):
            self._optimizer.step()
        elif is_compared(self._runs):
            self._take_beside_the_optimizer(gradients)
        else:
            self._runs += 1
            self._run(*self._arguments(gradients))

    def _fits(self, gradients: Sequence[Tensor | None]) -> bool:
        """Says whether the graph is for gradients of just these parameters, and for these learning rates."""
        reached = [gradient is not None for gradient in gradients]
        return reached == self._reached and (self._is_scheduled or self._rates_now() == self._rates)

    def _rates_now(self) -> list[Any]:
        return [group["lr"] for group in self._optimizer.param_groups]

    def _arguments(self, gradients: Sequence[Tensor | None]) -> list[Tensor]:
        rates = self._rates_now() if self._is_scheduled else []
        return [
            *(torch.as_tensor(rate, dtype=torch.float64) for rate in rates),
            *(gradient for gradient in gradients if gradient is not None),
        ]

    def _take_beside_the_optimizer(self, gradients: Sequence[Tensor | None]) -> None:
        """Takes the step by the optimizer, and again by the graph, which is recorded first if there is none."""
        self._runs += 1
        tensors = self._tensors()
        before = [tensor.detach().clone() for tensor in tensors]
        self._optimizer.step()
        after = [tensor.detach().clone() for tensor in tensors]
        if not _are_same(self._tensors(), tensors):
            self._is_refused = True
            return
        put(tensors, before)
        try:
            if self._run is None:
                self._record(gradients, tensors)
                put(tensors, before)
                self._picture = self._held()
            self._run(*self._arguments(gradients))
        except Exception:  # whatever an optimizer does that a graph can't
            self._is_refused = True
        if self._is_refused or not all(map(torch.equal, tensors, after)):
            self._is_refused, self._run = True, None
            put(tensors, after)

    def _record(self, gradients: Sequence[Tensor | None], tensors: Sequence[Tensor]) -> None:
        self._rates, self._reached = self._rates_now(), [gradient is not None for gradient in gradients]
        groups, take = self._optimizer.param_groups, unwrapped_step(self._optimizer)
        reached = [leaf for leaf, has in zip(self._leaves, self._reached, strict=True) if has]

        def update(*arguments: Tensor) -> tuple[Tensor]:
            if self._is_scheduled:
                for group, rate in zip(groups, arguments, strict=False):
                    group["lr"] = rate
            for leaf, gradient in zip(reached, arguments[-len(reached) :], strict=True):
                leaf.grad = gradient
            with torch.no_grad():
                take()
            return (arguments[-1],)  # a graph has a result

        try:
            arguments = tuple(self._arguments(gradients))
            self._run = interpreted(traced(update, arguments, tensors), arguments)
        finally:
            for group, rate in zip(groups, self._rates, strict=True):
                group["lr"] = rate
            for leaf, gradient in zip(self._leaves, gradients, strict=True):
                leaf.grad = gradient

    def _held(self) -> list[Any]:
        """Lists all that a step hangs on beside gradients, rates and the values of tensors."""
        options = (group.items() for group in self._optimizer.param_groups)
        held = [value for items in options for key, value in items if key not in ("params", "lr")]
        leaves = [leaf for group in self._optimizer.param_groups for leaf in group["params"]]
        return [*held, *leaves, *self._tensors(), *hooks_of(self._optimizer), vars(self._optimizer).get("step")]

    def _tensors(self) -> list[Tensor]:
        """Lists the parameters and all tensors that the optimizer remembers."""
        return [*self._leaves, *state_of([self._optimizer])]


def is_torchs_own(optimizer: Optimizer) -> bool:
    """Says whether an optimizer is one of torch's, whose step nobody has changed or called anything else with."""
    is_torchs = type(optimizer).__module__.startswith("torch.optim.")
    return is_torchs and "step" not in vars(optimizer) and not hooks_of(optimizer)


def _are_same(found: Sequence[Any], expected: Sequence[Any]) -> bool:
    """Says whether tensors are the same ones, and other values equal."""
    if len(found) != len(expected):
        return False
    return all(
        one is two or (not isinstance(one, Tensor) and not isinstance(two, Tensor) and one == two)
        for one, two in zip(found, expected, strict=True)
    )
