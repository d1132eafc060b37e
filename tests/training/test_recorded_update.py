"""An optimizer's step as a graph: bit for bit what the optimizer does, or the optimizer itself."""

import copy
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
    stepper = RecordedUpdate(optimizer, scheduled) if recorded else optimizer
    schedules = [LambdaLR(optimizer, lambda step: 1 / (1 + step))] if scheduled else []
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


def _halved(optimizer, args=None, kwargs=None):
    for leaf in optimizer.param_groups[0]["params"]:
        leaf.data *= 0.5


def _patched(optimizer):
    own = optimizer.step

    def step():
        own()
        _halved(optimizer)

    optimizer.step = step


CHANGES = {
    "rate": lambda optimizer: optimizer.param_groups[0].update(lr=0.01),
    "decay": lambda optimizer: optimizer.param_groups[0].update(weight_decay=0.5),
    "betas": lambda optimizer: optimizer.param_groups[0].update(betas=(0.5, 0.9)),
    "forgotten": lambda optimizer: optimizer.state.clear(),
    "loaded": lambda optimizer: optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict())),
    "fewer": lambda optimizer: optimizer.param_groups[0]["params"].pop(),
    "hook before": lambda optimizer: optimizer.register_step_pre_hook(_halved),
    "hook after": lambda optimizer: optimizer.register_step_post_hook(_halved),
    "patched": _patched,
}


@pytest.mark.parametrize("scheduled", [False, True])
@pytest.mark.parametrize("when", [0, 7])
@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_what_somebody_does_to_the_optimizer_counts(change, when, scheduled):
    ends = []
    for recorded in (False, True):
        leaves = [torch.ones(3, requires_grad=True), torch.ones((), requires_grad=True)]
        optimizer = Adam(leaves, fused=True, lr=0.1)
        if not when:
            change(optimizer)
        stepper = RecordedUpdate(optimizer, scheduled) if recorded else optimizer
        schedules = [LambdaLR(optimizer, lambda step: 1 / (1 + step))] if scheduled and change is not _patched else []
        for step in range(12):
            if when and step == when:
                change(optimizer)
            for leaf in leaves:
                leaf.grad = torch.ones_like(leaf)
            stepper.step()
            for schedule in schedules:
                schedule.step()
        ends.append([leaf.detach() for leaf in leaves])
    assert all(map(torch.equal, *ends))
