import torch


def test_four_decoders_are_held_against_the_same_number(run_example):
    small = ("--epochs", "4", "--latents", "2", "--images", "5", "--steps", "5")
    found = run_example("why_not_an_autoencoder", *small)
    rows = found["rows"]
    measured = [row[key] for row in rows.values() for key in ("evidence", "evidence_half", "own", "own_half")]
    assert all(values.isfinite().all() for values in measured)
    assert rows["codes to 0"]["sd"] < rows["autoencoder"]["sd"]

    torch.manual_seed(0)
    codes = 3 + 2 * torch.randn(1000, 2)
    assert abs(found["discrepancy"](torch.randn(1000, 2), torch.randn(1000, 2))) < 0.01
    assert found["discrepancy"](codes, torch.randn(1000, 2)) > 0.1

    decoder = found["pairs"]["VAE"][0]  # behind its own codes, a standardized code means that code
    own = found["OwnPrior"](decoder, codes)
    z = torch.linalg.solve_triangular(own.factor, (codes - codes.mean(0)).T, upper=False).T
    assert torch.allclose(own.likelihood(z).mean, decoder.likelihood(codes).mean, atol=1e-4)
    worse, better = torch.arange(10.0), torch.arange(10.0) + 1 + 0.1 * torch.randn(10)
    assert found["against"](better, worse).startswith("better (+")
    assert found["against"](worse, better).startswith("worse (-")
    assert found["against"](worse, worse).startswith("about as good")
    assert found["printed"].strip().splitlines()[-1].startswith("Held-out log p(x)")
