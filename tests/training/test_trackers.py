"""Trackers: what they are told, what they leave behind, and that no failure of theirs changes a training."""

import csv
import math
import subprocess
import sys
import types
import warnings
from unittest import mock

import pytest
import torch
from cut_off import Cut, cut

from ppl_vae import CSVTracker, InputError, Patience, TensorBoardTracker, best_of, fit
from ppl_vae.guides import Amortized, Diagonal
from ppl_vae.models import VAE, GaussianMixture
from ppl_vae.training.health import TrainingWarning
from ppl_vae.training.writing import locked

OBSERVED = 12


class Recording:
    """Remembers what it is told, and draws random numbers at each turn."""

    def __init__(self, fails_at=()):
        self.fails_at, self.settings, self.rows, self.ends = fails_at, None, {}, []

    def _turn(self, name):
        torch.rand(3)
        if name in self.fails_at:
            raise ConnectionError(f"no network\nat {name}")

    def start(self, settings, history):
        self.settings, self.done = dict(settings), len(history.elbo)
        self._turn("start")

    def log(self, epoch, values):
        self.rows[epoch] = dict(values)
        self._turn(epoch)

    def finish(self, history):
        self.ends.append((history.ended, history.remaining, history.generalization_gap))
        self._turn("finish")


def trained(tracker=None, **options):
    torch.manual_seed(0)
    model, guide = VAE(OBSERVED, 2, hidden=(8,)), Amortized(Diagonal(2), OBSERVED, hidden=(8,))
    x = torch.bernoulli(torch.full((40, OBSERVED), 0.3))
    options = {"epochs": 5, "batch_size": 16, "lr": 0.01, "seed": 3, "progress": False} | options
    history = fit(model, guide, x, tracker=tracker, **options)
    return history, torch.cat([leaf.detach().flatten() for leaf in (*model.parameters(), *guide.parameters())])


def rows_of(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def without_times(path):
    return [(row["epoch"], row["elbo"], row["validation"]) for row in rows_of(path)]


def test_a_tracker_is_told_of_the_settings_each_epoch_and_the_end():
    tracker = Recording()
    history, parameters = trained(tracker, validation=0.2, description="diagonal")
    assert tracker.settings == {
        "training": "diagonal",
        "model": "VAE",
        "guide": "Amortized",
        "estimator": "Trace_ELBO",
        "optimizer": "Adam",
        "learning_rate": 0.01,
        "parameters": len(parameters),
        "data_points": 32,
        "batch_size": 16,
        "epochs": 5,
        "seed": 3,
    }
    curves = zip(history.elbo, history.validation, history.seconds, strict=True)
    told = [{"elbo": elbo, "validation": held_out, "seconds": time} for elbo, held_out, time in curves]
    assert tracker.rows == dict(enumerate(told, 1))
    ((ended, remaining, gap),) = tracker.ends
    assert ended == history.ended == "all 5 epochs are done"
    assert math.isnan(remaining)
    assert gap == history.generalization_gap
    assert math.isfinite(gap)


@pytest.mark.parametrize("capture", [False, True])
@pytest.mark.parametrize("validation", [None, 0.2])
def test_a_tracker_changes_no_number(tmp_path, capture, validation):
    options = {"capture": capture, "validation": validation}
    plain, before = trained(**options)
    history, after = trained([Recording(), CSVTracker(tmp_path / "curve.csv")], **options)
    assert (history.elbo, history.validation) == (plain.elbo, plain.validation)
    assert torch.equal(after, before)


@pytest.mark.parametrize("validation", [None, 0.2])
def test_the_file_holds_the_history_to_the_last_digit(tmp_path, validation):
    path = tmp_path / "curve.csv"
    history, _ = trained(CSVTracker(path), validation=validation)
    rows = rows_of(path)
    assert [*rows[0]] == ["epoch", "elbo", "validation", "seconds"]
    assert [int(row["epoch"]) for row in rows] == [1, 2, 3, 4, 5]
    assert [float(row["elbo"]) for row in rows] == history.elbo
    assert [float(row["seconds"]) for row in rows] == history.seconds
    assert [row["validation"] for row in rows] == [repr(bound) for bound in history.validation or []] or [""] * 5


@pytest.mark.parametrize("kept", ["each epoch", "the first epoch"])
def test_the_file_of_a_training_that_goes_on_is_that_of_one_without_a_break(tmp_path, kept):
    """Where the checkpoint is older than the file, the epochs that are done again take the place of their lines."""
    whole, path = tmp_path / "whole.csv", tmp_path / "curve.csv"
    trained(CSVTracker(whole), validation=0.2)
    options = {"validation": 0.2, "checkpoint": tmp_path / "kept.safetensors"}
    rhythm = mock.patch("ppl_vae.training.checkpoints.TIMES", 0.0 if kept == "each epoch" else math.inf)
    with pytest.raises(Cut), cut(8), rhythm:  # in the fourth epoch of two steps each
        trained(CSVTracker(path), **options)
    assert without_times(path) == without_times(whole)[:3]
    tracker = Recording()
    history, _ = trained([CSVTracker(path), tracker], **options)
    assert tracker.done == (3 if kept == "each epoch" else 1)
    assert [*tracker.rows] == list(range(tracker.done + 1, 6))
    assert without_times(path) == without_times(whole)
    assert [float(row["seconds"]) for row in rows_of(path)] == history.seconds
    trained(CSVTracker(path), **options)  # of which nothing is left to do
    assert without_times(path) == without_times(whole)


SCRIPT = """
import os, sys, torch
from ppl_vae import CSVTracker, fit
from ppl_vae.guides import Amortized, Diagonal
from ppl_vae.models import VAE
x = torch.bernoulli(torch.full((40, 12), 0.3))
fit(VAE(12, 2, hidden=(8,)), Amortized(Diagonal(2), 12, hidden=(8,)), x, epochs=9, seed=0, progress=False,
    tracker=CSVTracker(sys.argv[1]), after_epoch=lambda done: done == 4 and os._exit(9))
"""


def test_a_training_that_is_killed_leaves_whole_lines(tmp_path):
    path = tmp_path / "curve.csv"
    done = subprocess.run([sys.executable, "-c", SCRIPT, str(path)], capture_output=True, timeout=120, check=False)
    assert done.returncode == 9, done.stderr[-2000:]
    assert path.read_bytes().endswith(b"\n")
    assert [row["epoch"] for row in rows_of(path)] == ["1", "2", "3", "4"]
    assert all(math.isfinite(float(row["elbo"])) for row in rows_of(path))


def test_a_tracker_that_fails_is_told_of_once_and_left_out(tmp_path):
    failing, other, place = Recording(fails_at=(2,)), Recording(), tmp_path / "kept.safetensors"
    plain, before = trained()
    with pytest.warns(UserWarning, match="tracker|Recording") as caught:
        history, after = trained([failing, other], checkpoint=place)
    (told,) = [str(warning.message) for warning in caught if "Recording" in str(warning.message)]
    assert told == (
        "the Recording failed after epoch 2 (ConnectionError: no network): the training is not changed by that"
    )
    assert [*failing.rows] == [1, 2]
    assert [*other.rows] == [1, 2, 3, 4, 5]
    assert len(failing.ends) == len(other.ends) == 1
    assert history.elbo == plain.elbo
    assert torch.equal(after, before)
    assert trained(checkpoint=place)[0].elbo == plain.elbo


def test_a_tracker_that_fails_at_the_end_is_told_of_as_well():
    failing, other = Recording(fails_at=("finish",)), Recording()
    with pytest.warns(UserWarning, match="the Recording failed at the end"):
        history, _ = trained([failing, other])
    assert len(history.elbo) == 5
    assert other.ends[0][0] == "all 5 epochs are done"


def test_a_tracker_that_can_not_start_ends_the_training_before_its_first_step(tmp_path):
    first, place = Recording(), tmp_path / "kept.safetensors"
    with cut(0) as steps, pytest.raises(InputError, match=r"the Recording can't start \(ConnectionError: no net") as it:
        trained([first, Recording(fails_at=("start",))], checkpoint=place)
    assert len(str(it.value).splitlines()) == 1
    assert not steps
    assert not place.exists()
    assert len(first.ends) == 1  # what has begun is ended


def test_a_training_that_fails_ends_its_trackers(tmp_path):
    tracker, path = Recording(), tmp_path / "curve.csv"

    def fails(done):
        if done == 3:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        trained([tracker, CSVTracker(path)], after_epoch=fails)
    assert [ended for ended, *_ in tracker.ends] == [""]
    assert len(rows_of(path)) == 3
    with locked(path, "name another file"):  # it is free again
        pass


def test_the_end_makes_up_for_lines_that_could_not_be_written(tmp_path):
    path, log = tmp_path / "curve.csv", CSVTracker.log

    def full_once(tracker, epoch, values):
        if epoch == 2:
            raise OSError("the disk is full")
        log(tracker, epoch, values)

    with mock.patch.object(CSVTracker, "log", full_once), pytest.warns(UserWarning, match="the disk is full"):
        history, _ = trained(CSVTracker(path))
    assert [float(row["elbo"]) for row in rows_of(path)] == history.elbo


@pytest.mark.parametrize("content", ["a,b\n1,2\n", "epoch,elbo\n1,2\n", "\n"])
def test_another_file_is_not_overwritten(tmp_path, content):
    path = tmp_path / "mine.csv"
    path.write_text(content)
    with pytest.raises(InputError, match=r"mine\.csv is there already, and is no training's curve: name another file"):
        trained(CSVTracker(path))
    assert path.read_text() == content


def test_a_place_that_is_none_is_refused(tmp_path):
    for given in (None, "", 3, object()):
        with pytest.raises(InputError, match="expected a path"):
            CSVTracker(given)
    with pytest.raises(InputError, match="is a folder: name a file"):
        trained(CSVTracker(tmp_path))
    path = tmp_path / "curve.csv"
    with locked(path, "name another file"), pytest.raises(InputError, match="name another file"):
        trained(CSVTracker(path))


@pytest.mark.parametrize("given", [3, "curve.csv", CSVTracker, object(), [None], {"a": 1}])
def test_what_is_no_tracker_is_refused(given):
    with pytest.raises(InputError, match=r"tracker is .*; expected a tracker with start, log and finish") as caught:
        trained(given)
    assert len(str(caught.value).splitlines()) == 1


def test_a_function_that_makes_no_tracker_is_refused():
    with pytest.raises(InputError, match=r"the function that tracker is makes None; expected a tracker"):
        trained(lambda name: None)


def test_a_file_holds_one_training(tmp_path):
    tracker = CSVTracker(tmp_path / "curve.csv")
    trained(tracker, description="one")
    with pytest.raises(
        InputError, match=r"the CSVTracker has the figures of 'one', which those of 'two' would replace"
    ):
        trained(tracker, description="two")
    x = torch.cat([torch.randn(20, 2) - 4, torch.randn(20, 2) + 4])
    best_of(
        lambda seed: GaussianMixture(2, 2).initialize(x, seed),
        x,
        **{"starts": 2, "epochs": 3, "progress": False},
        tracker=lambda name: CSVTracker(tmp_path / f"{name}.csv"),
    )
    assert [len(rows_of(tmp_path / f"start {number}.csv")) for number in (0, 1)] == [3, 3]


class Writer:
    """Stands in for TensorBoard's, which is an optional package."""

    made = ()

    def __init__(self, folder, purge_step=None):
        self.folder, self.purge_step, self.scalars, self.texts, self.flushed, self.closed = (
            folder,
            purge_step,
            [],
            {},
            0,
            0,
        )
        Writer.made = (*Writer.made, self)

    def add_scalar(self, name, value, step):
        self.scalars.append((name, value, step))

    def add_text(self, name, text, step):
        self.texts[name] = (text, step)

    def flush(self):
        self.flushed += 1

    def close(self):
        self.closed += 1


@pytest.fixture
def writers(monkeypatch):
    monkeypatch.setattr(Writer, "made", ())
    module = types.ModuleType("torch.utils.tensorboard")
    module.SummaryWriter = Writer
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)
    return lambda: Writer.made


def test_tensorboard_is_shown_each_epoch_and_the_end(tmp_path, writers):
    history, _ = trained(TensorBoardTracker(tmp_path / "events"), validation=0.2, until=Patience(None))
    (writer,) = writers()
    assert (writer.folder, writer.purge_step, writer.closed) == (str(tmp_path / "events"), 1, 1)
    assert writer.flushed >= 5
    for name in ("elbo", "validation", "seconds"):
        assert [(value, step) for at, value, step in writer.scalars if at == name] == [
            (value, number) for number, value in enumerate(getattr(history, name), 1)
        ]
    assert ("generalization_gap", history.generalization_gap, 5) in writer.scalars
    assert all(math.isfinite(value) for _, value, _ in writer.scalars)  # no rule predicts what remains
    assert "| guide | Amortized |" in writer.texts["settings"][0]
    assert writer.texts["ended"] == (history.ended, 5)


def test_tensorboard_takes_back_the_epochs_that_are_done_again(tmp_path, writers):
    options = {"checkpoint": tmp_path / "kept.safetensors"}
    with pytest.raises(Cut), cut(10):  # in the fourth epoch of three steps each
        trained(TensorBoardTracker(tmp_path / "events"), **options)
    trained(TensorBoardTracker(tmp_path / "events"), **options)
    cut_off, rest = writers()
    assert (cut_off.purge_step, rest.purge_step) == (1, 4)
    assert [step for name, _, step in rest.scalars if name == "elbo"] == [4, 5]
    assert cut_off.closed == 1
    assert "ended" not in cut_off.texts


def test_without_tensorboard_its_tracker_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(InputError, match="not installed: pip install tensorboard") as caught:
        TensorBoardTracker("events")
    assert len(str(caught.value).splitlines()) == 1


def test_the_trackers_of_the_box_warn_of_nothing(tmp_path, writers):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", TrainingWarning)
        trained([CSVTracker(tmp_path / "curve.csv"), TensorBoardTracker(tmp_path / "events")], validation=0.2)
