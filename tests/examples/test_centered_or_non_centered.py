import pytest


def test_a_mean_field_guide_fits_the_non_centered_form_better(run_example):
    short = "--epochs", "300", "--simulations", "10", "--draws", "60", "--particles", "2000"
    found = run_example("centered_or_non_centered", *short)
    assert found["khats"]["non-centered"] < found["khats"]["centered"]
    elbo = {form: float(found["measured"][form, "auto-normal"][0].elbo[0]) for form in found["forms"]}
    assert elbo["non-centered"] > elbo["centered"]
    assert float(found["reference"].mu.mean()) == pytest.approx(4.4, abs=1.5)  # as published, from long chains
    for calibrated in found["calibrated"].values():
        skew = calibrated.p.mean("simulation").values - 0.5
        assert calibrated.skew.values == pytest.approx(skew)
    assert "of the non-centered form has the lower k-hat" in found["printed"].splitlines()[-1]
