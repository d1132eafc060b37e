def test_all_three_guides_are_sound_and_agree_on_log_p(run_example):
    found = run_example("a_model_of_your_own", "--epochs", "1000")
    by_name = found["found"]
    evidences = [float(measured.log_evidence[0]) for measured in by_name.values()]
    assert found["mistakes"] == []
    assert all(float(measured.elbo[0]) < float(measured.log_evidence[0]) + 0.05 for measured in by_name.values())
    assert max(evidences) - min(evidences) < 0.5
    assert found["printed"].strip().splitlines()[-1].startswith("The ELBO of the guide written by hand lies")
