def test_a_mixture_goes_round_the_obstacle_and_a_gaussian_does_not(run_example):
    found = run_example("imitation", "--epochs", "15", "--demonstrations", "60", "--episodes", "100")
    assert found["nats"]["mixture of 4"] > found["nats"]["one Gaussian"] + 0.1
    assert found["arrivals"]["mixture of 4, draw"] > found["arrivals"]["one Gaussian, its mean"] + 0.3
    assert "at the mean of left and right" in found["printed"].splitlines()[-1]
