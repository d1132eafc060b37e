import pytest


def test_each_halving_of_the_noise_costs_one_bit_for_each_latent(run_example):
    found = run_example("what_passes_through_the_noise", "--epochs", "2", "--latents", "3")
    assert found["frozen"] == pytest.approx(found["theory"], abs=0.2)  # drawn, and by the formula
    assert found["slope"] == pytest.approx(3, abs=0.05)
    rates = [row["rate"] for row in found["swept"]]
    assert rates == sorted(rates)
    assert all(row["told"] <= found["most"] + 0.01 for row in found["swept"])
    assert found["printed"].strip().splitlines()[-1].startswith("With σ hard-coded to 1")
