"""Runs that are measured side by side: each under a name of its own, on the same data wherever they were started."""

import json
from pathlib import Path

import numpy as np
import pytest

from ppl_vae.cli.options import GradientsOptions, TrainOptions
from ppl_vae.cli.resuming import asked

QUICK = ("--epochs", 1, "--hidden", 4, "--latents", 2, "--particles", 10, "--images", 5, "--quiet")


@pytest.mark.parametrize("name", ["own.npy", "T.csv", "T.CSV"])
def test_a_file_of_data_is_recorded_as_one_that_is_found_from_any_folder(name):
    options = TrainOptions(data=name, data_root=Path("there"))
    for record in (asked(options), options.recorded()):
        assert record["data"] == str(Path(name).absolute())
        assert record["data_root"] == Path("there").absolute()
    assert GradientsOptions(data="digits").recorded()["data"] == "digits"


def test_runs_of_one_name_and_one_file_of_data(run, tmp_path, monkeypatch):
    np.save(tmp_path / "own.npy", np.random.default_rng(0).random((30, 4, 4)))
    for folder, data in (("a/x", "own.npy"), ("d/x", tmp_path / "own.npy")):  # by another path
        assert run("train", "--data", data, *QUICK, "--run", folder)[0] == 0
    measuring = ("--particles", 10, "--json", "--quiet")
    status, out, err = run("compare", "--from", "a/x", "--from", "d/x", *measuring, "--run", "both")
    assert status == 0, err
    assert {row["guide"] for row in json.loads(out)["guides"]} == {"a/x/diagonal", "d/x/diagonal"}
    for runs in (("both", "a/x"), ("a/x", "both")):
        status, out, err = run("compare", "--from", runs[0], "--from", runs[1])
        assert (status, out) == (2, "")
        assert err == "ppl-vae: both compares earlier runs, and keeps no pair: take a/x, d/x\n"
    monkeypatch.chdir(tmp_path / "a" / "x")
    status, out, err = run("evaluate", ".", *measuring)
    assert status == 0, err
    status, out, err = run("compare", "--from", ".", "--from", "../../d/x", *measuring, "--run", "../../here")
    assert status == 0, err
    assert {row["guide"] for row in json.loads(out)["guides"]} == {"./diagonal", "../../d/x/diagonal"}
