def test_a_learned_scale_beats_every_fixed_one_and_the_squared_error_is_the_likelihood_up_to_a_constant(run_example):
    found = run_example("where_is_the_noise_in_the_decoder", "--epochs", "8", "--latents", "4")
    assert found["difference"] < 1e-4
    assert found["learned"]["elbo"] > max(row["elbo"] for row in found["swept"])
    assert 0.1 < found["widest"] < 1  # so that no latent pays at sigma = 1
    assert found["swept"][-1]["rate"] < 0.1 < found["learned"]["rate"]
    assert found["printed"].strip().splitlines()[-1].startswith("The noise is in the density")
