"""A KL weight, free bits and clipping on the command line: they are the arguments of ``fit``, and are recorded."""

import json
from unittest import mock

import pytest
import torch
from cut_off import written_each_epoch

from ppl_vae import cyclical, warm_up
from ppl_vae.cli.values import kl_weight
from ppl_vae.training.updates import Updates

QUICK = ("--epochs", 3, "--hidden", 8, "--latents", 2, "--particles", 10, "--images", 20, "--quiet", "--json")
WEIGHTS = ("--kl-weight", "warm-up:0.5", "--free-bits", 0.25, "--clip", 0.5)


def test_the_words_mean_what_they_mean_in_python():
    assert kl_weight("4") == 4.0
    for words, schedule in [
        ("warm-up", warm_up()),
        ("warm-up:0.5", warm_up(0.5)),
        ("cyclical", cyclical()),
        ("cyclical:0.25", cyclical(share=0.25)),
    ]:
        found = kl_weight(words)
        assert [found(step / 40) for step in range(41)] == [schedule(step / 40) for step in range(41)]


def test_a_training_with_weights_is_recorded_and_goes_on_exactly(run):
    finish, taken = Updates.finish, []

    def finish_or_stop(updates):
        if len(taken) == 29:  # in the third epoch
            raise KeyboardInterrupt
        finish(updates)
        taken.append(updates)

    status, out, _ = run("train", *QUICK, *WEIGHTS, "--run", "whole")
    whole = json.loads(out)
    assert status == 0
    assert (whole["settings"]["kl_weight"], whole["settings"]["free_bits"], whole["settings"]["clip"]) == (
        "warm-up:0.5",
        0.25,
        0.5,
    )
    assert whole["is_bound"] is True
    with written_each_epoch(), mock.patch.object(Updates, "finish", finish_or_stop):
        run("train", *QUICK, *WEIGHTS, "--run", "parts")
    assert len(taken) == 29
    status, out, _ = run("train", "--resume", "parts", "--quiet", "--json")
    assert status == 0
    rest = json.loads(out)
    assert rest["train_elbo"] == whole["train_elbo"]
    assert rest["test_elbo"] == whole["test_elbo"]
    plain = json.loads(run("train", *QUICK, "--run", "plain")[1])
    assert plain["train_elbo"] != whole["train_elbo"]


def test_compare_trains_all_with_the_same_weights(run, tmp_path):
    guides = ("--guides", "diagonal,full")
    heavy = run("compare", *guides, *QUICK, "--kl-weight", "20", "--clip", 5, "--run", "heavy")
    light = run("compare", *guides, *QUICK, "--run", "light")
    assert (heavy[0], light[0]) == (0, 0)
    histories = [json.loads((tmp_path / name / "history.json").read_text()) for name in ("heavy", "light")]
    assert str(histories[0]) != str(histories[1])
    assert json.loads((tmp_path / "heavy" / "table.json").read_text())["settings"]["kl_weight"] == "20"


def test_a_model_of_shared_latents_takes_a_weight(run):
    quick = ("--model", "eight-schools", "--epochs", 5, "--particles", 20, "--quiet", "--json")
    status, out, _ = run("train", *quick, "--kl-weight", "2", "--clip", 1)
    assert status == 0
    assert json.loads(out)["settings"]["kl_weight"] == "2"
    assert "--free-bits means nothing for eight-schools" in run("train", *quick, "--free-bits", 1)[2]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--kl-weight", "warm"], "--kl-weight is 'warm'; expected a number from 0 on, warm-up or cyclical, or either"),
        (["--kl-weight", "warm-up:2"], "--kl-weight is 'warm-up:2'; expected"),
        (["--kl-weight", "cyclical:"], "--kl-weight is 'cyclical:'; expected"),
        (["--kl-weight", "nan"], "kl_weight is nan; expected a number"),
        (["--free-bits", "-1"], "free_bits is -1.0; expected a finite number of bits from 0 on"),
        (["--clip", "0"], "clip is 0.0; expected the largest norm of a gradient"),
        (["--kl-weight", "2", "--estimator", "iwae"], "kl_weight is 2.0, but IWAE has no divergence of each draw"),
        (["--data", "iris", "--model", "gaussian-mixture", "--clip", "1"], "--clip means nothing on iris"),
    ],
)
def test_what_can_not_be_is_refused_in_a_line(run, options, words):
    status, _, err = run("train", *QUICK[:4], "--quiet", *options) if "iris" not in options else run("train", *options)
    assert status == 2
    assert words in err
    assert err.count("\n") == 1
    assert torch.is_grad_enabled()
