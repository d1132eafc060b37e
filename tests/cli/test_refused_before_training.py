"""Options that a command has no use for, or can't measure with, are refused before anything is trained."""

from pathlib import Path

import pytest
import torch

from ppl_vae import InputError, Run
from ppl_vae.cli.image_runs import _start
from ppl_vae.cli.measuring import measured
from ppl_vae.cli.opening_options import EvaluateOptions
from ppl_vae.cli.options import TrainOptions
from ppl_vae.cli.table_runs import _settings
from ppl_vae.cli.train import train
from ppl_vae.data.tables import load_table

QUICK = ("--epochs", 1, "--hidden", 4, "--images", 5, "--quiet")


@pytest.mark.parametrize("command", ["train", "compare"])
def test_one_particle_is_refused_before_the_training(run, tmp_path, command):
    status, out, err = run(command, *QUICK, "--particles", 1, "--run", "a")
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert "Input should be greater than or equal to 2" in err
    assert not (tmp_path / "a").exists()


def test_widths_are_refused_where_there_is_no_network(tmp_path):
    typed = frozenset({"hidden", "run"})
    options = TrainOptions(data="iris", model="gaussian-mixture", hidden="7", epochs=1, run=tmp_path / "a", typed=typed)
    with pytest.raises(InputError, match="--hidden means nothing for a gaussian-mixture, which has no network: leave"):
        train(options)
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize("kind", ["table", "shared"])
def test_images_are_refused_where_there_are_none(kind):
    pairs = {"full": (torch.nn.Identity(), torch.nn.Identity())}
    run = Run(Path("runs/a"), "train", kind, {}, {}, {}, pairs, {}, None, {}, None)
    options = EvaluateOptions(folder=run.folder, images=3, typed=frozenset({"images"}))
    with pytest.raises(InputError, match="--images means nothing for runs/a, a run without images: leave it away"):
        measured([run], options, "evaluate")


@pytest.mark.parametrize(("hidden", "widths"), [(None, (400, 400)), ("", ()), ("8", (8,))])
def test_no_widths_are_no_hidden_layer(tmp_path, hidden, widths):
    assert _start(TrainOptions(hidden=hidden, latents=2), tmp_path).settings["hidden"] == widths
    table = load_table("iris", target="petal width")
    options = TrainOptions(data="iris", model="mixture-density-network", hidden=hidden)
    assert _settings(options, table, 100)["hidden"] == (widths if hidden is not None else (100, 100))
