"""What hooks do to a captured training: they run, or what they hold is looked at, or the program runs."""

import warnings
from functools import partial

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam

from ppl_vae import fit

X = torch.randn(20, 3, generator=torch.Generator().manual_seed(0))


class _Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.beta = 1.0
        self.net = nn.Linear(2, 3)
        with torch.no_grad():
            self.net.weight.fill_(0.3)
            self.net.bias.fill_(0.1)

    def forward(self, x: Tensor) -> None:
        pyro.module("model", self)
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(self.beta * self.net(z), 1.0).to_event(1), obs=x)


def _guide(x: Tensor) -> None:
    with pyro.plate("data", len(x)):
        pyro.sample("z", dist.Normal(x[:, :2] / 2, 0.5).to_event(1))


def _counted(change):
    """A hook that changes its last argument from the 25th call on."""
    calls = []

    def hook(*args):
        calls.append(1)
        return change(args[-1]) if len(calls) > 25 else None

    return hook


def _twice(gradient):
    return gradient * 2


def _each_twice(gradients):
    return tuple(gradient if gradient is None else gradient * 2 for gradient in gradients)


HOOKS = {
    "forward": lambda model: model.net.register_forward_hook(_counted(_twice)),
    "before forward": lambda model: model.net.register_forward_pre_hook(_counted(_each_twice)),
    "before backward": lambda model: model.net.register_full_backward_pre_hook(_counted(_each_twice)),
    "tensor": lambda model: model.net.weight.register_hook(_counted(_twice)),
    "added up": lambda model: model.net.weight.register_post_accumulate_grad_hook(_counted(lambda leaf: None)),
}


def _ends(prepare, **options):
    """The parameters after a training by the program and by a graph, and what the second one warned of."""
    found = []
    for capture in (False, True):
        pyro.clear_param_store()
        model = _Model()
        made = prepare(model) if prepare else None
        given = made if isinstance(made, dict) else {}
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            arguments = {"epochs": 60, "batch_size": 20, "lr": 0.01, **options, **given}
            if "optimizer" in arguments:
                del arguments["lr"]
            fit(model, _guide, X, capture=capture, seed=0, progress=False, **arguments)
        found.append([leaf.detach() for leaf in model.parameters()])
    return found, [str(warning.message) for warning in caught]


@pytest.mark.parametrize("hook", HOOKS.values(), ids=HOOKS)
def test_a_hook_that_counts_is_the_programs(hook):
    (expected, captured), told = _ends(hook)
    for one, other in zip(expected, captured, strict=True):
        torch.testing.assert_close(other, one, rtol=1e-5, atol=1e-6)
    assert any("runs uncaptured" in message for message in told)


def _by_a_hook(change):
    """An optimizer whose hook does something to the model at its 20th step and undoes it at its 30th."""

    def prepare(model):
        def factory(leaves):
            optimizer, steps = SGD(leaves, lr=0.01), []

            def hook(*_):
                steps.append(1)
                change(model, len(steps))

            optimizer.register_step_post_hook(hook)
            return optimizer

        return {"optimizer": factory}

    return prepare


def _scaled(model, step):
    model.beta = 1.5 if 20 <= step < 30 else 1.0


def _frozen(model, step):
    model.net.bias.requires_grad_(not 20 <= step < 30)


@pytest.mark.parametrize("change", [_scaled, _frozen])
def test_what_an_optimizers_hook_does_to_the_model_counts(change):
    (expected, captured), _ = _ends(_by_a_hook(change))
    for one, other in zip(expected, captured, strict=True):
        torch.testing.assert_close(other, one, rtol=1e-5, atol=1e-6)


def test_a_parameter_that_is_replaced_counts():
    def prepare(model):
        def replaced(done):
            if done == 20:
                model.net.weight = nn.Parameter(torch.full((3, 2), -0.5))
            return False

        return {"after_epoch": replaced}

    (expected, captured), _ = _ends(prepare, optimizer=partial(Adam, lr=0.01))
    for one, other in zip(expected, captured, strict=True):
        torch.testing.assert_close(other, one, rtol=1e-5, atol=1e-6)
