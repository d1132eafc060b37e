import math

import pytest

from ppl_vae import bounds


def test_the_elbo_sits_on_one_peak_and_lacks_the_other(run_example):
    found = run_example("cover_or_peak", "--epochs", "200")
    rows, log_evidence = found["rows"], found["log_evidence"]
    assert log_evidence == pytest.approx(
        float(found["quadrature"](found["model"], found["x"]).log_evidence[0]), abs=1e-4
    )
    for row in rows.values():
        assert row["ELBO"] + row["KL(q || p)"] == pytest.approx(log_evidence, abs=1e-4)

    right, left = rows["ELBO, from the right"], rows["ELBO, from the left"]
    assert right["KL(q || p)"] == pytest.approx(-math.log(found["share"]), abs=0.05)
    assert left["KL(q || p)"] == pytest.approx(-math.log(1 - found["share"]), abs=0.05)
    assert rows["KL(p || q)"]["sd"] > 5 * right["sd"]  # it covers both peaks
    assert found["peak"] == pytest.approx(found["top"], abs=0.02)

    assert right["sd"] == pytest.approx(found["spread"], rel=0.1)  # as wide as its peak
    assert found["printed"].splitlines()[-1].startswith("The entropy makes q as wide as one peak")

    # and what drawing measures is what the integrals say
    name = "ELBO, from the right"
    drawn = bounds(
        found["model"], found["guides"][name], found["x"], particles=20_000, curve=[1], seed=0, progress=False
    )
    assert abs(float(drawn.elbo[0]) - rows[name]["ELBO"]) < 4 * float(drawn.elbo_se[0])
