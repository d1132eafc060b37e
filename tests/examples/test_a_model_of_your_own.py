def test_all_three_guides_are_sound_and_agree_on_log_p(run_example):
    found = run_example("a_model_of_your_own", "--epochs", "300")
    by_name = found["found"]
    gaps = {name: float(measured.gap[0]) for name, measured in by_name.items()}
    evidences = [float(measured.log_evidence[0]) for measured in by_name.values()]
    assert found["mistakes"] == []
    assert min(gaps.values()) > 0
    assert max(evidences) - min(evidences) < 0.5
    assert found["printed"].strip().splitlines()[-1].startswith("The ELBO of the guide written by hand lies")
