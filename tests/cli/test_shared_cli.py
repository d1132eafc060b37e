"""``ppl-vae compare`` and ``train`` for models whose latents all the data share."""

import csv
import json

import pytest
import xarray as xr
from safetensors.torch import load_file

from ppl_vae.models import BAYESIAN_MODELS
from ppl_vae.runs.zoo import SHARED_MODELS

QUICK = ["--epochs", "5", "--particles", "20", "--quiet"]


def test_every_shared_model_has_a_name():
    assert set(SHARED_MODELS) == {*BAYESIAN_MODELS, "eight-schools-centered", "logistic-regression-horseshoe"}
    horseshoe = SHARED_MODELS["logistic-regression-horseshoe"]
    centered = SHARED_MODELS["eight-schools-centered"]
    assert horseshoe.make(*horseshoe.data()).prior == "horseshoe"
    assert centered.make(*centered.data()).centered


def test_compare_writes_a_folder_without_images(run, tmp_path):
    status, out, _ = run(
        "compare", "--model", "eight-schools", "--guides", "auto-normal,auto-mvn", *QUICK, "--run", "a"
    )
    folder = tmp_path / "a"
    assert status == 0
    assert "nats for all the data" in out
    assert {path.name for path in folder.iterdir()} == {
        *(
            "table.json",
            "table.csv",
            "bounds.nc",
            "history.json",
            "run.json",
            "report.html",
            "parts",
            "model.safetensors",
            "bounds.png",
            "training.png",
            "gaps.png",
            "rate-distortion.png",
        ),
        *("guide-auto-normal.safetensors", "guide-auto-mvn.safetensors"),
    }
    found = json.loads((folder / "table.json").read_text())
    assert found["units"].startswith("nats per data set")
    assert not {"data", "latents", "hidden", "batch_size"} & set(found["settings"])
    assert found["settings"]["epochs"] == 5
    with (folder / "table.csv").open() as file:
        assert {row["guide"] for row in csv.DictReader(file)} == {"auto-normal", "auto-mvn"}
    assert xr.load_dataset(folder / "bounds.nc", engine="scipy").sizes["data"] == 1
    assert load_file(folder / "guide-auto-mvn.safetensors")["loc"].shape == (10,)


def test_the_exact_posterior_is_compared_where_it_is_known(run):
    options = ["--model", "linear-regression", "--guides", "exact-posterior,auto-normal", *QUICK, "--json", "--seed", 1]
    found, again = (json.loads(run("compare", *options)[1]) for _ in range(2))
    assert found["log_evidence"] == "exact"
    assert found["guides"][0]["guide"] == "exact-posterior"
    assert abs(found["guides"][0]["gap"]) < 1e-2
    assert [row["elbo"] for row in found["guides"]] == [row["elbo"] for row in again["guides"]]


def test_annealed_evidence(run):
    options = ["--model", "eight-schools", "--guides", "auto-normal", "--evidence", "annealed"]
    status, out, _ = run("compare", *options, "--annealing-steps", 3, *QUICK, "--json")
    assert status == 0
    assert "annealing over 3 distributions" in json.loads(out)["log_evidence"]


def test_a_guide_without_a_maximum_loses_no_other(run):
    options = ["--model", "eight-schools-centered", *QUICK, "--epochs", 300, "--lr", 0.05, "--json"]
    status, out, err = run("compare", "--guides", "auto-normal,auto-laplace", *options)
    assert status == 0
    assert [row["guide"] for row in json.loads(out)["guides"]] == ["auto-normal"]
    assert "auto-laplace is left out of the table" in err
    assert err.count("\n") == 1
    status, _, err = run("compare", "--guides", "auto-laplace", *options)
    assert status == 2
    assert "no maximum" in err


def test_train_fits_one_guide(run, tmp_path):
    status, out, _ = run("train", "--model", "eight-schools", *QUICK, "--run", "a")
    assert status == 0
    assert "auto-normal" in out
    assert (tmp_path / "a" / "guide.safetensors").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["compare", "--model", "eight-schools", "--guides", "diagonal"], "'diagonal' has latents of each data point"),
        (["compare", "--model", "eight-schools", "--guides", "exact-posterior"], "whose posterior is not known"),
        (["compare", "--model", "eight-schools", "--guides", "nothing"], "there is no guide 'nothing'"),
        (["compare", "--model", "eight-schools", "--data", "mnist"], "--data means nothing for eight-schools"),
        (["compare", "--model", "eight-schools", "--latents", "3", "--joint"], "--latents, --joint means nothing"),
        (["train", "--model", "eight-schools", "--data", "iris"], "--data means nothing for eight-schools"),
        (["train", "--model", "eight-schools", "--guide", "full"], "'full' has latents of each data point"),
        (["compare", "--guides", "auto-normal"], "'auto-normal' knows only the rows that it is fitted to"),
        (["gradients", "--model", "eight-schools"], "eight-schools has latents that all the data share"),
    ],
)
def test_what_does_not_fit_gets_one_line(run, tmp_path, arguments, message):
    status, out, err = run(*arguments)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert message in err
    assert not list(tmp_path.iterdir())
