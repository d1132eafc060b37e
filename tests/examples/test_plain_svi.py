def test_a_loop_over_svi_and_fit_end_at_the_same_bound(run_example):
    found = run_example("plain_svi", "--epochs", "10")
    elbos = found["elbos"]
    assert abs(elbos["SVI.step"][0] - elbos["fit"][0]) < 0.5
    for measured in (found["of_the_loop"], found["of_fit"]):
        assert float(measured.iwelbo[-1].mean()) > float(measured.elbo.mean())
    assert found["printed"].strip().splitlines()[-1].startswith("Without fit the bounds are measured as ever")
