"""Several starts that were cut off go on from those that were kept, with the numbers of those without a break."""

from dataclasses import replace

import pytest
import torch
from cut_off import Cut, cut

from ppl_vae import InputError, best_of
from ppl_vae.models import GaussianMixture


def data():
    torch.manual_seed(0)
    return torch.cat([torch.randn(20, 2) - 2, torch.randn(20, 2) + 2])


def started(folder=None, x=None, **changed):
    x = data() if x is None else x
    options = {"starts": 3, "epochs": 6, "batch_size": 16, "lr": 0.1, "progress": False, "checkpoint": folder}
    return best_of(lambda seed: GaussianMixture(2, 2).initialize(x, seed), x, **(options | changed))


@pytest.mark.parametrize("stopped", [{}, {"held_out": (data()[::3],), "patience": 1}])
@pytest.mark.parametrize("cut_at", [23, 35])
def test_starts_that_were_cut_off_end_as_whole_ones(tmp_path, stopped, cut_at):
    with cut(0) as all_steps:
        model, starts = started(**stopped)
    cut_at = min(cut_at, len(all_steps) - 1)
    with pytest.raises(Cut), cut(cut_at):
        started(tmp_path / "kept", **stopped)
    with cut(0) as rest:
        again, others = started(tmp_path / "kept", **stopped)
    assert len(rest) <= len(all_steps) - cut_at + 3  # the steps of the epoch that was lost are taken again
    assert [replace(start, seconds=0.0) for start in others] == [replace(start, seconds=0.0) for start in starts]
    assert all(map(torch.equal, model.state_dict().values(), again.state_dict().values()))
    with cut(0) as nothing:
        started(tmp_path / "kept", **stopped)
    assert not nothing


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"x": data() + 1}, r"start 0.pt is the checkpoint of another run, whose data is"),
        ({"patience": 2}, r"the training was begun with a patience of 1, not 2"),
        ({"held_out": (data()[1:5],)}, r"start 0.pt is the checkpoint of another run, whose held-out data is"),
        (
            {"held_out": None, "patience": None},
            r"of another run, whose held-out data is .*; here it is None",
        ),
    ],
)
def test_a_folder_of_other_settings_is_refused(tmp_path, changed, message):
    stopped = {"held_out": (data()[::3],), "patience": 1}
    started(tmp_path / "kept", **stopped)
    with pytest.raises(InputError, match=message) as caught:
        started(tmp_path / "kept", **(stopped | changed))
    assert len(str(caught.value).splitlines()) == 1
