def test_both_variances_of_the_quadratic_are_the_known_ones(run_example):
    arguments = ("--latents", "2", "--draws", "50", "--epochs", "1")
    found = run_example("reparameterized_or_score_function", *arguments)
    for (name, distance), (value, _, _) in found["toy"].items():
        known = found["known_variances"](distance)[found["FORMS"][name]]
        assert abs(value / known - 1) < 0.2
    ratio, low, high = found["ratios"][0]
    assert 1 < low < ratio < high
    assert found["printed"].strip().splitlines()[-1].startswith("With 2 latents the score function's gradient")
