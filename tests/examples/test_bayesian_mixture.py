def test_chains_agree_once_relabelled_and_a_guide_finds_what_they_find(run_example):
    found = run_example("bayesian_mixture", "--epochs", "500", "--draws", "50", "--particles", "1000")
    assert found["before"] > 1.4 > 1.15 > found["after"]
    assert found["measured"]["auto-mvn"]["distance"] < 0.6
    for row in found["measured"].values():
        assert row["error"] > 0
    assert found["measured"]["auto-normal"]["swapped"] == found["measured"]["auto-mvn"]["swapped"] == 0
    assert found["measured"]["auto-mvn"]["khat"] < found["khat_threshold"]  # and says nothing of the other copy
    assert abs(found["measured"]["auto-normal"]["evidence"] - found["measured"]["auto-mvn"]["evidence"]) < 0.3
    assert "does not show that" in found["printed"].splitlines()[-1]
    means = found["reference"].means.values
    assert (means[..., 0] < means[..., 1]).all()
