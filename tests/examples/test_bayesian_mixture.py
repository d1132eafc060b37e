import math


def test_a_guide_with_one_mode_misses_the_logarithm_of_two(run_example):
    short = "--epochs", "1500", "--draws", "60", "--particles", "2000", "--anneal", "300"
    found = run_example("bayesian_mixture", *short)
    assert abs(found["missed"] - math.log(2)) < 0.25
    assert found["measured"]["auto-mvn"]["distance"] < 0.6
    means = found["reference"].means.values
    assert (means[..., 0] < means[..., 1]).all()
