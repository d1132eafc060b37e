"""Held-out data in a training: what is measured of them, what they change of it, and the rule that stops by them."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from cut_off import Cut, train, written_each_epoch
from launching import in_one_process_and_two
from pyro.infer import Trace_ELBO
from torch.utils.data import DataLoader, TensorDataset

from ppl_vae import InputError, Patience, bounds, fit
from ppl_vae.guides import Amortized, Diagonal, PerDatapoint
from ppl_vae.models import VAE
from ppl_vae.training.held_out import split

OBSERVED = 12
STILL = 1e-30  # a learning rate that changes no parameter


def pair():
    torch.manual_seed(0)
    return VAE(OBSERVED, 2, hidden=(8,)), Amortized(Diagonal(2), OBSERVED, hidden=(8,))


def bits(rows, share=0.3, seed=0):
    drawn = torch.Generator().manual_seed(seed)
    return torch.bernoulli(torch.full((rows, OBSERVED), share), generator=drawn)


def state(*modules):
    return torch.cat([leaf.detach().flatten() for module in modules for leaf in module.parameters()])


def trained(x, **options):
    model, guide = pair()
    history = fit(model, guide, x, **({"batch_size": 16, "seed": 3, "lr": 0.02, "progress": False} | options))
    return history, state(model, guide)


@pytest.mark.parametrize("as_loader", [False, True])
def test_the_held_out_bound_is_that_of_bounds(as_loader):
    """Each point has one draw, so the error of the mean is that of a draw of each."""
    model, guide = pair()
    held_out = bits(2000, share=0.7, seed=1)
    given = DataLoader(TensorDataset(held_out), batch_size=256) if as_loader else held_out
    history = fit(model, guide, bits(200), validation=given, epochs=3, lr=0.02, seed=0, progress=False)
    measured = bounds(model, guide, held_out, particles=100, seed=0, progress=False)
    error = float((measured.elbo_se**2 * 100).sum() ** 0.5 / len(held_out))
    assert error < 0.05
    assert history.validation[-1] == history.held_out == pytest.approx(float(measured.elbo.mean()), abs=4 * error)
    assert history.validation[-1] < history.elbo[-1] - 20 * error  # they are far from the training data
    assert len(history.validation) == len(history.elbo) == 3


@pytest.mark.parametrize("capture", [False, True])
@pytest.mark.parametrize("transform", [None, torch.bernoulli])
@pytest.mark.parametrize("as_loader", [False, True])
def test_the_same_parameters_have_the_same_bound(capture, transform, as_loader):
    held_out = bits(40, seed=1) if transform is None else torch.rand(40, OBSERVED)
    if as_loader:
        held_out = DataLoader(TensorDataset(held_out), batch_size=16, shuffle=True)
    history, _ = trained(bits(40), validation=held_out, epochs=3, lr=STILL, transform=transform, capture=capture)
    assert len(set(history.elbo)) == 3
    assert len({*history.validation, history.held_out}) == 1


@pytest.mark.parametrize("capture", [False, True])
def test_the_training_is_that_without_held_out_data(capture):
    plain, before = trained(bits(40), epochs=5, capture=capture)
    history, after = trained(bits(40), epochs=5, capture=capture, validation=bits(20, seed=1))
    assert history.elbo == plain.elbo
    assert torch.equal(after, before)
    with_rule, _ = trained(bits(40), epochs=5, capture=capture, validation=bits(20, seed=1), until=Patience(None))
    assert (with_rule.elbo, with_rule.validation) == (plain.elbo, history.validation)


def test_a_share_is_taken_out_of_the_training():
    x = bits(50)
    rest, held_out = split(x, 0.2, 3)
    by_share, of_share = trained(x, validation=0.2, epochs=3)
    by_hand, of_hand = trained(rest, validation=held_out, epochs=3)
    assert by_share.size == 40
    assert by_share.validation == by_hand.validation
    assert torch.equal(of_share, of_hand)


def test_a_share_parts_the_rows_of_all_tensors_alike():
    x = torch.arange(50.0)
    (rest, rest_rows), (held_out, held_out_rows) = split((x, x * 2), 0.3, 1)
    assert sorted([*rest.tolist(), *held_out.tolist()]) == x.tolist()
    assert len(held_out) == 15
    assert torch.equal(rest * 2, rest_rows)
    assert torch.equal(held_out * 2, held_out_rows)
    assert held_out.tolist() == split(x, 0.3, 1)[1][0].tolist()
    assert held_out.tolist() != split(x, 0.3, 2)[1][0].tolist()


def shared_mean(x):
    mean = pyro.sample("mean", dist.Normal(0.0, 1.0))
    with pyro.plate("rows", len(x)):
        pyro.sample("x", dist.Normal(mean, 1.0).expand([len(x)]), obs=x[:, 0])


def mean_guide(x):
    place = pyro.param("place", torch.tensor(0.1))
    pyro.sample("mean", dist.Normal(place, 1.0))


@pytest.mark.parametrize("share", [0, 0.0, 1, 1.0, -0.1, 1.5, float("nan"), float("inf"), True, False])
def test_what_is_no_share_is_refused(share):
    with pytest.raises(InputError, match=r"validation is .*; expected held-out data, or a share .* between 0 and 1"):
        trained(bits(40), validation=share, epochs=1)


def test_what_can_not_be_held_out_is_refused():
    x = bits(40)
    rows = PerDatapoint(Diagonal(2), 40)
    of_rows = (pair()[0], rows, (x, torch.arange(40)))
    loader = DataLoader(TensorDataset(x), batch_size=16)
    cases = [
        ((shared_mean, mean_guide, x), 0.2, r"the data share a latent"),
        (of_rows, 0.2, r"PerDatapoint has parameters for each row"),
        ((*pair(), loader), 0.2, r"validation is a share, but data is a DataLoader"),
        ((*pair(), x[:2]), 0.1, r"validation is 0\.1 of 2 rows, which leaves one side without any"),
        ((*pair(), x), x[:0], r"empty"),
        ((*pair(), x), "some", r"."),
    ]
    for (model, guide, data), validation, message in cases:
        with pytest.raises(InputError, match=message) as caught:
            fit(model, guide, data, validation=validation, epochs=1, progress=False)
        assert len(str(caught.value).splitlines()) == 1


def test_a_patience_without_held_out_data_or_without_epochs_is_refused():
    with pytest.raises(InputError, match=r"Patience stops by held-out data: give validation=0\.1"):
        trained(bits(40), until=Patience(2), epochs=1)
    for epochs in (0, -1, 1.5, "2"):
        with pytest.raises(InputError, match="patience"):
            Patience(epochs)


@pytest.mark.parametrize("capture", [False, True])
def test_the_best_parameters_are_kept(capture):
    """Few rows of noise are soon overfitted."""
    model, guide = pair()
    held_out, rule = bits(30, seed=1), Patience(4)
    options = {"batch_size": 8, "lr": 0.05, "seed": 0, "progress": False, "capture": capture}
    history = fit(model, guide, bits(16), validation=held_out, until=rule, epochs=300, **options)
    assert len(history.validation) == rule.epoch + 4 < 300
    assert rule.best == max(history.validation) == history.validation[rule.epoch - 1] == history.held_out
    assert history.validation[-1] < history.held_out
    assert history.ended == (f"the held-out bound has not risen for 4 epochs: it was highest after {rule.epoch}")
    other, its_guide = pair()
    fit(other, its_guide, bits(16), epochs=rule.epoch, **options)
    assert torch.equal(state(model, guide), state(other, its_guide))


def test_a_patience_without_an_end_goes_through_all_epochs():
    rule = Patience(None)
    history, _ = trained(bits(16), validation=bits(30, seed=1), until=rule, batch_size=8, lr=0.05, epochs=90)
    assert len(history.elbo) == 90
    assert history.ended == "all 90 epochs are done"
    assert history.held_out == max(history.validation) > history.validation[-1]


def test_a_rule_forgets_the_training_before():
    """Whose held-out bound was higher, so that what is left of it would be taken for the best of the second one."""
    rule, options = Patience(3), {"lr": 0.05, "epochs": 300}
    trained(bits(16, share=0.05), validation=bits(30, share=0.05, seed=1), until=rule, **options)
    before = rule.best
    again, parameters = trained(bits(16), validation=bits(30, seed=1), until=rule, **options)
    fresh, expected = trained(bits(16), validation=bits(30, seed=1), until=Patience(3), **options)
    assert before > max(fresh.validation)
    assert (again.validation, again.ended) == (fresh.validation, fresh.ended)
    assert torch.equal(parameters, expected)


def test_the_gap_is_that_between_both_bounds():
    """Of as many training rows as there are held-out ones, which are the same here."""
    x = bits(40)
    history, _ = trained(x, validation=x, epochs=3, lr=STILL)
    assert history.generalization_gap == pytest.approx(0, abs=1e-6)
    history, _ = trained(bits(40), validation=bits(40, share=0.9, seed=1), epochs=40)
    assert history.generalization_gap > 3


@pytest.mark.parametrize("patience", [0, 2])
@pytest.mark.parametrize("cut_at", [3, 5, 8])
def test_a_training_that_was_cut_off_ends_as_a_whole_one(tmp_path, patience, cut_at):
    rule = {"until": Patience(patience)} if patience else {}
    options = {"epochs": 12, "lr": 0.1, "rows": 20, "schedule": None, "validation": 0.3} | rule
    parameters, whole = train(pair, Trace_ELBO, **options)
    assert len(whole.elbo) * 2 >= cut_at  # two steps an epoch
    place = tmp_path / "kept.safetensors"
    with pytest.raises(Cut):
        train(pair, Trace_ELBO, place, cut_at, **options)
    again, rest = train(pair, Trace_ELBO, place, **options)
    assert torch.equal(again, parameters)
    assert (rest.elbo, rest.validation, rest.ended) == (whole.elbo, whole.validation, whole.ended)
    assert (rest.held_out, rest.generalization_gap) == (whole.held_out, whole.generalization_gap)


def test_a_longer_training_goes_on_exactly(tmp_path):
    place, options = tmp_path / "kept.safetensors", {"validation": 0.3, "schedule": None, "lr": 0.01}
    parameters, whole = train(pair, Trace_ELBO, epochs=6, **options)
    train(pair, Trace_ELBO, place, epochs=2, **options)
    again, rest = train(pair, Trace_ELBO, place, epochs=6, **options)
    assert torch.equal(again, parameters)
    assert rest.validation == whole.validation
    assert rest.ended == whole.ended == "all 6 epochs are done"


def test_a_checkpoint_of_other_held_out_data_is_refused(tmp_path):
    options = {"epochs": 2, "checkpoint": tmp_path / "kept.safetensors"}
    with written_each_epoch():
        trained(bits(40), validation=bits(20, seed=1), **options)
        for other in (bits(20, seed=2), None):
            with pytest.raises(InputError, match="held-out data"):
                trained(bits(40), validation=other, **options)


SCRIPT = """
import json
import torch
from ppl_vae import Patience, fit
from ppl_vae.guides import Amortized, Diagonal
from ppl_vae.models import VAE
from ppl_vae.training import distributed

torch.set_num_threads(1)
with distributed.joined():
    torch.manual_seed(0)
    x = torch.rand(40, 12).double().round()
    model, guide = VAE(12, 3, hidden=(8,)).double(), Amortized(Diagonal(3), 12, hidden=(8,)).double()
    history = fit(model, guide, x, validation=0.4, until=Patience(3), epochs=200, batch_size=11, seed=0, lr=0.05,
                  progress=False, device="cpu")
    state = torch.cat([leaf.detach().flatten() for leaf in (*model.parameters(), *guide.parameters())])
    if distributed.rank() == 0:
        print(json.dumps([history.ended, history.validation, history.held_out, state.tolist()]), flush=True)
"""


def test_two_processes_stop_where_one_does(tmp_path):
    found = in_one_process_and_two(tmp_path, SCRIPT)
    (ended, validation, held_out, parameters), (its_end, its_validation, its_held_out, its_parameters) = found
    assert its_end == ended
    assert "has not risen for 3 epochs" in ended
    assert its_validation == pytest.approx(validation, rel=1e-9)
    assert its_held_out == pytest.approx(held_out, rel=1e-9)
    assert its_parameters == pytest.approx(parameters, rel=1e-6, abs=1e-9)
