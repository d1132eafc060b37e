import math

import pytest


def test_the_images_fill_the_prior_and_the_rate_is_taken_apart(run_example):
    found = run_example("latent_manifold", "--epochs", "40")
    shares = found["shares"]
    for limit in (1.0, 2.0, 3.0):
        assert shares[limit] == pytest.approx(1 - math.exp(-(limit**2) / 2), abs=0.2)
    assert found["rate"] == pytest.approx(found["kept"] + found["left_over"], abs=1e-9)
    assert 0.5 < found["kept"] < math.log(len(found["test"]))
    assert found["printed"].strip().splitlines()[-1].startswith("They form a continuum")
