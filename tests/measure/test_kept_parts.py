"""A comparison that was cut off goes on from the parts that it kept, with the numbers of one without a break."""

import os

import pytest
import torch
import xarray as xr
from cut_off import OBSERVED, Cut, cut

from ppl_vae import InputError, compare
from ppl_vae.guides import Amortized, Delta, Diagonal, Full
from ppl_vae.models import VAE
from ppl_vae.training.writing import locked

OPTIONS = {"epochs": 2, "particles": 20, "batch_size": 8, "progress": False, "seed": 0}


def pictures():
    torch.manual_seed(7)
    return torch.bernoulli(torch.full((20, OBSERVED), 0.4))


def compared(folder=None, **changed):
    torch.manual_seed(0)
    families = {"diagonal": Diagonal, "a/b": Delta, "full": Full}
    guides = {name: Amortized(family(2), OBSERVED, hidden=(8,)) for name, family in families.items()}
    base = Amortized(Diagonal(2), OBSERVED, hidden=(8,))
    x = changed.pop("data", pictures())
    options = OPTIONS | {"base": None if changed.get("joint") else base} | changed
    return compare(VAE(OBSERVED, 2, hidden=(8,)), guides, x, test=x, checkpoint=folder, **options)


def figures(result):
    rows = [{key: value for key, value in vars(row).items() if key != "seconds"} for row in result.rows]
    return rows, result.evidence, [history.elbo for history in result.histories.values()]


@pytest.mark.parametrize(
    ("changed", "cut_at", "left"),
    [
        ({}, 22, 3),  # three steps an epoch, two epochs, the model and two guides before
        ({"seed": None}, 22, 3),
        ({"joint": True}, 16, 3),
        ({"split": True, "refinement": {"steps": 3}, "evidence": "annealed", "annealing": {"steps": 5}}, 22, 3),
    ],
)
def test_a_comparison_that_was_cut_off_ends_as_a_whole_one(tmp_path, changed, cut_at, left):
    whole = compared(**changed)
    with pytest.raises(Cut), cut(cut_at):
        compared(tmp_path / "kept", **changed)
    with cut(0) as taken:
        rest = compared(tmp_path / "kept", **changed)
    assert len(taken) == left
    assert repr(figures(rest)) == repr(figures(whole))  # by their digits: NaN equals NaN
    xr.testing.assert_identical(rest.bounds, whole.bounds)
    for name, pair in whole.pairs.items():
        for one, other in zip(pair, rest.pairs[name], strict=True):
            assert all(map(torch.equal, one.state_dict().values(), other.state_dict().values()))


def test_a_finished_comparison_measures_nothing_again(tmp_path, monkeypatch):
    whole = compared(tmp_path / "kept", seed=None)
    after = torch.get_rng_state()
    monkeypatch.setattr("ppl_vae.measure.side_by_side.measured_pair", lambda *_: 1 / 0)
    again = compared(tmp_path / "kept", seed=None)
    assert repr(figures(again)) == repr(figures(whole))
    assert all(one.seconds >= sum(whole.histories[one.guide].seconds) for one in again.rows)
    assert torch.equal(torch.get_rng_state(), after)
    assert sorted(os.listdir(tmp_path)) == ["kept"]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"particles": 30}, r"measured diagonal.nc is the checkpoint of another run, whose particles is 20; here"),
        ({"batch_size": 5}, r"model.pt is the checkpoint of another run, whose batch size is 8; here it is 5"),
        ({"data": 1 - pictures()}, r"model.pt is the checkpoint of another run, whose data is"),
        ({"seed": 1}, r"model.pt is the checkpoint of another run, whose seed is 0; here it is 1"),
        ({"base": None}, "guide diagonal.pt is the checkpoint of another run, whose frozen parameters is 4 of digest"),
        (
            {"evidence": "importance"},
            "evidence.nc is the checkpoint of another run, whose source of evidence is 'auto'",
        ),
    ],
)
def test_a_folder_of_other_settings_is_refused(tmp_path, changed, message):
    compared(tmp_path / "kept")
    with pytest.raises(InputError, match=message) as caught:
        compared(tmp_path / "kept", **changed)
    assert len(str(caught.value).splitlines()) == 1


def test_a_folder_in_use_and_a_damaged_measurement_are_refused(tmp_path):
    folder = tmp_path / "kept"
    with (
        locked(folder, ""),
        pytest.raises(InputError, match=r"kept is in use by another run .*: .* name another folder"),
    ):
        compared(folder)
    compared(folder)
    raw = bytearray((folder / "measured full.nc").read_bytes())
    raw[-5] ^= 1
    (folder / "measured full.nc").write_bytes(raw)
    with pytest.raises(InputError, match=r"measured full.nc is no measurement that compare has kept, or is damaged"):
        compared(folder)
