import torch


def test_the_mean_field_guide_is_as_far_off_as_the_closed_form_says(run_example):
    found = run_example("how_wrong_is_mean_field", "--epochs", "800", "--particles", "2000")
    assert abs(found["gaps"]["auto-normal"] - found["predicted_gap"]) < 0.15
    assert abs(found["gaps"]["auto-mvn"]) < 0.15
    assert found["shifts"]["auto-normal"].max() < 0.3
    torch.testing.assert_close(found["ratios"]["auto-normal"], found["predicted_ratio"], atol=0.05, rtol=0.1)
    assert found["predicted_gap"] > 1
