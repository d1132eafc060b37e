"""A training that was cut off goes on from its checkpoint and ends where one without a break ends."""

from functools import partial

import pytest
import torch
from pyro.infer import Trace_ELBO, TraceMeanField_ELBO
from torch.optim import Adam

from ppl_vae import fit
from ppl_vae.estimators import NeuralBaseline, RunningMean
from ppl_vae.guides import Amortized, Bernoulli, Diagonal
from ppl_vae.models import VAE, BernoulliVAE

OBSERVED = 12


class Cut(Exception):
    """The power is off."""


def normal():
    torch.manual_seed(0)
    return VAE(OBSERVED, 2, hidden=(8,)), Amortized(Diagonal(2), OBSERVED, hidden=(8,))


def wide():
    torch.manual_seed(0)
    return VAE(OBSERVED, 2, hidden=(9,)), Amortized(Diagonal(2), OBSERVED, hidden=(8,))


def bits():
    torch.manual_seed(0)
    return BernoulliVAE(OBSERVED, 3, hidden=(8,)), Amortized(Bernoulli(3), OBSERVED, hidden=(8,))


def halved(done):
    return 1 - done / 2


def train(make, elbo, place=None, cut_at=0, capture=False, epochs=6, rows=20, **changed):
    """Parameters and curve; cut off in the middle of a step where that is wanted."""
    model, guide = make()
    calls = iter(range(10**6))

    def transform(x):
        if cut_at and next(calls) == cut_at:
            raise Cut
        return torch.bernoulli(x)

    torch.manual_seed(5)
    grey = torch.rand(20, OBSERVED)[:rows]
    options = {"batch_size": 8, "seed": 3, "schedule": halved, **changed}
    history = fit(
        model, guide, grey, elbo(), epochs=epochs, transform=transform, progress=False, capture=capture,
        checkpoint=place, **options,
    )  # fmt: skip
    return torch.cat([leaf.detach().flatten() for leaf in (*model.parameters(), *guide.parameters())]), history


@pytest.mark.parametrize("capture", [False, True])
@pytest.mark.parametrize(
    ("make", "elbo"), [(normal, Trace_ELBO), (bits, lambda: RunningMean(2)), (bits, lambda: NeuralBaseline(2))]
)
def test_a_run_that_was_cut_off_ends_as_a_whole_one(tmp_path, make, elbo, capture):
    place = tmp_path / "deep" / "kept.pt"
    whole, curve = train(make, elbo, capture=capture)
    with pytest.raises(Cut):
        train(make, elbo, place, cut_at=11, capture=capture)  # three steps an epoch, one to find the parameters
    assert len(torch.load(place, weights_only=True)["progress"]["elbo"]) == 3
    rest, longer = train(make, elbo, place, capture=capture)
    torch.testing.assert_close(rest, whole, rtol=1e-5, atol=1e-6)
    assert longer.elbo == pytest.approx(curve.elbo, rel=1e-5)
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


OTHERS = {
    "data": ({"rows": 19}, "whose data is 20 rows that sum to .*; here it is 19 rows"),
    "batch": ({"batch_size": 4}, "whose batch size is 8; here it is 4"),
    "seed": ({"seed": 4}, "whose seed is 3; here it is 4: name another file, or go on with the same settings"),
    "estimator": ({"elbo": TraceMeanField_ELBO}, "whose estimator is Trace_ELBO with 1 particles; here it is Trace"),
    "optimizer": ({"optimizer": partial(Adam, lr=0.01)}, "whose optimizer is Adam of rate 0.001; here it is Adam of"),
    "precision": ({"precision": "bf16"}, "whose precision is float32; here it is bf16"),
    "epochs": ({"epochs": 9}, "whose number of epochs is 6, which its schedule .* runs over; here it is 9"),
    "model": ({"make": wide}, r"is the checkpoint of another model or guide \(9 tensors, here 9, or of other shapes\)"),
}


@pytest.mark.parametrize("other", OTHERS)
def test_the_checkpoint_of_another_run_is_refused(tmp_path, other):
    place = tmp_path / "kept.pt"
    first, _ = train(normal, Trace_ELBO, place)
    changed, message = OTHERS[other]
    with pytest.raises(ValueError, match=message) as caught:
        train(**({"make": normal, "elbo": Trace_ELBO, "place": place} | changed))
    assert "\n" not in str(caught.value)
    again, _ = train(normal, Trace_ELBO, place)
    assert torch.equal(first, again)


def test_fewer_epochs_than_it_holds_are_refused(tmp_path):
    place = tmp_path / "kept.pt"
    train(normal, Trace_ELBO, place, schedule=None)
    with pytest.raises(ValueError, match=r"kept.pt holds 6 epochs, more than 2: name another file"):
        train(normal, Trace_ELBO, place, schedule=None, epochs=2)


def test_what_is_no_checkpoint_is_left_as_it_is(tmp_path):
    place = tmp_path / "kept.pt"
    place.write_text("a shopping list")
    with pytest.raises(ValueError, match=r"kept.pt is no checkpoint of fit: name another file") as caught:
        train(normal, Trace_ELBO, place)
    assert "\n" not in str(caught.value)
    assert place.read_text() == "a shopping list"
    with pytest.raises(ValueError, match="is a folder: name another file"):
        train(normal, Trace_ELBO, tmp_path)
