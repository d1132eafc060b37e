"""The graph of one shape of batch: how far it comes, when it is compared, and what takes it back to the program."""

import pyro
import pytest
import torch
from pyro.infer import Trace_ELBO
from stand_in import StandIn
from twice import pair

from ppl_vae.estimators.tensor_only import tensor_only
from ppl_vae.pairs.restore import local_parameters
from ppl_vae.pairs.rhythm import is_compared
from ppl_vae.training.captured_batch import CapturedBatch, CaptureWarning, Stage
from ppl_vae.training.gradients import Gradients
from ppl_vae.training.updates import Updates


@pytest.fixture
def shape():
    """A shape whose first step was the program's, ready to be traced, and its batch."""
    model, guide, x = pair()
    elbo = Trace_ELBO()

    def anchored(x):
        pyro.param("anchor", torch.zeros(()))  # Pyro takes gradients where a trace has a parameter
        guide(x)

    leaves = [*model.parameters(), *guide.parameters()]
    with local_parameters(model, guide):
        gradients = Gradients(elbo, model, anchored, leaves, [model, guide])
        gradients.by_pyro((x,))
        yield CapturedBatch(gradients, Updates()), (x,), tensor_only(elbo), model


def test_a_graph_is_traced_and_then_verified(shape):
    captured, batch, objective, _ = shape
    assert captured.stage is Stage.BY_PROGRAM
    captured.trace(batch, objective)
    assert captured.stage is Stage.TRACED
    captured.compare(batch)
    assert captured.stage is Stage.VERIFIED
    assert captured.reason == ""


def test_on_a_gpu_it_is_launched(shape, monkeypatch):
    monkeypatch.setattr("ppl_vae.training.cuda_graphs.CudaGraph", StandIn)
    monkeypatch.setattr("ppl_vae.training.captured_batch.on_gpu", lambda batch: True)
    captured, batch, objective, _ = shape
    captured.trace(batch, objective)
    captured.compare(batch)
    captured.replay(batch)
    assert captured.stage is Stage.LAUNCHED


def test_what_a_compiler_gives_is_taken_where_it_is_the_same(shape, monkeypatch):
    captured, batch, objective, _ = shape
    captured.trace(batch, objective)
    monkeypatch.setattr("ppl_vae.training.captured_batch.compiled", lambda graph, _: graph)
    captured.compile(batch)
    assert captured.stage is Stage.COMPILED
    assert captured.uncompiled is None


def test_what_a_compiler_gives_is_not_taken_where_it_is_another(shape, monkeypatch):
    captured, batch, objective, _ = shape
    captured.trace(batch, objective)
    twice_as_much = lambda graph, _: lambda *batch: [2 * part for part in graph(*batch)]  # noqa: E731
    monkeypatch.setattr("ppl_vae.training.captured_batch.compiled", twice_as_much)
    state = torch.get_rng_state()
    with pytest.warns(CaptureWarning, match="is replayed, not compiled: the compiled graph gives other gradients"):
        captured.compile(batch)
    assert torch.equal(torch.get_rng_state(), state)
    assert captured.stage is Stage.TRACED


def test_what_the_program_holds_anew_takes_it_back_to_the_program(shape):
    captured, batch, objective, model = shape
    captured.trace(batch, objective)
    assert not captured.has_drifted()
    model.latent_dim += 1
    assert captured.has_drifted()
    assert captured.stage is Stage.BY_PROGRAM
    assert "latent_dim is no longer what it was when the pair was traced" in captured.reason


def test_comparisons_come_in_a_growing_rhythm():
    compared = [number for number in range(1, 8200) if is_compared(number)]
    assert compared == [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192]
