"""The figures of a run and its table agree: the guides have one order, and ties are told."""

import json

import torch

from ppl_vae.cli import results
from ppl_vae.guides import Amortized, Diagonal
from ppl_vae.models import VAE
from ppl_vae.plots import images

QUICK = ["--epochs", "2", "--hidden", "8", "--particles", "20", "--images", "30"]


def test_reconstructions_have_the_order_of_the_table(run, tmp_path, monkeypatch):
    drawn, draw = [], images.reconstructions

    def seen(pairs, *arguments):
        drawn.extend(pairs)
        return draw(pairs, *arguments)

    monkeypatch.setattr(images, "reconstructions", seen)
    status, _, err = run("compare", "--guides", "delta,prior,diagonal", *QUICK, "--run", "a")
    assert status == 0, err
    table = json.loads((tmp_path / "a" / "table.json").read_text())
    assert drawn == [row["guide"] for row in table["guides"]]
    assert drawn[-1] == "delta"


def test_ties_are_in_the_table_and_in_its_files(run, tmp_path):
    model = ["--model", "linear-gaussian", "--guides", "exact-posterior,prior"]
    status, out, err = run("compare", *model, *QUICK, "--run", "a")
    assert status == 0, err
    assert "tie" not in out
    assert [row["tie"] for row in json.loads((tmp_path / "a" / "table.json").read_text())["guides"]] == [False, False]
    status, out, err = run("compare", "--latents", 2, "--guides", "diagonal,full", *QUICK, "--run", "b")
    assert status == 0, err
    found = json.loads((tmp_path / "b" / "table.json").read_text())["guides"]
    assert (" (tie)" in out) == ("ties marked" in out) == found[1]["tie"]
    assert found[1]["tie"]


def test_the_figures_of_models_have_the_names_of_files(tmp_path):
    names = ["semi-amortized:diagonal", "full"]
    pairs = {name: (VAE(16, 2, hidden=(4,)), Amortized(Diagonal(2), 16, hidden=(4,))) for name in names}
    results.write_images(tmp_path, pairs, (torch.rand(3, 16),), (4, 4))
    endings = ["semi-amortized-diagonal", "full"]
    expected = {f"{figure}-{ending}.png" for figure in ("samples", "manifold") for ending in endings}
    assert {path.name for path in tmp_path.iterdir()} == expected | {"reconstructions.png"}
