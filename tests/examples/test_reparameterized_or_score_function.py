def test_both_variances_of_the_quadratic_are_the_known_ones(run_example):
    arguments = ("--latents", "2", "--draws", "50", "--epochs", "1")
    found = run_example("reparameterized_or_score_function", *arguments)
    for (name, distance), (value, _, _) in found["toy"].items():
        known = found["known_variances"](distance)[found["FORMS"][name]]
        assert abs(value / known - 1) < 0.2
    ratio, low, high = found["ratios"][0]
    assert 1 < low < ratio < high
    one_draw = found["interval"](float("nan"), float("nan"), 1)
    assert one_draw == "no interval can be told: more --draws"
    assert found["interval"](1.0, 2.0, 1) == "95% interval: 1.0 to 2.0"
    assert found["printed"].strip().splitlines()[-1].startswith("With 2 latents the score function's gradient")
    model, guide, x = found["model"], found["guide"], found["x"]
    whole = found["gradient_statistics"](
        model, guide, x, elbo=found["estimator"]("pathwise"), draws=50, seed=0, progress=False
    )
    of_guide = found["variance"](model, guide, "pathwise", x, 50)[0]
    assert of_guide == float(whole.sel(group="guide").variance) != float(whole.sel(group="total").variance)
