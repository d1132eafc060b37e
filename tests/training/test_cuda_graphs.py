"""The whole step as one CUDA graph: what can be seen of it without a GPU, with a stand-in that just runs the step."""

import pyro
import pytest
import torch
from pyro.infer import Trace_ELBO
from stand_in import StandIn
from torch.optim import SGD, Adam

from ppl_vae import fit
from ppl_vae.guides import Amortized, Diagonal
from ppl_vae.models import VAE
from ppl_vae.pairs.restore import local_parameters
from ppl_vae.training.capture import CaptureWarning, Step
from ppl_vae.training.cuda_graphs import launched, make_capturable, state_of
from ppl_vae.training.gradients import Gradients
from ppl_vae.training.updates import Updates

OBSERVED = 12


@pytest.fixture
def as_on_gpu(monkeypatch):
    monkeypatch.setattr("ppl_vae.training.cuda_graphs.CudaGraph", StandIn)
    monkeypatch.setattr("ppl_vae.training.captured_batch.on_gpu", lambda batch: True)


def parameters(inside, optimizer, steps=30, capture=True):
    """After some steps; the optimizers' are inside the graph or behind it."""
    torch.manual_seed(0)
    x = torch.ones(7, OBSERVED).mul(0.5).bernoulli()
    model, guide = VAE(OBSERVED, 2, hidden=(8,)), Amortized(Diagonal(2), OBSERVED, hidden=(8,))
    leaves = [*model.parameters(), *guide.parameters()]
    stepper = optimizer(leaves)

    def anchored(*args):
        pyro.param("anchor", torch.zeros(()))
        return guide(*args)

    updates = Updates([stepper], in_graph=inside)
    step = Step(Gradients(Trace_ELBO(), model, anchored, leaves, [model, guide]), capture, 1000, updates)
    updated = 0
    with local_parameters(model, guide):
        for _ in range(steps):
            step((x,), rare=False)
            updated += updates.taken
            updates.finish()
    return torch.cat([leaf.detach().flatten() for leaf in leaves]), updated


@pytest.mark.parametrize("optimizer", [lambda leaves: Adam(leaves, lr=1e-2), lambda leaves: SGD(leaves, lr=1e-3)])
@pytest.mark.parametrize("inside", [True, False])
@pytest.mark.usefixtures("as_on_gpu")
def test_recording_leaves_no_trace(optimizer, inside):
    expected, _ = parameters(False, optimizer, capture=False)
    found, updated = parameters(inside, optimizer)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)
    assert updated == (23 if inside else 0)  # of 30, but the first, the second, which is traced, and 3, 4, 6, 10 and 18


class Wrong(StandIn):
    def __call__(self, *batch):
        return [None if part is None else part + 1 for part in super().__call__(*batch)]


def test_a_graph_that_gives_other_numbers_is_not_used(monkeypatch, as_on_gpu):
    expected, _ = parameters(False, lambda leaves: Adam(leaves, lr=1e-2))
    monkeypatch.setattr("ppl_vae.training.cuda_graphs.CudaGraph", Wrong)
    with pytest.warns(CaptureWarning, match="operation by operation, not as a CUDA graph: it gives other numbers"):
        found, updated = parameters(True, lambda leaves: Adam(leaves, lr=1e-2))
    assert updated == 0
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-7)


def test_what_a_step_changes_is_put_back(monkeypatch):
    monkeypatch.setattr("ppl_vae.training.cuda_graphs.CudaGraph", StandIn)
    weight = torch.ones(3)

    def step(x):
        weight.add_(x * torch.randn(3))
        return (weight * 2,)

    torch.manual_seed(0)
    expected = torch.randn(3)
    torch.manual_seed(0)
    graph = launched(step, [torch.ones(3)], lambda: [weight])
    assert torch.equal(weight, torch.ones(3))
    graph(torch.ones(3))
    assert torch.equal(weight, 1 + expected)


def test_optimizers_that_can_keep_their_numbers_on_the_gpu():
    leaf = torch.zeros(2, requires_grad=True)
    adam = Adam([leaf], lr=0.1)
    assert make_capturable([adam])
    assert adam.param_groups[0]["capturable"]
    assert torch.is_tensor(adam.param_groups[0]["lr"])
    assert not make_capturable([Adam([leaf]), SGD([leaf], lr=0.1)])
    assert state_of([adam]) == []


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("schedule", [None, lambda done: 1 - done / 2])
def test_on_a_gpu_captured_is_uncaptured(schedule, recwarn):
    found = []
    for capture in (False, True):
        torch.manual_seed(0)
        x = torch.rand(23, OBSERVED)
        model, guide = VAE(OBSERVED, 2, hidden=(8,)), Amortized(Diagonal(2), OBSERVED, hidden=(8,))
        history = fit(
            model,
            guide,
            x,
            epochs=30,
            batch_size=8,
            transform=torch.bernoulli,
            schedule=schedule,
            seed=0,
            device="cuda",
            capture=capture,
            progress=False,
        )
        found.append((torch.cat([leaf.detach().flatten() for leaf in model.parameters()]).cpu(), history.elbo))
    torch.testing.assert_close(found[1][0], found[0][0], rtol=1e-3, atol=1e-4)
    assert found[1][1] == pytest.approx(found[0][1], rel=1e-4)
    assert not [one for one in recwarn if one.category is CaptureWarning]
