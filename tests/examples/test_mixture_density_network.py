import pytest


def test_the_mixture_lies_between_least_squares_and_the_truth(run_example):
    found = run_example("mixture_density_network", "--epochs", "400", "--starts", "1")
    assert found["squares"].mean() + 0.5 < found["mixture"].mean()
    assert found["mixture"].mean() < found["truth"] + 0.03  # the error of 10,000 points is 0.01
    assert found["enumerated"] == pytest.approx(found["train"], abs=1e-4)
    assert "no answer" in found["printed"].splitlines()[-1]
