"""The figures of a run and its table agree: the guides have one order, and ties are told."""

import json

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
