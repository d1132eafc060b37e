def test_leave_one_out_trains_better_than_the_plain_score_function(run_example):
    found = run_example("discrete_latents", "--steps", "100", "--latents", "20", "--points", "2")
    ends = found["first"]
    assert set(ends) == set(found["BITS"])
    assert ends["rloo"][2] > ends["reinforce"][2] + 3 * ends["reinforce"][3]
    assert [steps for steps, *_ in found["curves"]["linear"]["rloo"]] == [50, 100]
    assert found["printed"].strip().splitlines()[-1].startswith("Of the unbiased gradients")


def test_categories_are_trained_too(run_example):
    found = run_example("discrete_latents", "--steps", "4", "--latents", "20", "--points", "2", "--only", "categorical")
    assert "disarm" not in found["curves"]["categorical"]
