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
from ppl_vae.distributed import Share, SharedNoise

SCRIPT = """
import json, os, sys
import torch
from ppl_vae import fit
from ppl_vae.distributed import joined, rank
from ppl_vae.estimators import IWAE
from ppl_vae.guides import Amortized, Bernoulli, Diagonal
from ppl_vae.models import VAE, BernoulliVAE
from pyro.infer import Trace_ELBO, TraceGraph_ELBO

capture, kinds, place, dies = sys.argv[1] == "True", sys.argv[2], sys.argv[3], sys.argv[4] == "True"


def train(latents):
    torch.manual_seed(0)
    x = torch.rand(23, 12)
    if latents == "bits":
        model, guide = BernoulliVAE(12, 3, hidden=(8,)), Amortized(Bernoulli(3), 12, hidden=(8,))
        elbo = TraceGraph_ELBO()
    else:
        model, guide = VAE(12, 3, hidden=(8,)), Amortized(Diagonal(3), 12, hidden=(8,))
        elbo = IWAE(4) if latents == "many" else Trace_ELBO()

    def transform(batch):
        transform.calls += 1
        if dies and rank() == 1 and transform.calls == 20:
            os._exit(1)
        return torch.bernoulli(batch)

    transform.calls = 0
    history = fit(model, guide, x, elbo, epochs=8, batch_size=11, transform=transform, seed=0, progress=False,
                  capture=capture and latents == "many", device="cpu", checkpoint=place or None)
    state = torch.cat([leaf.detach().flatten() for leaf in (*model.parameters(), *guide.parameters())])
    return {"elbo": history.elbo, "parameters": state.tolist()}


with joined():
    found = {latents: train(latents) for latents in kinds.split(",")}
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
    found = []
    for processes in (1, 2):
        done = launch(tmp_path, True, "one,many,bits", "", False, processes=processes)
        assert done.returncode == 0, done.stderr[-2000:]
        found.append(json.loads(done.stdout.strip().splitlines()[-1]))
    one, two = found
    for latents in ("one", "many", "bits"):  # uncaptured, captured, a score function
        assert two[latents]["elbo"] == pytest.approx(one[latents]["elbo"], rel=1e-4)
        assert two[latents]["parameters"] == pytest.approx(one[latents]["parameters"], rel=1e-3, abs=1e-4)


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


@pytest.mark.parametrize("total", [1, 5, 8])
def test_the_shares_noise_is_a_part_of_the_whole(monkeypatch, total):
    def drawn():
        logits = torch.linspace(-1, 1, total)[:, None].expand(total, 3)
        return logits, [
            lambda rows: torch.empty(rows, 3).normal_(),
            lambda rows: torch.rand(4, rows, 3),
            lambda rows: torch.randn(rows, 3),
        ]

    logits, draws = drawn()
    for draw in draws:
        torch.manual_seed(0)
        whole = draw(total)
        torch.manual_seed(0)
        bits = torch.bernoulli(logits.sigmoid())
        for number in range(2):
            monkeypatch.setattr("ppl_vae.distributed.rank", lambda number=number: number)
            monkeypatch.setattr("ppl_vae.distributed.count", lambda: 2)
            share = Share(total)
            rows = slice(share.start, share.start + share.length)
            torch.manual_seed(0)
            with SharedNoise(share):
                mine = draw(share.length)
            assert torch.equal(mine, whole[..., rows, :])
            torch.manual_seed(0)
            with SharedNoise(share):
                assert torch.equal(torch.bernoulli(logits[rows].sigmoid()), bits[rows])


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

    monkeypatch.setattr("ppl_vae.distributed.count", lambda: 2)
    with pytest.raises(InputError, match=message):
        fit(model, guide, torch.ones(3), seed=0, progress=False)


def test_processes_need_a_seed(monkeypatch):
    monkeypatch.setattr("ppl_vae.distributed.count", lambda: 2)
    with pytest.raises(InputError, match="2 processes need the same random numbers: give fit a seed"):
        fit(lambda x: None, lambda x: None, torch.ones(3, 2), progress=False)
