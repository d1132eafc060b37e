"""Measurements whose runs are replayed from a graph give, bit for bit, what the programs give."""

import math

import pytest
import torch
from pyro.infer.autoguide import AutoNormal
from torch import nn

from ppl_vae import InputError, annealed, refine, sandwich
from ppl_vae.guides import IAF, Amortized, Diagonal
from ppl_vae.models import VAE, EightSchools
from ppl_vae.pairs import replayed
from ppl_vae.pairs.replayed import ReplayedRun

STEPS, LEAPFROG = 40, 5


@pytest.fixture
def bits():
    torch.manual_seed(0)
    return torch.rand(4, 20).bernoulli()


def both(measure, monkeypatch):
    """What a measurement gives from graphs and by the programs, and how often each ran the model."""
    found = []
    for many in (1, math.inf):
        monkeypatch.setattr(replayed, "_MANY_RUNS", many)
        runs = []
        forward = VAE.likelihood

        def likelihood(self, *args, forward=forward, runs=runs):
            runs.append(1)
            return forward(self, *args)

        with monkeypatch.context() as patch:
            patch.setattr(VAE, "likelihood", likelihood)
            torch.manual_seed(1)
            found.append((measure(), len(runs)))
    return found


@pytest.mark.parametrize("source", [None, Diagonal(3), IAF(3)])
def test_annealing_replays_the_moves_of_its_chains(source, bits, monkeypatch):
    torch.manual_seed(2)
    model = VAE(20, 3, hidden=(8,))
    guide = None if source is None else Amortized(source, 20)
    (fast, few), (slow, many) = both(
        lambda: annealed(model, guide, bits, steps=STEPS, leapfrog=LEAPFROG, chains=3, progress=False), monkeypatch
    )
    assert fast.identical(slow)
    assert many > STEPS * LEAPFROG * 2 - 10
    assert few < many / 3


def test_a_sandwich_replays_both_ways(bits, monkeypatch):
    model = VAE(20, 3, hidden=(8,))
    (fast, few), (slow, many) = both(
        lambda: sandwich(model, bits, steps=STEPS, leapfrog=LEAPFROG, chains=3, progress=False), monkeypatch
    )
    assert torch.equal(fast[0][0], slow[0][0])
    assert fast[1].identical(slow[1])
    assert few < many / 3


def test_annealing_of_shared_latents(monkeypatch):
    data = EightSchools.example_data()
    (fast, _), (slow, _) = both(
        lambda: annealed(EightSchools(), None, data, steps=STEPS, leapfrog=LEAPFROG, progress=False), monkeypatch
    )
    assert fast.identical(slow)


@pytest.mark.parametrize("family", [Diagonal(3), IAF(3)])
def test_refinement_replays_its_steps(family, bits, monkeypatch):
    torch.manual_seed(2)
    model, guide = VAE(20, 3, hidden=(8,)), Amortized(family, 20)
    (fast, few), (slow, many) = both(
        lambda: refine(model, guide, bits, steps=100, rounds=2, tolerance=0.0, particles=7, progress=False), monkeypatch
    )
    assert torch.equal(fast.held, slow.held)
    assert torch.equal(fast.left, slow.left)
    assert many > 200
    assert few < many / 3


def test_refinement_of_shared_latents(monkeypatch):
    model, data = EightSchools(), EightSchools.example_data()
    guide = AutoNormal(model)
    guide(*data)
    (fast, _), (slow, _) = both(lambda: refine(model, guide, data, steps=60, rounds=2, progress=False), monkeypatch)
    pairs = zip(fast.parameters(), slow.parameters(), strict=True)
    assert all(torch.equal(one, two) for one, two in pairs)


def test_a_density_that_reads_its_value_by_python_runs_by_the_program(bits, monkeypatch):
    """A graph would hold the branch and the number of the run that it was traced from."""

    class Branching(nn.Module):
        def forward(self, z):
            return z[..., :1].expand(*z.shape[:-1], 20) * (1.0 + float(z.detach().abs().max()))

    model = VAE(20, 3, decoder=Branching())
    (fast, few), (slow, many) = both(
        lambda: annealed(model, None, bits, steps=STEPS, leapfrog=LEAPFROG, chains=3, progress=False), monkeypatch
    )
    assert fast.identical(slow)
    assert few >= many


def test_runs_that_change_by_themselves_are_refused(tmp_path):
    """A file is out of sight of the look at what a program holds; the comparison finds it."""
    scale = tmp_path / "scale"
    scale.write_text("1")

    def run(batch, particles):
        return [batch[0] * float(scale.read_text())]

    with torch.no_grad():
        repeated = ReplayedRun((run,), run, expected=10**6)
        found = [repeated((torch.ones(3),), 1) for _ in range(3)]
        scale.write_text("2")
        repeated((torch.ones(3),), 1)  # the graph's number, of before: no comparison is due
        with pytest.raises(InputError, match="after 4 runs the pair gives other numbers than before"):
            repeated((torch.ones(3),), 1)
    assert all(torch.equal(once[0], torch.ones(3)) for once in found)


def test_a_tensor_that_lies_otherwise_has_a_graph_of_its_own():
    def run(batch, particles):
        return [batch[0].reshape(-1) * 2]

    rows = torch.arange(6.0).reshape(2, 3)
    with torch.no_grad():
        repeated = ReplayedRun((run,), run, expected=10**6)
        for x in (rows, rows.T.contiguous().T, rows[:1].expand(2, 3)):
            for _ in range(4):
                assert torch.equal(repeated((x,), 1)[0], 2 * x.flatten())
