def test_rate_and_distortion_add_up_and_no_bound_is_above_log_p(run_example):
    found = run_example("why_encode_a_variance", "--epochs", "2", "--latents", "2", "--images", "20")
    by_name = found["by_name"]
    assert list(found["rows"]) == ["delta", "prior", "unit", "fixed-scale", "diagonal", "full", "flow"]
    assert [name for name, row in by_name.items() if not row.is_bound] == ["delta"]
    for name in found["bounded"]:
        row = found["rows"][name]
        assert abs(row["elbo"] + row["rate"] + row["distortion"]) < 1e-3
        assert by_name[name].log_evidence >= row["elbo"]
    assert abs(found["rows"]["prior"]["rate"]) < 1e-6
    assert found["printed"].strip().splitlines()[-1].startswith("An encoded variance is worth")
