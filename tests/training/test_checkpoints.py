"""A training that was cut off goes on from its checkpoint and ends where one without a break ends."""

import random
from functools import partial

import numpy as np
import pytest
import torch
from cut_off import OBSERVED, Cut, bits, epochs_in, normal, train
from pyro.infer import Trace_ELBO, TraceEnum_ELBO, TraceGraph_ELBO, TraceMeanField_ELBO
from torch.optim import SGD

from ppl_vae import InputError, fit
from ppl_vae.estimators import NeuralBaseline, RunningMean
from ppl_vae.guides import Amortized, Diagonal
from ppl_vae.models import VAE
from ppl_vae.training.tensor_files import read_content


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
    _, curve = train(normal, Trace_ELBO, place, epochs=8, schedule=None)
    _, whole = train(normal, Trace_ELBO, epochs=8, schedule=None)
    assert len(curve.seconds) == 8
    assert curve.elbo == pytest.approx(whole.elbo, rel=1e-5)


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
