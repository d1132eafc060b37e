def test_the_squared_error_is_the_likelihood_up_to_a_constant(run_example):
    found = run_example("where_is_the_noise_in_the_decoder", "--epochs", "2", "--latents", "2")
    assert found["difference"] < 1e-4
    assert found["learned"]["elbo"] > found["swept"][0]["elbo"]
    assert found["printed"].strip().splitlines()[-1].startswith("The noise is in the density")
