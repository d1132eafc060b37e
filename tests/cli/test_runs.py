"""Runs that are opened again: the same pairs and figures, and a training that goes on as if it had never ended."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr

from ppl_vae import InputError, bounds, fit, load, load_pair, open_run, save_pair
from ppl_vae.guides import Amortized, Diagonal, Full
from ppl_vae.models import VAE
from ppl_vae.runs.image_data import data_for

QUICK = ("--epochs", 2, "--hidden", 8, "--latents", 2, "--particles", 10, "--images", 20)
FEW = ("--epochs", 3, "--particles", 10)
RUNS = {
    "vae": ("train", *QUICK),
    "flow": ("train", "--guide", "maf", *QUICK),
    "semi-amortized": ("train", "--guide", "semi-amortized:diagonal", *QUICK),
    "conditional": ("train", "--model", "conditional-vae", "--likelihood", "gaussian", *QUICK),
    "two-layer": ("train", "--model", "two-layer-vae", "--guide", "two-layer", *QUICK),
    "bits": ("train", "--model", "bernoulli-vae", "--guide", "bernoulli", "--estimator", "disarm", *QUICK),
    "compare": ("compare", "--guides", "diagonal,delta", *QUICK),
    "joint": ("compare", "--guides", "diagonal,full", "--joint", *QUICK),
    "exact": ("compare", "--model", "linear-gaussian", "--guides", "exact-posterior,prior", *QUICK),
    "mixture": ("train", "--model", "gaussian-mixture", "--data", "iris", "--epochs", 2, "--starts", 2),
    "network": (
        *("train", "--model", "mixture-density-network", "--data", "iris", "--target", "petal width"),
        *("--epochs", 2, "--starts", 2, "--hidden", 8),
    ),
    "shared": ("compare", "--model", "eight-schools", "--guides", "auto-normal,auto-mvn,auto-iaf", *FEW),
    "laplace": ("train", "--model", "linear-regression", "--guide", "auto-laplace", "--epochs", 300, "--particles", 10),
    "gradients": (
        *("gradients", "--hidden", 8, "--latents", 2, "--epochs", 1, "--draws", 10, "--reference-draws", 0),
        *("--estimators", "pathwise,rloo", "--no-race"),
    ),
}


@pytest.mark.parametrize("name", RUNS)
def test_a_run_is_opened_measured_drawn_from_and_reproduced(run, tmp_path, name):
    assert run(*RUNS[name], "--quiet", "--run", "a")[0] == 0
    opened = open_run(tmp_path / "a")
    assert (opened.command, opened.settings["seed"]) == (RUNS[name][0], 0)
    assert set(opened.made_with) == {"versions", "commit", "machine", "started"}
    status, out, err = run("reproduce", "a", "--quiet")
    assert (status, err) == (0, ""), out
    assert "figures are the same to the last digit" in out
    if name == "gradients":
        assert not opened.pairs
        assert run("evaluate", "a")[0] == run("sample", "a")[0] == 2
        return
    status, out, err = run("evaluate", "a", "--particles", 10, "--json", "--quiet")
    assert status == 0, err
    rows = {row["guide"]: row for row in json.loads(out)["guides"]}
    assert set(rows) == set(opened.pairs)
    if opened.bounds is not None:
        then = opened.bounds.elbo if "guide" in opened.bounds.dims else opened.bounds.elbo.expand_dims(guide=list(rows))
        for guide, row in rows.items():
            assert row["elbo"] == pytest.approx(float(then.sel(guide=guide).mean()), rel=1e-12)
    assert run("sample", "a", "--count", 9)[0] == 0
    kind = {"mixture": "csv", "network": "csv", "shared": "nc", "laplace": "nc"}.get(name, "npy")
    drawn = tmp_path / "a" / f"drawn.{kind}"
    if kind == "npy":
        assert np.load(drawn).shape == (9, 8, 8)
    elif kind == "csv":
        assert len(pd.read_csv(drawn)) == 9
    else:
        assert drawn.exists()


def test_a_run_that_is_trained_on_is_one_that_was_never_closed(run, tmp_path):
    for epochs, folder in ((2, "short"), (4, "long")):
        assert run("train", *QUICK, "--epochs", epochs, "--run", folder, "--quiet")[0] == 0
    opened, source = open_run("short"), load("digits")
    data = data_for(opened.model, source, 0)
    history = fit(
        opened.model,
        opened.guide,
        data.training,
        elbo=None,
        epochs=2,
        transform=data.transform,
        progress=False,
    )
    assert len(history.elbo) == 2  # opened pairs are ordinary modules
    status, out, err = run("train", "--resume", "short", "--epochs", 4, "--quiet", "--json")
    assert status == 0
    assert "lowered as for 2" in err
    longer = open_run("short")
    assert len(longer.history.elbo) == 4
    assert longer.settings["epochs"] == json.loads(out)["settings"]["epochs"] == 4
    assert run("reproduce", "long", "--quiet")[1].startswith("all ")


def test_a_run_of_shared_latents_is_trained_on(run):
    for epochs, folder in ((5, "short"), (10, "long")):
        assert run("train", "--model", "eight-schools", *FEW, "--epochs", epochs, "--run", folder, "--quiet")[0] == 0
    status, out, err = run("train", "--resume", "short", "--epochs", 10, "--quiet", "--json")
    assert (status, err.count("\n")) == (0, 1)
    assert "lowered as for 5" in err
    longer = open_run("short")
    assert len(longer.history.elbo) == longer.settings["epochs"] == 10
    assert json.loads(out)["guides"][0]["elbo"] == pytest.approx(float(longer.bounds.elbo.mean()), rel=1e-12)


def test_a_checkpoint_of_a_run_goes_on_in_python_as_it_would_have(tmp_path):
    x = torch.bernoulli(torch.full((20, 12), 0.3), generator=torch.Generator().manual_seed(0))

    def pair():
        torch.manual_seed(0)
        return VAE(12, 2, hidden=(8,)), Amortized(Diagonal(2), 12, hidden=(8,))

    options = {"batch_size": 8, "seed": 0, "progress": False}
    whole = pair()
    fit(*whole, x, epochs=6, **options)
    fit(*pair(), x, epochs=3, checkpoint=tmp_path / "kept.pt", **options)
    again = pair()
    fit(*again, x, epochs=6, checkpoint=tmp_path / "kept.pt", **options)
    for ours, theirs in zip(again, whole, strict=True):
        assert all(map(torch.equal, ours.parameters(), theirs.parameters()))


def test_runs_side_by_side(run, tmp_path):
    for guide in ("diagonal", "full"):
        assert run("train", "--guide", guide, *QUICK, "--run", guide, "--quiet")[0] == 0
    status, out, err = run("compare", "--from", "diagonal", "--from", "full", "--particles", 10, "--run", "c", "--json")
    assert status == 0, err
    rows = {row["guide"]: row["elbo"] for row in json.loads(out)["guides"]}
    for guide in ("diagonal", "full"):
        assert rows[f"{guide}/{guide}"] == pytest.approx(float(open_run(guide).bounds.elbo.mean()), rel=1e-12)
    assert xr.load_dataset(tmp_path / "c" / "bounds.nc", engine="scipy").sizes["guide"] == 2
    assert run("train", "--model", "eight-schools", *FEW, "--run", "e", "--quiet")[0] == 0
    for options, words in (
        (["--from", "diagonal", "--from", "e"], "compare runs on the same data"),
        (["--from", "diagonal", "--from", "diagonal"], "names one run twice"),
        (["--from", "diagonal", "--epochs", 3], "--epochs means nothing beside --from"),
        (["--from", "nowhere"], "nowhere is no folder"),
    ):
        status, out, err = run("compare", *options)
        assert (status, out, err.count("\n")) == (2, "", 1)
        assert words in err


def test_other_data_under_the_same_name_are_refused(run, tmp_path):
    images = np.random.default_rng(0).random((30, 8, 8))
    np.save(tmp_path / "own.npy", images)
    assert run("train", "--data", "own.npy", *QUICK, "--run", "a", "--quiet")[0] == 0
    assert run("evaluate", "a", "--particles", 10, "--quiet")[0] == 0
    np.save(tmp_path / "own.npy", images[::-1])
    status, _, err = run("evaluate", "a", "--quiet")
    assert (status, err.count("\n")) == (2, 1)
    assert "own.npy are not those of a" in err


def test_what_differs_is_said(run, tmp_path):
    assert run("train", *QUICK, "--run", "a", "--quiet")[0] == 0
    folder = tmp_path / "a"
    record = json.loads((folder / "run.json").read_text())
    from ppl_vae.runs.folder import _write

    record["options"]["seed"] = 1
    _write(folder, record)
    status, out, _ = run("reproduce", "a", "--quiet")
    assert status == 1
    assert "differs" in out


def test_a_pair_of_ones_own_is_kept(tmp_path):
    x = torch.bernoulli(torch.full((5, 12), 0.3))
    model, guide = VAE(12, 2, hidden=(8,)), Amortized(Full(2), 12, hidden=(8,))
    save_pair(tmp_path, model, guide)
    again = VAE(12, 2, hidden=(8,)), Amortized(Full(2), 12, hidden=(8,))
    load_pair(tmp_path, *again)
    options = {"particles": 10, "seed": 0, "progress": False}
    assert bounds(model, guide, x, **options).equals(bounds(*again, x, **options))
    wide = VAE(12, 2, hidden=(9,))
    before = wide.decoder[0].weight.clone()
    with pytest.raises(
        InputError, match=r"the model here, a VAE, is not that of .*decoder\.0\.weight is float32 of shape"
    ):
        load_pair(tmp_path, wide, guide)
    with pytest.raises(InputError, match=r"the guide here, a Amortized, is not that of .* missing in the file"):
        load_pair(tmp_path, model, Amortized(Diagonal(2), 12, hidden=(8, 8)))
    assert torch.equal(wide.decoder[0].weight, before)
