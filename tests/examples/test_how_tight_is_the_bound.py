import math


def test_a_refined_diagonal_guide_leaves_what_the_closed_form_says(run_example):
    found = run_example(
        "how_tight_is_the_bound", "--families", "unit,diagonal,full", "--epochs", "160", "--particles", "500"
    )
    value, error = found["measured"]["diagonal"]["refined"]
    assert abs(value - found["diagonal"]) < 0.02 + 4 * error
    of_unit, error_of_unit = found["measured"]["unit"]["refined"]
    assert abs(of_unit - found["closed"]["unit"]) < 0.02 + 4 * error_of_unit
    assert found["measured"]["unit"]["refined"][0] > value > found["measured"]["full"]["refined"][0]
    assert math.isclose(found["own"][0], 0, abs_tol=1e-9)
    assert found["printed"].strip().splitlines()[-1].startswith("The diagonal guide's bound is")
