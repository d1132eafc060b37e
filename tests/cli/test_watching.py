"""``--until``, ``--patience``, ``--validation`` and ``--tracker``: what they do, what is told, and that it goes on."""

import csv
import json
from unittest import mock

import pytest
from cut_off import written_each_epoch
from matplotlib.figure import Figure

from ppl_vae import History, open_run
from ppl_vae.plots.bounds import training_curves
from ppl_vae.training.updates import Updates

FAST = ("--latents", 2, "--hidden", 8, "--particles", 5, "--images", 9, "--quiet")
IMAGES = ("train", *FAST, "--lr", 0.02)
COMPARE = ("compare", *FAST, "--lr", 0.02, "--guides", "diagonal,full")
SHARED = ("--model", "linear-regression", "--particles", 5, "--quiet")
NETWORK = ("train", "--data", "iris", "--target", "petal width", "--model", "mixture-density-network", "--quiet")
NETWORK += ("--hidden", 8, "--starts", 2)
MIXTURE = ("train", "--data", "iris", "--model", "gaussian-mixture", "--starts", 2, "--quiet")
HELD_OUT = ("--validation", 0.2)


def result_of(run, *arguments):
    status, out, err = run(*arguments, "--json")
    assert status == 0, err
    return json.loads(out)


def histories(folder):
    return json.loads((folder / "history.json").read_text())


def test_patience_ends_a_training_of_images_and_the_result_says_so(run, tmp_path):
    found = result_of(run, *IMAGES, *HELD_OUT, "--lr", 0.3, "--epochs", 40, "--patience", 2, "--run", "a")
    (history,) = histories(tmp_path / "a").values()
    assert found["epochs"] == len(history["elbo"]) == len(history["validation"]) < 40
    assert found["ended"].startswith("the held-out bound has not risen for 2 epochs")
    assert found["held_out_elbo"] == history["held_out"] == max(history["validation"])
    assert found["generalization_gap"] == history["generalization_gap"]
    assert found["remaining"] is None
    assert history["size"] == 1437 - round(0.2 * 1437)  # the digits that train a model, but for a fifth
    opened = open_run(tmp_path / "a").histories["diagonal"]
    assert (opened.ended, opened.validation, opened.held_out) == (
        found["ended"],
        history["validation"],
        found["held_out_elbo"],
    )


def test_until_says_what_is_left(run, tmp_path):
    result_of(run, "train", *SHARED, "--until", 0.5, "--run", "a")
    (history,) = histories(tmp_path / "a").values()
    assert 0 <= history["remaining"] <= 0.5
    assert history["ended"]
    assert not history["ended"].startswith("all ")


def test_the_table_says_how_it_ended(run):
    status, out, err = run(*IMAGES, *HELD_OUT, "--epochs", 2, "--run", "a")
    assert status == 0, err
    for words in ("2 epochs: all 2 epochs are done", "held-out ELBO", "training ELBO above that"):
        assert words in " ".join(out.split())
    assert "predicted to be left" not in out
    assert "held-out" not in run(*IMAGES, "--epochs", 2, "--run", "b")[1]


def test_the_figure_has_the_curve_of_the_held_out_data():
    plain = History(size=9, elbo=[-3.0, -2.0, -1.0], seconds=[1.0] * 3)
    watched = History(size=9, elbo=[-3.0, -2.0, -1.0], seconds=[1.0] * 3, validation=[-30.0, -20.0, -25.0])
    figure = training_curves({"one": watched, "two": plain})
    assert isinstance(figure, Figure)
    first, dashed, second = figure.axes[0].lines
    assert [line.get_label() for line in (first, dashed, second)] == ["one", "one, held out", "two"]
    assert list(dashed.get_ydata()) == watched.validation
    assert first.get_color() == dashed.get_color() != second.get_color()
    low, high = figure.axes[0].get_ylim()
    assert low < -25
    assert high > -1


@pytest.mark.parametrize("rule", [(), ("--patience", 1)])
def test_a_run_that_was_cut_off_goes_on_exactly(run, tmp_path, rule):
    options = (*IMAGES, *HELD_OUT, *rule, "--epochs", 4, "--lr", 0.05, "--tracker", "csv")
    whole = result_of(run, *options, "--run", "whole")
    finish, taken = Updates.finish, []

    def finish_or_stop(updates):
        if len(taken) == 14:  # in the second epoch of nine steps
            raise KeyboardInterrupt
        finish(updates)
        taken.append(updates)

    with written_each_epoch(), mock.patch.object(Updates, "finish", finish_or_stop):
        status, _, err = run(*options, "--run", "parts")
    assert status == 130, err
    assert "--resume parts" in err
    rest = result_of(run, "train", "--resume", "parts", "--quiet")
    for name in ("train_elbo", "test_elbo", "ended", "epochs", "held_out_elbo", "generalization_gap"):
        assert rest[name] == whole[name], name
    curves = [histories(tmp_path / name)["diagonal"]["validation"] for name in ("whole", "parts")]
    assert curves[0] == curves[1]
    files = [tmp_path / name / "curves" / "diagonal.csv" for name in ("whole", "parts")]
    rows = [[(row["epoch"], row["elbo"], row["validation"]) for row in csv.DictReader(file.open())] for file in files]
    assert rows[0] == rows[1]
    assert len(rows[0]) == whole["epochs"]


def test_a_run_that_is_made_longer_and_one_that_is_done_again_are_the_same(run, tmp_path):
    """No schedule may hang on the length, which a rule that lowers the rate itself has not."""
    options = ("train", *FAST, *HELD_OUT, "--until", 1e-9)
    whole = result_of(run, *options, "--epochs", 4, "--run", "whole")
    result_of(run, *options, "--epochs", 2, "--run", "short")
    longer = result_of(run, "train", "--resume", "short", "--epochs", 4, "--quiet")
    for name in ("train_elbo", "test_elbo", "ended", "held_out_elbo"):
        assert longer[name] == whole[name], name
    status, out, err = run("reproduce", "whole", "--quiet", "--json")
    assert status == 0, err
    assert json.loads(out)["differing"] == []


RULES = {
    "patience": (*COMPARE, "--patience", 1, *HELD_OUT, "--epochs", 60),
    "until": ("compare", *SHARED, "--guides", "auto-normal,auto-mvn", "--until", 0.5),
}


@pytest.mark.parametrize("rule", RULES)
def test_each_training_of_a_comparison_is_watched_anew(run, tmp_path, rule):
    result_of(run, *RULES[rule], "--tracker", "csv", "--run", "a")
    found = histories(tmp_path / "a")
    assert len(found) == (3 if rule == "patience" else 2)  # the model's own training, and one for each guide
    curves = (tmp_path / "a" / "curves").iterdir()
    lengths = sorted(len(history["elbo"]) for history in found.values())
    assert sorted(len(curve.read_text().splitlines()) - 1 for curve in curves) == lengths
    for name, history in found.items():
        assert history["ended"], name
        assert not history["ended"].startswith("all "), name
        assert bool(history["validation"]) == (rule == "patience")
        assert (history["remaining"] is not None) == (rule == "until")


def test_a_network_on_a_table_waits_for_its_own_held_out_rows(run, tmp_path):
    found = result_of(run, *NETWORK, "--patience", 1, "--epochs", 400, "--tracker", "csv", "--run", "a")
    curves = histories(tmp_path / "a")
    assert [*curves] == ["start 0", "start 1"]
    for name, history in curves.items():
        assert len(history["elbo"]) < 400, name
        assert history["held_out"] == max(history["validation"])
        lines = (tmp_path / "a" / "curves" / f"{name}.csv").read_text().splitlines()
        assert len(lines) == len(history["elbo"]) + 1
    shared = result_of(run, *NETWORK, "--epochs", 2, "--validation", 0.5, "--run", "b")
    assert shared["validation_rows"] > 2 * found["validation_rows"]


def test_a_mixture_may_end_when_nothing_is_left(run, tmp_path):
    result_of(run, *MIXTURE, "--until", 0.5, "--run", "a")
    for history in histories(tmp_path / "a").values():
        assert 0 <= history["remaining"] <= 0.5


REFUSED = {
    "patience without data": ((*IMAGES, "--patience", 2), "--patience 2 waits for a held-out bound: add --validation"),
    "both rules": ((*IMAGES, "--until", 1, "--patience", 2, *HELD_OUT), "both end the training: give one of them"),
    "no nats": ((*IMAGES, "--until", 0), "--until is 0; expected nats above 0"),
    "nats that are none": ((*COMPARE, "--until", "nan"), "--until is nan; expected nats above 0"),
    "endless nats": ((*IMAGES, "--until", "inf"), "--until is inf; expected nats above 0"),
    "all of the data": ((*IMAGES, "--validation", 1), "--validation is 1; expected a share"),
    "none of the data": ((*COMPARE, "--validation", 0), "--validation is 0; expected a share"),
    "a share that is none": ((*IMAGES, "--validation", "nan"), "--validation is nan; expected a share"),
    "another tracker": ((*IMAGES, "--tracker", "wandb"), "--tracker is 'wandb'; expected csv or tensorboard"),
    "a mixture's patience": ((*MIXTURE, "--patience", 2), "--patience means nothing for a gaussian-mixture"),
    "a mixture's share": ((*MIXTURE, *HELD_OUT), "--validation means nothing for a gaussian-mixture"),
    "a network until": ((*NETWORK, "--until", 1), "--until means nothing for a mixture-density-network"),
    "a shared latent": (("train", *SHARED, *HELD_OUT), "validation"),
    "a weight": ((*IMAGES, "--until", 1, "--kl-weight", 4), "Converged judges by the ELBO alone"),
    "nothing to train": (("compare", "--from", "x", "--tracker", "csv"), "--tracker means nothing beside --from"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_means_nothing_is_refused_in_one_line(run, tmp_path, name):
    call, words = REFUSED[name]
    status, out, err = run(*call, *(() if "--from" in call else ("--epochs", 1, "--run", "a")))
    assert (status, out, err.count("\n")) == (2, "", 1), err
    assert words in err
    assert not (tmp_path / "a").exists()
