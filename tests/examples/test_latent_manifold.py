import math

import pytest


@pytest.fixture
def found(run_example):
    return run_example("latent_manifold", "--epochs", "20")


def test_the_aggregate_posterior_reaches_about_as_far_as_the_prior(found):
    shares = found["shares"]
    for limit in (1.0, 2.0, 3.0):
        assert shares[limit] == pytest.approx(1 - math.exp(-(limit**2) / 2), abs=0.15)
    assert shares[0.5] < shares[1.0] < shares[2.0] < shares[3.0] <= shares[4.0]
    assert found["printed"].strip().splitlines()[-1].startswith("They form a continuum")


def test_the_rate_is_mutual_information_and_the_kl_of_the_aggregate_posterior(found):
    assert found["rate"] == pytest.approx(found["kept"] + found["left_over"], abs=1e-9)
    assert 0.5 < found["kept"] < math.log(len(found["test"]))
