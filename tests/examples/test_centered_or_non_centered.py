def test_a_mean_field_guide_fits_the_non_centered_form_better(run_example):
    short = "--epochs", "400", "--simulations", "10", "--draws", "100", "--particles", "4000"
    found = run_example("centered_or_non_centered", *short)
    assert found["khats"]["non-centered"] < found["khats"]["centered"]
    elbo = {form: float(found["measured"][form, "auto-normal"][0].elbo[0]) for form in found["forms"]}
    assert elbo["non-centered"] > elbo["centered"]
