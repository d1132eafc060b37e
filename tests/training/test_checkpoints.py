"""A training that was cut off goes on from its checkpoint and ends where one without a break ends."""

import itertools
import os
import random
import re
import resource
import warnings
from functools import partial
from types import SimpleNamespace
from unittest import mock

import numpy as np
import pytest
import torch
from cut_off import OBSERVED, Cut, bits, cut, epochs_in, halved, normal, train, written_each_epoch
from pyro.infer import Trace_ELBO, TraceEnum_ELBO, TraceGraph_ELBO, TraceMeanField_ELBO
from torch.optim import SGD
from torch.utils.data import DataLoader, IterableDataset

from ppl_vae import InputError, fit
from ppl_vae.estimators import NeuralBaseline, RunningMean
from ppl_vae.guides import Amortized, Diagonal
from ppl_vae.models import VAE
from ppl_vae.training.tensor_files import read_content, write_content


@pytest.mark.parametrize("capture", [False, True])
@pytest.mark.parametrize(
    ("make", "elbo"), [(normal, Trace_ELBO), (bits, lambda: RunningMean(2)), (bits, lambda: NeuralBaseline(2))]
)
def test_a_run_that_was_cut_off_ends_as_a_whole_one(tmp_path, make, elbo, capture):
    place = tmp_path / "deep" / "kept.pt"
    whole, curve = train(make, elbo, capture=capture)
    with pytest.raises(Cut):
        train(make, elbo, place, cut_at=10, capture=capture)  # three steps an epoch
    assert len(epochs_in(place)) == 3
    rest, longer = train(make, elbo, place, capture=capture)
    assert torch.equal(rest, whole)
    assert longer.elbo == curve.elbo
    assert [path.name for path in place.parent.iterdir()] == ["kept.pt"]


def test_a_finished_run_is_not_trained_again(tmp_path):
    place = tmp_path / "kept.pt"
    first, curve = train(normal, Trace_ELBO, place)
    again, same = train(normal, Trace_ELBO, place)
    assert torch.equal(first, again)
    assert same.elbo == curve.elbo


def test_a_longer_run_goes_on(tmp_path):
    place = tmp_path / "kept.pt"
    train(normal, Trace_ELBO, place, schedule=None)
    longer, curve = train(normal, Trace_ELBO, place, epochs=8, schedule=None)
    one_go, whole = train(normal, Trace_ELBO, epochs=8, schedule=None)
    assert len(curve.seconds) == 8
    assert curve.elbo == whole.elbo
    assert torch.equal(longer, one_go)


def test_a_longer_run_goes_on_with_the_rates_of_its_own_schedule(tmp_path):
    place, rates = tmp_path / "kept.pt", []

    class Noting(SGD):
        def step(self, closure=None):
            rates.append(self.param_groups[0]["lr"])
            return super().step(closure)

    options = {"schedule": halved, "optimizer": partial(Noting, lr=0.01)}
    train(normal, Trace_ELBO, place, epochs=3, **options)
    assert rates[:2] == [0.01, 0.01 * (1 - 1 / 18)]
    words = (
        r"kept.pt holds 3 epochs with the learning rate lowered as for 3, and from here on it is lowered as for 6: the"
    )
    with pytest.warns(UserWarning, match=words):
        train(normal, Trace_ELBO, place, epochs=6, **options)
    assert rates[-9:] == [0.01 * (1 - step / 36) for step in range(9, 18)]
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "lowered as")
        train(normal, Trace_ELBO, place, epochs=6, **options)


def test_writing_takes_a_twentieth_of_the_time(tmp_path):
    """An epoch takes 5 seconds of a clock here, and writing takes 1."""
    clock, written = SimpleNamespace(now=0.0, monotonic=lambda: clock.now), []

    def tick(done):
        clock.now += 5

    def write(path, content):
        clock.now += 1
        written.append(len(content["parts"]["history"]["elbo"]))

    x = torch.ones(8, OBSERVED)
    with mock.patch.multiple("ppl_vae.training.checkpoints", time=clock, write_content=write):
        fit(*normal(), x, epochs=10, progress=False, checkpoint=tmp_path / "kept.pt", after_epoch=tick)
    assert written == [1, 5, 9, 10]


def test_short_epochs_go_together_with_a_checkpoint_too(tmp_path):
    with written_each_epoch(), mock.patch("ppl_vae.training.checkpoints.write_content") as write:
        fit(*normal(), torch.ones(8, OBSERVED), epochs=100, progress=False, checkpoint=tmp_path / "kept.pt")
    assert [len(call.args[1]["parts"]["history"]["elbo"]) for call in write.call_args_list] == [64, 100]


class Stopping:
    """Stops at a call, and remembers how many there were."""

    def __init__(self, at):
        self.at, self.calls = at, 0

    def __call__(self, done):
        self.calls += 1
        return self.calls >= self.at

    def state_dict(self):
        return {"calls": self.calls}

    def load_state_dict(self, state):
        self.calls = state["calls"]


def test_what_is_called_after_each_epoch_goes_on_too(tmp_path):
    place = tmp_path / "kept.pt"
    whole, curve = train(normal, Trace_ELBO, after_epoch=Stopping(4))
    with pytest.raises(Cut):
        train(normal, Trace_ELBO, place, cut_at=8, after_epoch=Stopping(4))
    rest, same = train(normal, Trace_ELBO, place, after_epoch=Stopping(4))
    assert torch.equal(rest, whole)
    assert same.elbo == curve.elbo
    assert len(train(normal, Trace_ELBO, place, after_epoch=Stopping(4))[1].elbo) == 4  # it is asked, and stops
    assert len(train(normal, Trace_ELBO, place, after_epoch=Stopping(6))[1].elbo) == 5  # one call was to ask it


def test_of_two_trainings_with_one_checkpoint_the_second_is_refused(tmp_path):
    place, refusals = tmp_path / "kept.pt", []

    def also(done):
        with cut(1), pytest.raises(InputError) as caught:
            train(normal, Trace_ELBO, place, cut_at=1)
        refusals.append(str(caught.value))

    train(normal, Trace_ELBO, place, epochs=1, schedule=None, after_epoch=also)
    (message,) = refusals
    assert re.search(r"kept.pt is in use by another run .*: wait until it ends, or name another file$", message)
    assert [path.name for path in tmp_path.iterdir()] == ["kept.pt"]


def test_a_place_where_nothing_can_be_written_is_refused_before_the_training(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"kept.pt can't be written .*: name another place, or make room there"):
        train(normal, Trace_ELBO, tmp_path / "file" / "kept.pt", cut_at=1)


def test_a_full_disk_ends_the_training_with_the_checkpoint_of_before(tmp_path):
    place, written = tmp_path / "kept.pt", []

    def write(path, content):
        written.append(path)
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        if len(written) == 3:
            resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
        try:
            write_content(path, content)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)

    with (
        mock.patch("ppl_vae.training.checkpoints.write_content", write),
        pytest.raises(InputError, match=r"kept.pt can't be written \(.*File too large") as caught,
    ):
        train(normal, Trace_ELBO, place)
    assert len(str(caught.value).splitlines()) == 1
    assert len(epochs_in(place)) == 2
    assert len(train(normal, Trace_ELBO, place)[1].elbo) == 6


@pytest.mark.parametrize("where", ["ppl_vae.training.tensor_files.save", "ppl_vae.training.writing.os.replace"])
def test_an_interrupt_loses_nothing_that_was_written(tmp_path, where):
    place = tmp_path / "kept.pt"
    whole, _ = train(normal, Trace_ELBO)
    with pytest.raises(Cut):
        train(normal, Trace_ELBO, place, cut_at=10)
    with mock.patch(where, side_effect=KeyboardInterrupt), pytest.raises(KeyboardInterrupt):
        train(normal, Trace_ELBO, place)
    assert len(epochs_in(place)) == 3
    assert os.listdir(tmp_path) == ["kept.pt"]
    assert torch.equal(train(normal, Trace_ELBO, place)[0], whole)


class Stream(IterableDataset):
    def __iter__(self):
        return iter(torch.ones(8, OBSERVED))

    def __len__(self):
        return 8


@pytest.mark.parametrize(
    ("loader", "message"),
    [
        (lambda: DataLoader(Stream(), batch_size=4), "the DataLoader's dataset is a stream, whose place no checkpoint"),
        (
            lambda: DataLoader(torch.ones(8, OBSERVED), batch_size=4, num_workers=1, persistent_workers=True),
            "the DataLoader's workers persist, and no checkpoint holds the random numbers",
        ),
    ],
)
def test_what_may_not_go_on_exactly_is_told_at_the_start(tmp_path, loader, message):
    with pytest.warns(UserWarning, match=f"^{message}.*: a training that goes on from .*kept.pt may not end as one"):
        fit(*normal(), loader(), epochs=1, progress=False, checkpoint=tmp_path / "kept.pt")


def test_an_iterator_that_moves_in_training_is_told(tmp_path):
    counter = itertools.count()

    def odd(x):
        return ((x + next(counter) % 2) > 0.5).float()

    with pytest.warns(UserWarning, match="^counter changes in training, which a checkpoint does not hold"):
        train(normal, Trace_ELBO, tmp_path / "kept.pt", transform=odd, epochs=2, schedule=None)


@pytest.mark.parametrize("schedule", [None, halved])
def test_nothing_else_is_told(tmp_path, schedule):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        train(normal, Trace_ELBO, tmp_path / "kept.pt", schedule=schedule)
        train(normal, Trace_ELBO, tmp_path / "kept.pt", schedule=schedule)


@pytest.mark.parametrize(
    "elbo",
    [
        lambda: Trace_ELBO(num_particles=2, vectorize_particles=True),
        lambda: TraceMeanField_ELBO(num_particles=2, vectorize_particles=True),
        lambda: TraceGraph_ELBO(num_particles=2, vectorize_particles=True),
        lambda: TraceEnum_ELBO(),
    ],
)
def test_a_resumed_run_draws_the_same_numbers_where_pyro_counts_its_plates(tmp_path, elbo):
    """Its guess runs the pair, in the first step: random numbers that a resumed run must not miss."""
    place = tmp_path / "kept.pt"
    whole, curve = train(normal, elbo)
    with pytest.raises(Cut):
        train(normal, elbo, place, cut_at=10)
    rest, longer = train(normal, elbo, place)
    assert torch.equal(rest, whole)
    assert longer.elbo == curve.elbo


def test_an_estimators_memory_is_kept_in_any_precision(tmp_path):
    place = tmp_path / "kept.pt"

    def double():
        model, guide = bits()
        return model.double(), guide.double()

    whole, _ = train(double, RunningMean, dtype=torch.float64)
    with pytest.raises(Cut):
        train(double, RunningMean, place, cut_at=10, dtype=torch.float64)
    rest, _ = train(double, RunningMean, place, dtype=torch.float64)
    assert torch.equal(rest, whole)


@pytest.mark.parametrize("draw", [np.random.rand, random.random])
def test_other_generators_go_on_too(tmp_path, draw):
    def noisy(x):
        return (x > draw()).float()

    place = tmp_path / "kept.pt"
    whole, _ = train(normal, Trace_ELBO, transform=noisy)
    train(normal, Trace_ELBO, place, transform=noisy, epochs=3, schedule=None)
    place.unlink()
    with pytest.raises(Cut):
        train(normal, Trace_ELBO, place, cut_at=10, transform=noisy)
    rest, _ = train(normal, Trace_ELBO, place, transform=noisy)
    assert torch.equal(rest, whole)


class Warming(VAE):
    """Counts its runs, as a warm-up of the KL does."""

    runs = 0

    def forward(self, x):
        self.runs += 1
        return super().forward(x)


def test_what_a_checkpoint_does_not_hold_is_told(tmp_path):
    def make():
        torch.manual_seed(0)
        return Warming(OBSERVED, 2, hidden=(8,)), Amortized(Diagonal(2), OBSERVED, hidden=(8,))

    place = tmp_path / "kept.pt"
    with pytest.warns(
        UserWarning, match="^model.runs changes in training, which a checkpoint does not hold: make it a"
    ):
        train(make, Trace_ELBO, place, schedule=None)
    with pytest.warns(UserWarning, match="^model.runs changes"):
        _, curve = train(make, Trace_ELBO, place, epochs=8, schedule=None)
    assert len(curve.elbo) == 8


def test_parameters_that_a_last_step_makes_infinite_are_found(tmp_path):
    place = tmp_path / "kept.pt"
    model, guide = normal()
    before = [leaf.detach().clone() for leaf in (*model.parameters(), *guide.parameters())]
    with pytest.raises(
        InputError, match=r"became NaN or infinite in epoch 1 \(.* of 8 parameters did\), .*: lower the"
    ) as caught:
        fit(
            model,
            guide,
            torch.ones(8, OBSERVED),
            optimizer=partial(SGD, lr=1e38),
            epochs=1,
            batch_size=8,
            progress=False,
            checkpoint=place,
        )
    assert "\n" not in str(caught.value)
    assert not place.exists()
    after = [*model.parameters(), *guide.parameters()]
    assert all(torch.equal(one, two) for one, two in zip(before, after, strict=True))


def test_after_a_failed_epoch_the_checkpoint_is_the_one_before(tmp_path):
    place = tmp_path / "kept.pt"
    train(normal, Trace_ELBO, place, epochs=2, schedule=None)
    kept = epochs_in(place)

    def wild(done):
        return 1.0 if done < 0.6 else 1e41

    place.unlink()
    with pytest.raises(InputError, match=r"became NaN or infinite|the ELBO became"):
        train(normal, Trace_ELBO, place, epochs=4, schedule=wild, optimizer=partial(SGD, lr=1e-3))
    assert len(epochs_in(place)) == len(kept)
    assert all(tensor.isfinite().all() for tensor in read_content(place, "a checkpoint")["tensors"])


def test_fewer_epochs_than_it_holds_are_refused(tmp_path):
    place = tmp_path / "kept.pt"
    train(normal, Trace_ELBO, place, schedule=None)
    with pytest.raises(ValueError, match=r"kept.pt holds 6 epochs, more than 2: name another file"):
        train(normal, Trace_ELBO, place, schedule=None, epochs=2)


def test_what_is_no_checkpoint_is_left_as_it_is(tmp_path):
    place = tmp_path / "kept.pt"
    place.write_text("a shopping list")
    with pytest.raises(ValueError, match=r"kept.pt is not a checkpoint of fit, .*: name another file") as caught:
        train(normal, Trace_ELBO, place)
    assert "\n" not in str(caught.value)
    assert place.read_text() == "a shopping list"
    with pytest.raises(ValueError, match="is a folder, expected a checkpoint of fit"):
        train(normal, Trace_ELBO, tmp_path)
