import pytest


def test_the_mixture_lies_between_least_squares_and_the_truth(run_example):
    found = run_example("mixture_density_network", "--epochs", "400", "--starts", "1")
    assert found["squares"].mean() + 0.5 < found["mixture"].mean()
    assert found["one_gaussian"].mean() + 0.3 < found["mixture"].mean()
    assert found["mixture"].mean() < found["truth"].mean() + 0.03  # the error of 10,000 points is 0.01
    assert found["enumerated"] == pytest.approx(found["train"], abs=1e-4)
    assert found["at_average"] < 1e-6  # at y = 3 no x near the mean of the answers could have given y
    assert max(found["true_density"](float(mean)) for mean in found["means"][:, 0]) > 0.1
    assert "no answer: at y = 3" in found["printed"].splitlines()[-1]
