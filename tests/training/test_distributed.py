"""Two processes train as one does, with the same global batch; one that dies ends the run, its checkpoint whole."""

import json
import runpy
import subprocess
import sys
from contextlib import nullcontext

import pyro
import pyro.distributions as dist
import pytest
import torch
from cut_off import epochs_in

from ppl_vae import InputError, fit
from ppl_vae.guides import FAMILIES
from ppl_vae.training.distributed import summed
from ppl_vae.training.shared_noise import Share

SCRIPT = """
import json, os, runpy, sys
from contextlib import contextmanager
import torch
from ppl_vae import fit
from ppl_vae.training import distributed
from ppl_vae.training.distributed import rank
from ppl_vae.estimators import IWAE, LeaveOneOut, RunningMean
from ppl_vae.guides import FAMILIES, Amortized, Diagonal, PerDatapoint
from ppl_vae.models import VAE, BernoulliVAE, CategoricalVAE, GaussianMixture
from pyro.infer import Trace_ELBO, TraceGraph_ELBO

discrete = {"bernoulli": BernoulliVAE, "categorical": CategoricalVAE, "one-hot": GaussianMixture}
elbos = {"many": lambda: IWAE(4), "mean": RunningMean}
elbos |= {"categorical": lambda: LeaveOneOut(3), "bernoulli": TraceGraph_ELBO}


def train(kind, place=None, epochs=3):
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
        if rank() == 1 and os.environ.get("DIES_AT") == str(transform.calls):  # nothing of the transform's own
            os._exit(1)
        return torch.bernoulli(batch)

    transform.calls = 0
    elbo = elbos.get(kind, Trace_ELBO)()
    history = fit(model, guide, data, elbo=elbo, epochs=epochs, batch_size=11, transform=transform, seed=0,
                  progress=False, capture=kind == "many", device="cpu", checkpoint=place)
    state = torch.cat([leaf.detach().flatten() for leaf in (*model.parameters(), *guide.parameters())])
    return {"elbo": history.elbo, "parameters": state.tolist()}


@contextmanager
def joined_for_longer():
    with joined():
        yield
        found = {kind: train(kind) for kind in kinds.split(",")}
        if rank() == 0:
            print(json.dumps(found), flush=True)
        os.environ["DIES_AT"] = "20"
        train("one", place, epochs=8)


if "WORLD_SIZE" in os.environ:  # torchrun sets it
    torch.set_num_threads(1)
    place, kinds, *sys.argv[1:] = sys.argv[1:]
    joined = distributed.joined
    distributed.joined = joined_for_longer
    runpy.run_module("ppl_vae", run_name="__main__")
"""
KINDS = ["one", "many", "mean", "table", *FAMILIES]  # uncaptured, captured, a state, sparse gradients, all families
COMMAND_LINE = [
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


@pytest.fixture(scope="module")
def launched(tmp_path_factory):
    """Two processes run the command line, and before they part train pairs; in the last training one of them dies.

    Returns what trains a pair in one process, the folder, and how the processes ended.
    """
    folder = tmp_path_factory.mktemp("launched")
    script = folder / "train.py"
    script.write_text(SCRIPT)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    torchrun += ["--monitor-interval", "3"]  # it ends the other process, too: not before that one has said what it sees
    done = subprocess.run(
        [*torchrun, str(script), str(folder / "kept.pt"), ",".join(KINDS), *COMMAND_LINE],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    return runpy.run_path(str(script), run_name="__main__")["train"], folder, done


def test_two_processes_give_the_curve_of_one(launched):
    """Batches of 11, 11 and 1: the shares differ, and one process gets none of the last."""
    train, _, done = launched
    assert done.stdout.strip(), done.stderr[-2000:]
    two = json.loads(done.stdout.strip().splitlines()[-1])
    for kind in KINDS:
        one = train(kind)
        assert two[kind]["elbo"] == pytest.approx(one["elbo"], rel=1e-9), kind
        assert two[kind]["parameters"] == pytest.approx(one["parameters"], rel=1e-6, abs=1e-9), kind


def test_a_process_that_dies_ends_the_run_and_the_checkpoint_is_whole(launched):
    train, folder, done = launched
    place = folder / "kept.pt"
    assert done.returncode != 0
    assert "one of the 2 processes is gone" in done.stderr
    epochs = len(epochs_in(place))
    assert 0 < epochs < 8
    rest, whole = train("one", place, epochs=8), train("one", epochs=8)
    assert rest["elbo"] == pytest.approx(whole["elbo"], rel=1e-4)
    assert list(folder.glob(".*")) == []


def test_the_command_line_under_torchrun(launched):
    _, folder, done = launched
    shown = done.stdout.strip().rpartition("\n")[0]
    assert shown, done.stderr[-2000:]
    assert json.loads(shown)["settings"]["epochs"] == 2
    assert list((folder / "a").glob("*.json"))


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
