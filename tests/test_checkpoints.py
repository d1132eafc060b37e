"""A training that was cut off goes on from its checkpoint and ends where one without a break ends."""

import pytest
import torch
from pyro.infer import Trace_ELBO

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


def bits():
    torch.manual_seed(0)
    return BernoulliVAE(OBSERVED, 3, hidden=(8,)), Amortized(Bernoulli(3), OBSERVED, hidden=(8,))


def train(make, elbo, place=None, cut_at=0, capture=False, epochs=6, **options):
    """Parameters and curve; cut off in the middle of a step where that is wanted."""
    model, guide = make()
    calls = iter(range(10**6))

    def transform(x):
        if cut_at and next(calls) == cut_at:
            raise Cut
        return torch.bernoulli(x)

    torch.manual_seed(5)
    grey = torch.rand(20, OBSERVED)
    history = fit(
        model, guide, grey, elbo(), epochs=epochs, batch_size=8, transform=transform, seed=3, progress=False,
        capture=capture, checkpoint=place, schedule=lambda done: 1 - done / 2, **options,
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
    train(normal, Trace_ELBO, place)
    _, curve = train(normal, Trace_ELBO, place, epochs=8)
    assert len(curve.elbo) == len(curve.seconds) == 8


def test_what_is_no_checkpoint_of_this_run_is_told_in_one_line(tmp_path):
    place = tmp_path / "kept.pt"
    place.write_text("a shopping list")
    with pytest.raises(ValueError, match=r"kept.pt is no checkpoint .*: remove it, or name another file") as caught:
        train(normal, Trace_ELBO, place)
    assert "\n" not in str(caught.value)
    assert place.read_text() == "a shopping list"
    place.unlink()
    train(normal, Trace_ELBO, place)
    with pytest.raises(ValueError, match=r"is the checkpoint of another pair or optimizer \(9 tensors, here 13"):
        train(bits, lambda: NeuralBaseline(2), place)
