def test_the_parts_add_up_to_the_gap_for_both_guides_on_both_models(run_example):
    arguments = ("--epochs", "2", "--images", "4", "--latents", "2", "--anneal", "5")
    found = run_example("where_the_gap_comes_from", *arguments)
    assert len(found["bars"]) == 4
    for row in found["bars"].values():
        assert abs(row.approximation_gap + row.amortization_gap - row.gap) < 1e-6
        assert row.amortization_gap > 0
    assert found["printed"].strip().splitlines()[-1].startswith("Of the diagonal guide's gap of")
