def test_gradients_get_to_the_optimum_of_em_and_no_guide_beats_the_exact_one(run_example):
    found = run_example("gaussian_mixture", "--epochs", "250", "--starts", "2")
    for covariance in ("tied", "full"):
        ours, theirs = found["likelihoods"][covariance]
        assert abs(ours - theirs) < 0.1
    gaps = found["gaps"]
    assert abs(gaps.pop("exact posterior")) < 1e-8
    assert all(gap > -1e-3 for gap in gaps.values())
    assert max(gaps, key=gaps.get) == "prior"
