import math


def test_one_mode_of_four_misses_log_4_and_annealing_finds_it(run_example):
    arguments = ("--longest", "30", "--repeats", "2", "--points", "6", "--epochs", "30", "--scale", "0.25")
    found = run_example("can_the_evidence_be_trusted", *arguments)
    assert abs(found["missed"].mean() + math.log(4)) < 0.1
    assert abs(found["found_all"].mean()) < 0.2
    assert all(lower < upper + 0.5 for lower, upper in found["sides"].values())
    assert found["printed"].strip().splitlines()[-1].startswith("A small standard error is no proof")
