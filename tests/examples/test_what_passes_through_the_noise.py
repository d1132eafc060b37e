import math

import pytest


def test_each_halving_of_the_noise_costs_one_bit_for_each_latent(run_example):
    found = run_example("what_passes_through_the_noise", "--epochs", "2", "--latents", "3")
    assert found["frozen"] == pytest.approx(found["theory"], abs=0.2)  # drawn, and by the formula
    assert found["slope"] == pytest.approx(3, abs=0.05)
    rates = [row["rate"] for row in found["swept"]]
    assert rates == sorted(rates)
    by_formula = 3 * (1 - 0.375 / math.log(2))  # from 1 to 1/2, the term with the square of the noise still matters
    assert found["first"] == pytest.approx(by_formula, abs=0.2)
    assert found["said"](found["most"]).startswith("at least")
    assert found["said"](1.0) == "1.0"
    assert all(row["told"] <= found["most"] + 0.01 for row in found["swept"])
    assert found["rows"]["1"]["sd"] == pytest.approx(1, abs=0.2)  # a step is a tenth of this
    assert found["printed"].strip().splitlines()[-1].startswith("With σ hard-coded to 1")
