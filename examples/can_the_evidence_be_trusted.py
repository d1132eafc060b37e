"""Can an estimate of log p(x) be trusted? Four checks, each against something known.

1. Annealing against the exact log p(x) of a linear-Gaussian model with 10 latents, by its length.
2. A posterior with four modes, of which a diagonal guide covers one: importance weighting misses log 4 nats and says so
   by its k-hat, not by its standard error; annealing finds all four. Quadrature is the truth.
3. The sandwich on data that a VAE drew: log p(x) from below and from above, so its width is a certificate.
4. Coverage: how often the interval of two standard errors holds the exact value, over 100 repeated estimates.

    python examples/can_the_evidence_be_trusted.py
"""

import argparse
import math
from pathlib import Path

import numpy as np
import pyro.distributions as dist
import torch
import xarray as xr
from torch import Tensor, nn

from ppl_vae import Guide, LatentVariableModel, cooldown, fit, freeze, load, tightness
from ppl_vae.cli import results
from ppl_vae.evidence import annealed, quadrature, sandwich
from ppl_vae.guides import Amortized, Diagonal
from ppl_vae.measure.bounds import average, bounds
from ppl_vae.models import VAE, LinearGaussian
from ppl_vae.plots.gaps import annealing_curve, khat_by_image
from ppl_vae.programs import Distribution
from ppl_vae.runs.folder import begun


class Squares(LatentVariableModel):
    """z ~ N(0, I), x ~ N(z^2, scale^2): the sign of each z is lost, so two latents leave four modes."""

    def __init__(self, latent_dim: int, scale: float) -> None:
        super().__init__(latent_dim)
        self.scale = scale

    def likelihood(self, z: Tensor, *given: Tensor) -> Distribution:
        """N(z^2, scale^2), event shape (latent_dim,)."""
        return dist.Normal(z.square(), self.scale).to_event(1)


def against_exact(lengths: list[int], folder: Path) -> None:
    """Annealing on a linear-Gaussian model, longer and longer."""
    torch.manual_seed(0)
    model = freeze(LinearGaussian(20, 10, scale=0.5).double())
    x = model.generate(50)[1].sample()
    exact = model.log_evidence(x)
    print("1. annealed - exact, nats per data point (50 points, 10 latents)")
    runs = {}
    for steps in lengths:
        runs[steps] = run = annealed(model, None, x, steps=steps)
        off = average(run.log_evidence - exact.numpy(), run.log_evidence_se, run.log_evidence_bias)
        shown = results.with_error(*off)
        print(f"   {steps:5d} distributions: {shown}, acceptance {run.acceptance.mean():.2f}")
    results.save(folder / "annealing.png", annealing_curve(runs, float(exact.mean())))


def many_modes(scale: float, points: int, epochs: int, steps: int, folder: Path) -> None:
    """Importance weighting from one mode of four."""
    torch.manual_seed(0)
    model = Squares(2, scale).double()
    x = 1 + 0.1 * torch.randn(points, 2, dtype=torch.float64)
    encoder = nn.Linear(2, 4)
    with torch.no_grad():
        encoder.weight.zero_()
        encoder.bias.copy_(torch.tensor([1.0, 1.0, -2.0, -2.0]))  # near the mode where both latents are above 0
    guide = Amortized(Diagonal(2), encoder=encoder).double()
    fit(
        model,
        guide,
        x,
        epochs=epochs,
        batch_size=10,
        optimizer=lambda leaves: torch.optim.Adam(leaves, lr=1e-2),
        schedule=cooldown,
        seed=0,
        progress=False,
    )
    exact = quadrature(model, x).log_evidence.values
    weighted = tightness(model, guide, x, particles=2000)
    run = annealed(model, None, x, steps=steps, chains=64)
    bad = float((weighted.khat > weighted.attrs["khat_threshold"]).mean())
    print(f"2. four modes, likelihood's scale {scale} (log 4 = {math.log(4):.3f}), mean of {points} data points")
    off, found = float((weighted.log_evidence - exact).mean()), float((run.log_evidence - exact).mean())
    error, other = float(weighted.log_evidence_se.mean()), float(run.log_evidence_se.mean())
    print(f"   weighted - exact {off:+.3f} nats, standard error of a data point {error:.3f}; k-hat too high: {bad:.0%}")
    print(f"   annealed - exact {found:+.3f} nats, standard error of a data point {other:.3f}")
    results.save(folder / "khat.png", khat_by_image(weighted, (x - 0.7) / 0.6, (1, 2)))


def certificate(lengths: list[int], epochs: int, folder: Path) -> None:
    """Both sides of log p(x) for images that a VAE drew."""
    digits = load("digits")
    torch.manual_seed(0)
    model, guide = VAE(64, 10, hidden=(200, 200)), Amortized(Diagonal(10), 64, hidden=(200, 200))
    fit(model, guide, digits.train, transform=torch.bernoulli, epochs=epochs, schedule=cooldown, progress=False)
    freeze(model)
    print("3. sandwich of 20 images that a VAE of 10 latents drew, nats per image")
    runs = {}
    for steps in lengths:
        torch.manual_seed(1)
        _, run = sandwich(model, digits.test[:20].bernoulli(), steps=steps)
        runs[steps] = run
        lower, upper = float(run.lower.mean()), float(run.upper.mean())
        print(f"   {steps:5d} distributions: {lower:.3f} to {upper:.3f}, width {upper - lower:.3f}")
    results.save(folder / "sandwich.png", annealing_curve(runs))


def coverage(repeats: int, epochs: int) -> None:
    """How often the intervals hold the exact value."""
    torch.manual_seed(0)
    model = freeze(LinearGaussian(20, 4, scale=1.0).double())
    x = model.generate(20)[1].sample()
    exact = model.log_evidence(x).numpy()
    guide: Guide = Amortized(Diagonal(4), 20, hidden=()).double()
    fit(model, guide, x, epochs=epochs, optimizer=lambda leaves: torch.optim.Adam(leaves, lr=1e-2), progress=False)
    weighted, anneals = [], []
    for _ in range(repeats):
        found = bounds(model, guide, x, particles=1000, curve=(1000,)).isel(K=0)
        weighted.append(_held(found.iwelbo - exact, found.iwelbo_se, found.bias))
        run = annealed(model, None, x, steps=100, chains=16)
        anneals.append(_held(run.log_evidence - exact, run.log_evidence_se, run.log_evidence_bias))
    print(f"4. of {repeats} repeated estimates with an error, so many 95% intervals hold the exact value")
    for name, held in (("importance weights, K = 1000", weighted), ("annealed, 16 chains", anneals)):
        told, share = np.isfinite(held).mean(), np.nanmean(held, axis=0)
        print(
            f"   {name}: {share.mean():.1%} on average over 20 data points, {share.min():.1%} for the worst; "
            f"an error can be told for {told:.1%}"
        )


def _held(off: xr.DataArray, error: xr.DataArray, bias: xr.DataArray) -> np.ndarray:
    """1 where an interval holds the exact value, 0 where it does not, NaN where there is none."""
    inside = np.abs(off) <= 1.96 * np.hypot(error, bias)
    return inside.where(error.notnull()).values.astype(float)


def main(
    epochs: int = 200,
    scale: float = 0.35,
    points: int = 100,
    repeats: int = 100,
    longest: int = 3000,
    run: str = "",
) -> None:
    """Runs the four checks and writes the figures."""
    with begun(Path(run) if run else None, "evidence", "examples/can_the_evidence_be_trusted.py", {}) as running:
        place = running.path
        lengths = [steps for steps in (30, 100, 300, 1000, 3000) if steps <= longest]
        against_exact(lengths, place)
        many_modes(scale, points, epochs, min(200, longest), place)
        certificate(lengths, epochs, place)
        coverage(repeats, max(1, 5 * epochs // 2))
        running.finish()
    print(running.path)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=200)
    parser.add_argument("--scale", type=float, default=0.35, help="of the likelihood in check 2")
    parser.add_argument("--points", type=int, default=100, help="data points in check 2")
    parser.add_argument("--repeats", type=int, default=100)
    parser.add_argument("--longest", type=int, default=3000, help="the longest annealing")
    parser.add_argument("--run", default="", help="the folder to write, a new one in runs/ by default")
    main(**vars(parser.parse_args()))
