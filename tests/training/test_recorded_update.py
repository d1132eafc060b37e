"""An optimizer's step as a graph: bit for bit what the optimizer does, or the optimizer itself."""

from functools import partial

import pytest
import torch
from pyro.optim.clipped_adam import ClippedAdam
from torch.optim import SGD, Adagrad, Adam, AdamW, Optimizer, RMSprop
from torch.optim.lr_scheduler import LambdaLR

from ppl_vae.training.recorded_update import RecordedUpdate


class _Slowing(Optimizer):
    """Counts in Python, on the optimizer itself."""

    def __init__(self, leaves, lr):
        super().__init__(leaves, {"lr": lr})
        self.taken = 0

    def step(self):
        self.taken += 1
        with torch.no_grad():
            for leaf in self.param_groups[0]["params"]:
                leaf -= self.param_groups[0]["lr"] / self.taken * leaf.grad


RECORDED = {
    "adam": partial(Adam, fused=True),
    "amsgrad": partial(Adam, fused=True, amsgrad=True, weight_decay=0.1),
    "adamw": partial(AdamW, fused=True),
    "sgd": SGD,
    "fused-sgd": partial(SGD, fused=True, momentum=0.9),
    "adagrad": partial(Adagrad, fused=True),
    "rmsprop": partial(RMSprop, momentum=0.5),
}
BY_ITSELF = {"for-loop": Adam, "foreach": partial(Adam, foreach=True), "clipped": ClippedAdam, "slowing": _Slowing}


def _ends(make, recorded, scheduled=False, steps=40, missing=()):
    """The parameters and the optimizer's memory after some steps, and what took them."""
    generator = torch.Generator().manual_seed(0)
    leaves = [torch.randn(shape, generator=generator).requires_grad_() for shape in ((3, 4), (5,), ())]
    optimizer = make(leaves, lr=0.1)
    schedules = [LambdaLR(optimizer, lambda step: 1 / (1 + step))] if scheduled else []
    stepper = RecordedUpdate(optimizer, scheduled) if recorded else optimizer
    for step in range(steps):
        for leaf in leaves:
            leaf.grad = torch.randn(leaf.shape, generator=generator)
        if step in missing:
            leaves[1].grad = None
        stepper.step()
        for schedule in schedules:
            schedule.step()
    memory = [value for part in optimizer.state.values() for value in part.values() if isinstance(value, torch.Tensor)]
    return [*leaves, *memory], stepper


@pytest.mark.parametrize("scheduled", [False, True])
@pytest.mark.parametrize("name", [*RECORDED, *BY_ITSELF])
def test_it_does_what_the_optimizer_does(name, scheduled):
    make = (RECORDED | BY_ITSELF)[name]
    expected, _ = _ends(make, False, scheduled)
    found, stepper = _ends(make, True, scheduled)
    assert all(map(torch.equal, found, expected))
    no_graph_has_its_rate = scheduled and name in ("sgd", "rmsprop")  # which they read as a number
    assert stepper._is_refused == (name in BY_ITSELF or no_graph_has_its_rate)


@pytest.mark.parametrize("missing", [(0, 1, 2), (5, 6), (20,)])
def test_a_missing_gradient_is_the_optimizers(missing):
    expected, _ = _ends(RECORDED["adam"], False, missing=missing)
    found, _ = _ends(RECORDED["adam"], True, missing=missing)
    assert all(map(torch.equal, found, expected))


def test_hooks_are_called_at_each_step():
    called = []
    leaf = torch.zeros(3, requires_grad=True)
    optimizer = Adam([leaf], fused=True)
    optimizer.register_step_post_hook(lambda *_: called.append(1))
    stepper = RecordedUpdate(optimizer, False)
    for _ in range(6):
        leaf.grad = torch.ones(3)
        stepper.step()
    assert len(called) == 6


def test_a_rate_that_somebody_sets_counts():
    ends = []
    for recorded in (False, True):
        leaf = torch.zeros(3, requires_grad=True)
        optimizer = Adam([leaf], fused=True)
        stepper = RecordedUpdate(optimizer, False) if recorded else optimizer
        for step in range(12):
            optimizer.param_groups[0]["lr"] = 0.1 if step < 7 else 0.01
            leaf.grad = torch.ones(3)
            stepper.step()
        ends.append(leaf.detach())
    assert torch.equal(*ends)
