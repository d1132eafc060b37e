"""The loss of a batch and its gradients, in two ways: as Pyro computes them, and by tensors alone for a graph to hold.

Both give the loss and then a gradient for each parameter (None where none reaches it), and both draw the same random
numbers in the same order, so that one can be compared with the other.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import pyro
import torch
from pyro.infer import ELBO
from torch import Tensor, nn

from ppl_vae.estimators import LogWeightELBO
from ppl_vae.estimators.tensor_only import Objective, bound_and_gradients, first_loss
from ppl_vae.graphs.private import hooks_of_module, hooks_of_tensor
from ppl_vae.pairs.held import Held
from ppl_vae.pairs.modules import Program
from ppl_vae.pairs.restore import Moment, store_kept
from ppl_vae.pairs.watching import watched
from ppl_vae.training.division import Division

Numbers = Sequence[Any]  # the loss, and a gradient or None for each parameter


class Gradients:
    """Runs a pair on a batch for the loss and the gradients of its parameters.

    Args:
        elbo: any ELBO.
        model: the model.
        guide: its guide, as the ELBO gets it.
        parameters: the leaves that are trained.
        modules: the pair's modules and what else is trained, for their buffers.
        coarse: whether the networks compute in few digits.

    Attributes:
        division: which rows of a batch are this process's, and their random numbers.
    """

    def __init__(
        self,
        elbo: ELBO,
        model: Program,
        guide: Program,
        parameters: Sequence[Tensor],
        modules: Sequence[nn.Module],
        coarse: bool = False,
    ) -> None:
        self.elbo, self._model, self._guide = elbo, model, guide
        self.parameters, self._modules = list(parameters), list(modules)
        self._parts = [part for module in modules for part in module.modules()]
        self.division = Division(self._modules, lambda: self.state, coarse)

    @property
    def state(self) -> list[Tensor]:
        """What the estimator remembers, beside its network."""
        return self.elbo.state if isinstance(self.elbo, LogWeightELBO) else []

    def by_pyro(self, batch: tuple[Tensor, ...], validate: bool = False) -> Numbers:
        """Computes the loss and the gradients by Pyro's ELBO; the parameters hold the gradients afterwards."""
        with pyro.validation_enabled(validate), self.division.noise("as it is", self._by_pyro):
            return self._by_pyro(*batch)

    def settle(self, batch: tuple[Tensor, ...]) -> None:
        """Has an ELBO find out now what it finds out at its first run: plates, or a graph of its own.

        A training that goes on from another one took that first step there. Nothing else is changed.
        """
        before = self.moment()
        with store_kept():
            self.by_pyro(batch)
        for leaf in self.parameters:
            leaf.grad = None
        before.put_back()

    def by_tensors(self, objective: Objective, *batch: Tensor) -> Numbers:
        """Computes the same by an ELBO of tensors alone; the parameters hold what they held."""
        run = partial(self._by_tensors, objective)
        with self.division.noise("as tensors", run):
            return run(*batch)

    def put(self, numbers: Numbers) -> Tensor | float:
        """Gives each parameter its gradient, where ``backward`` would put it, and returns the loss."""
        loss, *gradients = numbers
        for leaf, gradient in zip(self.parameters, gradients, strict=True):
            leaf.grad = _laid_out_like(leaf, gradient)
        return loss

    def watched(self, run: Callable[[], Numbers]) -> tuple[Numbers, str, Held]:
        """Runs the pair, and tells what keeps a graph from standing for it: :func:`ppl_vae.pairs.watching.watched`."""
        return watched(run, (self._model, self._guide, self.elbo), [*self.parameters, *self.buffers()])

    def moment(self) -> Moment:
        """Remembers the random numbers and the buffers as they are now, to be put back."""
        return Moment(self.buffers())

    def modes(self) -> tuple[Any, ...]:
        """Says which parts are in train mode, which parameters are trained, and what is called beside them.

        A graph has all of these as they were.
        """
        hooks = (hooks_of_module(part) for part in self._parts)
        trained = (leaf.requires_grad for leaf in self.parameters)
        return *(part.training for part in self._parts), *trained, *map(len, hooks)

    def no_graph(self) -> str:
        """Says what of the parameters no graph can hold; empty where there is nothing."""
        tables = (part for part in self._parts if isinstance(part, nn.Embedding))
        if any(leaf.layout != torch.strided for leaf in self.parameters) or any(table.sparse for table in tables):
            return "a table has sparse gradients"
        if any(hooks_of_tensor(leaf)[1] for leaf in self.parameters):
            return "a parameter has a hook for when its gradient is added up, which a graph does not call"
        return ""

    def buffers(self) -> list[Tensor]:
        """What a run changes in place: the modules' buffers, and what the estimator remembers."""
        return [*self.state, *(buffer for module in self._modules for buffer in module.buffers())]

    def changing(self) -> list[Tensor]:
        """All tensors that change in a training, which a graph reads where they are."""
        return [
            *self.parameters,
            *self.buffers(),
            *self._given(),
            *(leaf for module in self._modules for leaf in module.parameters()),
        ]

    def _given(self) -> list[Tensor]:
        """What the estimator is given anew before each step."""
        weights = self.elbo.weights if isinstance(self.elbo, LogWeightELBO) else None
        return [] if weights is None else [weights.factor]

    def _by_pyro(self, *batch: Tensor) -> Numbers:
        for leaf in self.parameters:
            leaf.grad = None
        loss = first_loss(self.elbo.loss_and_grads(self._model, self._guide, *batch))
        return loss, *(leaf.grad for leaf in self.parameters)

    def _by_tensors(self, objective: Objective, *batch: Tensor) -> Numbers:
        value, gradients = bound_and_gradients(objective, self._model, self._guide, batch, self.parameters)
        return -value.sum(), *gradients


def _laid_out_like(leaf: Tensor, gradient: Tensor | None) -> Tensor | None:
    """Lays a gradient out in memory as its parameter, which ``backward`` does too.

    A graph gives it as it comes: one number spread over all places, or transposed. torch's fused optimizers take the
    numbers in the order of their addresses, so they would give them to other parameters, or read past their end.
    """
    if gradient is None or gradient.stride() == leaf.stride() or gradient.layout != torch.strided:
        return gradient
    return torch.empty_like(leaf).copy_(gradient)
