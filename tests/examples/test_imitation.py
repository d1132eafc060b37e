def test_a_mixture_goes_round_the_obstacle_and_a_gaussian_does_not(run_example):
    found = run_example("imitation", "--epochs", "15", "--demonstrations", "60", "--episodes", "100")
    assert found["nats"]["mixture of 4"] > found["nats"]["one Gaussian"] + 0.1
    assert found["arrivals"]["mixture of 4, draw"] > found["arrivals"]["one Gaussian, its mean"] + 0.3
    assert found["arrivals"]["mixture of 4, draw"] > found["arrivals"]["one Gaussian, draw"] + 0.1
    low, high = found["interval"](1.0, 100)
    assert 0.95 < low < high == 1.0  # an interval at 100%, too
    assert len(found["differences"]) == 60  # of demonstrations that neither policy was fitted to
    assert not found["new_states"][:60].equal(found["states"][:60])
    assert found["gained"] > 3 * found["gained_se"]
    assert f"higher by {found['gained']:.1f} ±" in found["printed"].splitlines()[-1]
