def test_chains_agree_once_relabelled_and_a_guide_finds_what_they_find(run_example):
    found = run_example("bayesian_mixture", "--epochs", "1000", "--draws", "60", "--particles", "2000")
    assert found["before"] > 1.4 > 1.15 > found["after"]
    assert found["measured"]["auto-mvn"]["distance"] < 0.6
    means = found["reference"].means.values
    assert (means[..., 0] < means[..., 1]).all()
