"""Two processes train as one does, with the same global batch; one that dies ends the run, its checkpoint whole."""

import json
import subprocess
import sys
from contextlib import nullcontext

import pyro
import pyro.distributions as dist
import pytest
import torch

from ppl_vae import InputError, fit
from ppl_vae.guides import FAMILIES
from ppl_vae.training.distributed import summed
from ppl_vae.training.shared_noise import Share

SCRIPT = """
import json, os, sys
import torch
from ppl_vae import fit
from ppl_vae.training.distributed import joined, rank
from ppl_vae.estimators import IWAE, LeaveOneOut, RunningMean
from ppl_vae.guides import FAMILIES, Amortized, Diagonal, PerDatapoint
from ppl_vae.models import VAE, BernoulliVAE, CategoricalVAE, GaussianMixture
from pyro.infer import Trace_ELBO, TraceGraph_ELBO

torch.set_num_threads(1)
capture, kinds, place = sys.argv[1] == "True", sys.argv[2], sys.argv[3]
dying = [20] if sys.argv[4] == "True" else []
discrete = {"bernoulli": BernoulliVAE, "categorical": CategoricalVAE, "one-hot": GaussianMixture}
elbos = {"many": lambda: IWAE(4), "mean": RunningMean}
elbos |= {"categorical": lambda: LeaveOneOut(3), "bernoulli": TraceGraph_ELBO}


def train(kind):
    torch.manual_seed(0)
    x = torch.rand(23, 12).double()
    family = FAMILIES.get(kind, Diagonal)(3)
    if kind == "one-hot":
        model = GaussianMixture(12, 3)
    else:
        model = discrete.get(kind, VAE)(12, 3, hidden=(8,))
    guide = PerDatapoint(family, 23) if kind == "table" else Amortized(family, 12, hidden=(8,))
    model, guide = model.double(), guide.double()
    data = (x, torch.arange(23)) if kind == "table" else x

    def transform(batch):
        transform.calls += 1
        if rank() == 1 and transform.calls in dying:
            os._exit(1)
        return torch.bernoulli(batch)

    transform.calls = 0
    elbo = elbos.get(kind, Trace_ELBO)()
    history = fit(model, guide, data, elbo=elbo, epochs=8 if kind == "one" else 3, batch_size=11, transform=transform,
                  seed=0, progress=False, capture=capture and kind == "many", device="cpu",
                  checkpoint=place or None)
    state = torch.cat([leaf.detach().flatten() for leaf in (*model.parameters(), *guide.parameters())])
    return {"elbo": history.elbo, "parameters": state.tolist()}


with joined():
    found = {kind: train(kind) for kind in kinds.split(",")}
    if rank() == 0:
        print(json.dumps(found))
"""


def launch(tmp_path, *arguments, processes):
    script = tmp_path / "train.py"
    script.write_text(SCRIPT)
    start = [sys.executable]
    if processes > 1:
        start += ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    return subprocess.run(
        [*start, str(script), *map(str, arguments)], capture_output=True, text=True, timeout=300, check=False
    )


def test_two_processes_give_the_curve_of_one(tmp_path):
    """Batches of 11, 11 and 1: the shares differ, and one process gets none of the last."""
    kinds = ["one", "many", "mean", "table", *FAMILIES]  # uncaptured, captured, a state, sparse gradients, all families
    found = []
    for processes in (1, 2):
        done = launch(tmp_path, True, ",".join(kinds), "", False, processes=processes)
        assert done.returncode == 0, done.stderr[-2000:]
        found.append(json.loads(done.stdout.strip().splitlines()[-1]))
    one, two = found
    for kind in kinds:
        assert two[kind]["elbo"] == pytest.approx(one[kind]["elbo"], rel=1e-9), kind
        assert two[kind]["parameters"] == pytest.approx(one[kind]["parameters"], rel=1e-6, abs=1e-9), kind


def test_a_process_that_dies_ends_the_run_and_the_checkpoint_is_whole(tmp_path):
    place = tmp_path / "kept.pt"
    done = launch(tmp_path, False, "one", place, True, processes=2)
    assert done.returncode != 0
    assert "one of the 2 processes is gone" in done.stderr
    epochs = len(torch.load(place, weights_only=True)["progress"]["elbo"])
    assert 0 < epochs < 8
    rest = launch(tmp_path, False, "one", place, False, processes=1)
    whole = launch(tmp_path, False, "one", "", False, processes=1)
    assert rest.returncode == whole.returncode == 0, rest.stderr[-2000:]
    rest, whole = (json.loads(one.stdout.strip().splitlines()[-1])["one"] for one in (rest, whole))
    assert rest["elbo"] == pytest.approx(whole["elbo"], rel=1e-4)
    assert list(tmp_path.glob(".*")) == []


def test_the_command_line_under_torchrun(tmp_path):
    arguments = [
        "train",
        "--epochs",
        "2",
        "--hidden",
        "8",
        "--particles",
        "5",
        "--images",
        "9",
        "--folder",
        "a",
        "--json",
    ]
    start = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [*start, "-m", "ppl_vae", *arguments], cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert json.loads(done.stdout)["settings"]["epochs"] == 2
    assert list((tmp_path / "a").glob("*.json"))


def test_processes_whose_random_numbers_part_are_told_so(monkeypatch):
    leaf = torch.zeros(2, requires_grad=True)
    leaf.grad = torch.ones(2)
    monkeypatch.setattr("ppl_vae.training.distributed.count", lambda: 2)
    monkeypatch.setattr("torch.distributed.all_reduce", lambda flat: flat.mul_(2))
    assert float(summed(3.0, [leaf], Share(4, 0, 2))) == 6.0
    assert torch.equal(leaf.grad, 2 * torch.ones(2))
    monkeypatch.setattr("torch.distributed.all_reduce", lambda flat: flat.mul_(2)[-1].add_(1))  # the other one's state
    with pytest.raises(InputError, match="the 2 processes no longer draw the same random numbers"):
        summed(3.0, [leaf], Share(4, 0, 2))


@pytest.mark.parametrize(
    ("plate", "message"),
    [
        (lambda x: nullcontext(), "site 'z' lies outside the plate 'data', so that 2 processes can't share its rows"),
        (lambda x: pyro.plate("data", 100, subsample=x), "site 'z' subsamples its plate 'data'"),
    ],
)
def test_what_is_no_sum_over_rows_is_refused(monkeypatch, plate, message):
    def model(x):
        with plate(x):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
        with pyro.plate("rows", len(x)):
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    def guide(x):
        loc = pyro.param("loc", torch.tensor(0.0))
        with plate(x):
            pyro.sample("z", dist.Normal(loc, 1.0))

    monkeypatch.setattr("ppl_vae.training.distributed.count", lambda: 2)
    with pytest.raises(InputError, match=message):
        fit(model, guide, torch.ones(3), seed=0, progress=False)


def test_processes_need_a_seed(monkeypatch):
    monkeypatch.setattr("ppl_vae.training.distributed.count", lambda: 2)
    with pytest.raises(InputError, match="2 processes need the same random numbers: give fit a seed"):
        fit(lambda x: None, lambda x: None, torch.ones(3, 2), progress=False)
