"""Gradients are clipped to a norm for a data point, wherever a step is taken."""

import math
import warnings
from functools import partial

import pyro
import pyro.distributions as dist
import pytest
import torch
from cut_off import OBSERVED, bits, normal
from launching import in_one_process_and_two
from torch.nn.utils import clip_grad_norm_

from ppl_vae import CaptureWarning, InputError, cosine, fit
from ppl_vae.estimators import NeuralBaseline
from ppl_vae.guides import Diagonal, PerDatapoint
from ppl_vae.models import VAE
from ppl_vae.training.captured_batch import CapturedBatch
from ppl_vae.training.clipping import Clipping

X = torch.bernoulli(torch.full((30, OBSERVED), 0.3), generator=torch.Generator().manual_seed(0))
SGD = partial(torch.optim.SGD, lr=0.01)


def flat(*programs):
    return torch.cat([leaf.detach().flatten() for program in programs for leaf in program.parameters()])


def moved(make=normal, data=X, **options):
    """How far one step of gradient descent has moved each parameter."""
    pair = make()
    before = flat(*pair)
    fit(*pair, data, epochs=1, optimizer=SGD, seed=0, progress=False, **({"batch_size": 30} | options))
    return flat(*pair) - before


@pytest.mark.parametrize("largest", [0.1, 100.0])
def test_a_step_is_that_of_torchs_own_clipping_for_a_data_point(largest):
    free, clipped = moved(), moved(clip=largest)
    leaf = torch.nn.Parameter(torch.zeros_like(free))
    leaf.grad = free.clone() / 0.01  # of the sum over the rows
    norm = float(clip_grad_norm_([leaf], 30 * largest))
    assert (norm > 30 * largest) == (largest == 0.1)
    torch.testing.assert_close(clipped, 0.01 * leaf.grad, rtol=1e-4, atol=1e-7)
    if largest == 0.1:
        assert float(clipped.norm()) == pytest.approx(0.01 * 30 * 0.1, rel=1e-4)
    else:
        assert torch.equal(free, clipped)


def test_a_batch_twice_as_long_is_clipped_as_the_one():
    short, long = (moved(data=X.repeat(times, 1), batch_size=60, clip=1e-3) for times in (1, 2))
    assert float(long.norm()) == pytest.approx(2 * float(short.norm()), rel=1e-4)


def test_a_plate_that_subsamples_is_clipped_by_the_points_that_it_stands_for():
    def model(x):
        loc = pyro.sample("loc", dist.Normal(0.0, 1.0))
        with pyro.plate("data", 100, subsample=x):
            pyro.sample("x", dist.Normal(loc, 1.0), obs=x)

    class Own(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.loc = torch.nn.Parameter(torch.tensor(5.0))

        def forward(self, x):
            pyro.sample("loc", dist.Normal(self.loc, 0.1))

    guide = Own()
    fit(model, guide, torch.zeros(10), epochs=1, batch_size=10, optimizer=SGD, seed=0, clip=0.5, progress=False)
    assert float(guide.loc.detach()) == pytest.approx(5.0 - 0.01 * 100 * 0.5, rel=1e-4)


@pytest.mark.parametrize("optimizer", [None, SGD])
def test_a_graph_is_clipped_too(optimizer, monkeypatch):
    trained = []
    replay, replays = CapturedBatch.replay, []
    monkeypatch.setattr(CapturedBatch, "replay", lambda shape, batch: replays.append(1) or replay(shape, batch))
    for capture in (False, True):
        pair = [part.double() for part in normal()]
        with warnings.catch_warnings():
            warnings.simplefilter("error", CaptureWarning)
            history = fit(
                *(*pair, X.double()),
                **{"epochs": 100, "batch_size": 12, "clip": 0.2, "optimizer": optimizer, "schedule": cosine},
                **{"seed": 0, "capture": capture, "progress": False},
            )
        trained.append((flat(*pair), history.elbo))
    assert len(replays) > 250
    torch.testing.assert_close(*[parameters for parameters, _ in trained], rtol=1e-6, atol=1e-8)
    unclipped = [part.double() for part in normal()]
    fit(*unclipped, X.double(), epochs=100, batch_size=12, optimizer=optimizer, schedule=cosine, seed=0, progress=False)
    assert (flat(*unclipped) - trained[0][0]).abs().max() > 1e-3


def test_rows_of_a_table_are_clipped_with_all_else():
    gradients = []
    for clip in (None, 0.1):
        torch.manual_seed(0)
        pair = VAE(OBSERVED, 2, hidden=(8,)), PerDatapoint(Diagonal(2), 30)
        data = X, torch.arange(30)
        fit(*pair, data, epochs=1, batch_size=30, optimizer=SGD, seed=0, clip=clip, progress=False)
        assert pair[1].table.weight.grad.is_sparse
        gradients.append(torch.cat([leaf.grad.to_dense().flatten() for part in pair for leaf in part.parameters()]))
    torch.testing.assert_close(gradients[1], gradients[0] * (30 * 0.1 / gradients[0].norm()))


def test_a_row_of_a_table_that_comes_twice_has_one_gradient():
    table = torch.nn.Embedding(3, 1, sparse=True)
    table(torch.tensor([1, 1, 2])).sum().backward()
    Clipping([table.weight], 1.0)(1)
    expected = torch.tensor([[0.0], [2.0], [1.0]]) / math.sqrt(5)
    torch.testing.assert_close(table.weight.grad.to_dense(), expected)


def test_what_an_estimator_learns_beside_the_pair_is_let_be():
    networks, steps = [], []
    for clip in (None, 1e-3):
        elbo = NeuralBaseline()
        pair = bits()
        torch.manual_seed(0)
        network = elbo.learned(*pair, X)
        before, start = flat(network), flat(*pair)
        fit(*pair, X, elbo=elbo, epochs=1, batch_size=30, optimizer=SGD, seed=0, clip=clip, progress=False)
        networks.append(flat(network) - before)
        steps.append(flat(*pair) - start)
    assert torch.equal(*networks)
    assert float(networks[0].norm()) > 0
    assert float(steps[1].norm()) == pytest.approx(0.01 * 30 * 1e-3, rel=1e-3)


def test_two_parameters_with_one_gradient_are_each_clipped_once():
    first, second = (torch.nn.Parameter(torch.zeros(2)) for _ in range(2))
    first.grad = second.grad = torch.full((2,), 3.0)
    Clipping([first, second], 1.0)(1)
    torch.testing.assert_close(first.grad, torch.full((2,), 0.5))
    torch.testing.assert_close(second.grad, torch.full((2,), 0.5))


@pytest.mark.parametrize("clip", [0, -1.0, math.nan, math.inf, True, "1"])
def test_what_is_no_norm_is_refused(clip):
    with pytest.raises(InputError, match=r"clip is .*; expected (a number or None|the largest norm of a gra)"):
        fit(*normal(), X, epochs=1, clip=clip, progress=False)


def test_clipping_by_pyros_optimizer_is_refused_with_what_to_give():
    optimizer = pyro.optim.Adam({"lr": 0.01}, {"clip_norm": 1.0})
    with pytest.raises(InputError, match=r"give fit clip= instead, the largest norm for a data point"):
        fit(*normal(), X, epochs=1, optimizer=optimizer, progress=False)


SCRIPT = """
import json
import torch
from functools import partial
from ppl_vae import fit, warm_up
from ppl_vae.estimators import LeaveOneOut
from ppl_vae.guides import Amortized, Bernoulli, Diagonal, PerDatapoint
from ppl_vae.models import VAE, BernoulliVAE
from ppl_vae.training import distributed
from pyro.infer import Trace_ELBO


def train(kind):
    torch.manual_seed(0)
    x = torch.rand(23, 12).double().round()
    model = BernoulliVAE(12, 3, hidden=(8,)) if kind == "bits" else VAE(12, 3, hidden=(8,))
    family = Bernoulli(3) if kind == "bits" else Diagonal(3)
    guide = PerDatapoint(family, 23) if kind == "table" else Amortized(family, 12, hidden=(8,))
    model, guide = model.double(), guide.double()
    data = (x, torch.arange(23)) if kind == "table" else x
    elbo = LeaveOneOut(3) if kind == "bits" else Trace_ELBO()
    options = {"kl_weight": warm_up(0.8, 0.1), "clip": 0.3, "free_bits": 0.05}
    history = fit(model, guide, data, elbo=elbo, epochs=6, batch_size=11, seed=0, lr=0.02, progress=False,
                  capture=kind == "captured", device="cpu", **options)
    state = torch.cat([leaf.detach().flatten() for leaf in (*model.parameters(), *guide.parameters())])
    return {"elbo": history.elbo, "parameters": state.tolist()}


if __name__ == "__main__":
    torch.set_num_threads(1)
    with distributed.joined():
        found = {kind: train(kind) for kind in ("captured", "bits", "table")}
        if distributed.rank() == 0:
            print(json.dumps(found), flush=True)
"""


def test_two_processes_take_the_weights_and_the_clipping_of_one(tmp_path):
    """Batches of 11, 11 and 1: the shares differ, and one process gets none of the last."""
    curves = in_one_process_and_two(tmp_path, SCRIPT)
    for kind, one in curves[0].items():
        assert curves[1][kind]["elbo"] == pytest.approx(one["elbo"], rel=1e-9), kind
        assert curves[1][kind]["parameters"] == pytest.approx(one["parameters"], rel=1e-6, abs=1e-9), kind
