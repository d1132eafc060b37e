import math

import torch


def test_four_decoders_are_held_against_the_same_number(run_example):
    small = ("--epochs", "4", "--latents", "2", "--images", "5", "--steps", "5")
    found = run_example("why_not_an_autoencoder", *small)
    rows = found["rows"]
    assert all(math.isfinite(row["evidence"]) and math.isfinite(row["own"]) for row in rows.values())
    assert rows["codes to 0"]["sd"] < rows["autoencoder"]["sd"]

    torch.manual_seed(0)
    codes = 3 + 2 * torch.randn(1000, 2)
    assert abs(found["discrepancy"](torch.randn(1000, 2), torch.randn(1000, 2))) < 0.01
    assert found["discrepancy"](codes, torch.randn(1000, 2)) > 0.1

    decoder = found["pairs"]["VAE"][0]  # behind its own codes, a standardized code means that code
    own = found["OwnPrior"](decoder, codes)
    z = torch.linalg.solve_triangular(own.factor, (codes - codes.mean(0)).T, upper=False).T
    assert torch.allclose(own.likelihood(z).mean, decoder.likelihood(codes).mean, atol=1e-4)
    assert found["printed"].strip().splitlines()[-1].startswith("Held-out log p(x)")
