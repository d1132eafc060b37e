import math

import pytest


def test_one_mode_of_four_misses_log_4_and_annealing_finds_it(run_example):
    arguments = ("--longest", "100", "--repeats", "2", "--points", "6", "--epochs", "30", "--scales", "0.35,0.15")
    found = run_example("can_the_evidence_be_trusted", *arguments)
    for modes in found["modes"].values():
        assert abs(modes["weighted"].mean() + math.log(4)) < 0.15
        assert abs(modes["annealed"].mean()) < 0.2
    touching, apart = (found["modes"][scale]["too high"].mean() for scale in (0.35, 0.15))
    assert apart < 0.5  # so k-hat doesn't tell of the missing modes
    assert apart <= touching
    off = {steps: value for steps, (value, _) in found["off_by_length"].items()}
    assert abs(off[100]) < 0.3 < abs(off[10])
    assert all(lower < upper + 0.5 for lower, upper in found["sides"].values())
    assert found["coverage"] == pytest.approx({name: 0.95 for name in found["coverage"]}, abs=0.1)
    last = found["printed"].strip().splitlines()[-1]
    assert last.startswith("A small standard error is no proof, and a low k-hat is none")
    assert "s = 0.15" in last
