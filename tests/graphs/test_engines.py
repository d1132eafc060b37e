"""Graphs that TorchScript runs: the same numbers as from Python, the same random numbers, and Python where it can't."""

import gc
import sys
from pathlib import Path

import pytest
import torch
from torch.fx.experimental.proxy_tensor import make_fx

from ppl_vae.graphs import engines
from ppl_vae.graphs.engines import interpreted
from ppl_vae.graphs.tracing import replay


@pytest.fixture
def graph():
    """A graph that changes a tensor outside, draws what it does not use, and gives a nested result with a gap."""
    outside = torch.zeros(3)

    def run(x):
        torch.bernoulli(torch.full((5,), 0.5))
        outside.add_(x.sum())
        return x * torch.randn(3), (None, outside.exp())

    return make_fx(run)(torch.ones(3)), outside


def taken(run, outside):
    """What a run gives with one seed, what it leaves, and the random number after it."""
    torch.manual_seed(0)
    with torch.no_grad():
        outside.zero_()
    first, (gap, second) = run(torch.arange(3.0))
    assert gap is None
    return first, second, outside.clone(), torch.rand(1)


def test_it_gives_what_python_gives(graph):
    module, outside = graph
    fast = interpreted(module, (torch.ones(3),))
    assert fast.__name__ == "run"
    for by_python, by_interpreter in zip(taken(replay(module), outside), taken(fast, outside), strict=True):
        assert torch.equal(by_python, by_interpreter)


def test_what_torchscript_refuses_runs_from_python(graph, monkeypatch):
    module, outside = graph

    def refuse(*_, **__):
        raise RuntimeError("not supported")

    monkeypatch.setattr(engines, "interpreted_by_torchscript", refuse)
    found = taken(interpreted(module, (torch.ones(3),)), outside)
    assert all(map(torch.equal, found, taken(replay(module), outside)))


def test_casts_that_round_stay_however_often_it_runs():
    x = torch.randn(50)
    rounded = make_fx(lambda x: (x.bfloat16().float() * 3).bfloat16().float())(x)
    fast = interpreted(rounded, (x,))
    assert all(torch.equal(fast(x), rounded(x)) for _ in range(4))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads the memory in use from /proc")
def test_graphs_that_are_no_longer_used_leave_no_memory_behind():
    """TorchScript's own way of tracing keeps some 4 MiB of this one for good."""

    def long(x):
        for number in range(120):
            x = (x * 1.01 + number).sin()
        return x

    x = torch.randn(50)
    graph = make_fx(long)(x)
    grown = []
    for rounds in (5, 20):  # the first ones set things up
        before = memory()
        for _ in range(rounds):
            interpreted(graph, (x,))(x)
        gc.collect()
        grown.append(memory() - before)
    assert grown[-1] < 20


def memory() -> float:
    """MiB that this process holds."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 2**20


def test_what_only_writes_is_done():
    """TorchScript would not record the fused step, which gives nothing."""
    leaf = torch.zeros(3)

    def step(gradient):
        torch._fused_sgd_(
            [leaf],
            [gradient],
            [],
            weight_decay=0.0,
            momentum=0.0,
            lr=1.0,
            dampening=0.0,
            nesterov=False,
            maximize=False,
            is_first_step=True,
        )
        return gradient.sum()

    run = interpreted(make_fx(step)(torch.zeros(3)), (torch.zeros(3),))
    run(torch.ones(3))
    assert leaf.tolist() == [-1, -1, -1]
