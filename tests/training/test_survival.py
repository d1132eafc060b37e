"""A training that is cut off or killed ends as one that never was, to the last digit.

A few set-ups of ``survivors.py`` are cut off in the middle of a step here. PPL_VAE_SOAK=N kills trainings of all of
them by SIGKILL at N random moments, each in a process of its own (``killing.py``).
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from cut_off import Cut, cut, written_each_epoch
from survivors import SELDOM, SET_UPS, trained

KILLS = int(os.environ.get("PPL_VAE_SOAK", "0"))
CHOSEN = [
    *("analytic KL", "running mean, captured", "RELAX", "graph, average baseline", "one by one, captured"),
    *("jitted, vectorized", "NAdam, double", "two rates", "clipped Adam", "captured flow", "bfloat16, captured"),
    *("batch normalization and dropout", "subsampled", "eight schools, scheduled", "numpy", "random"),
    *("own torch generator", "own old numpy generator", "loader's generator", "sampler's generator", "own sampler"),
    *("dataset's generator", "shuffled"),
]


@pytest.mark.parametrize("name", CHOSEN)
def test_a_training_that_was_cut_off_ends_as_a_whole_one(tmp_path, name):
    with cut(0) as taken:
        curve, leaves, _ = trained(name, epochs=5)
    with pytest.raises(Cut), cut(len(taken) // 2 + 1):
        trained(name, tmp_path / "kept.pt", epochs=5)
    with written_each_epoch():
        same_curve, same_leaves, _ = trained(name, tmp_path / "kept.pt", epochs=5)
    assert same_curve.tolist() == curve.tolist()
    assert all(map(torch.equal, same_leaves, leaves))


def killed(kills, names):
    script = Path(__file__).with_name("killing.py")
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, script, str(kills), str(kills), *names],
        capture_output=True, text=True, check=False, env=environment,
    )  # fmt: skip
    found = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert len(found) == len(names), done.stderr[-2000:]
    return found


def test_a_training_that_is_killed_ends_as_a_whole_one():
    (found,) = killed(2, ["own numpy generator"])
    assert found["kills"] == 2
    assert set(found["ends"]) == {"clean"}


@pytest.mark.skipif(not KILLS, reason="PPL_VAE_SOAK says how many kills")
def test_trainings_that_are_killed_at_many_moments_end_as_whole_ones():
    names = [*SET_UPS, *SELDOM]
    found = killed(-(-KILLS // len(names)), names)
    assert {one["name"]: one["ends"] for one in found if set(one["ends"]) != {"clean"}} == {}
