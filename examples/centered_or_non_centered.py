"""Eight schools in two forms: the same posterior, and one of the forms defeats a Gaussian guide.

A hierarchy is written with the schools' effects as latents, theta_j ~ N(mu, tau^2) (centered), or with standard normal
ones, theta_j = mu + tau * raw_j (non-centered). Both say the same of mu, tau and theta, but where tau is small the
centered theta has to be close to mu, a funnel, which no guide of one width fits (Yao et al. 2018, section 4.2).

- k-hat: can the guide's draws be corrected by importance weights? Below about 0.7 they can, at 1 they can't.
- beside NUTS: by how much are the means and standard deviations of the guide off?
- calibration: of data sets drawn from the model, is the guide biased? For mu or tau, the share p of its draws below the
  true value should be symmetric about 1/2. A mean of p above 1/2 says that the guide's draws are too low.

    python examples/centered_or_non_centered.py
    python examples/centered_or_non_centered.py --simulations 0    # without the calibration, which takes longest
"""

import argparse
from typing import Any

import xarray as xr
from pyro.infer import Trace_ELBO

from ppl_vae import cooldown, fit, nuts, posterior, posterior_quality, simulation_based_calibration, tightness
from ppl_vae.cli import results
from ppl_vae.guides import AUTOGUIDES
from ppl_vae.models import EightSchools
from ppl_vae.plots import posterior as figures
from ppl_vae.runs.folder import begun

FORMS = {"centered": EightSchools(centered=True), "non-centered": EightSchools(centered=False)}
GUIDES = ("auto-normal", "auto-mvn")
PUBLISHED = {("centered", "auto-normal"): "1.0", ("non-centered", "auto-normal"): "0.64"}  # Yao et al. 2018
PARAMETERS = ["mu", "tau", "theta[0]"]
DATA = EightSchools.example_data()


def training(epochs: int, lr: float) -> dict[str, Any]:
    """The options of every fit: ten draws a step, and a learning rate that falls to 0 at the end."""
    elbo = Trace_ELBO(num_particles=10, vectorize_particles=True)
    return {"epochs": epochs, "lr": lr, "schedule": cooldown, "elbo": elbo}


def fitted(form: str, name: str, epochs: int) -> Any:
    """A guide, fitted to Rubin's schools."""
    guide = AUTOGUIDES[name](FORMS[form])
    fit(FORMS[form], guide, DATA, seed=0, description=f"{form}, {name}", **training(epochs, 0.05))
    return guide


def calibrated(form: str, simulations: int, epochs: int) -> xr.Dataset:
    """Where the true mu and tau of simulated schools lie among the draws of mean-field guides fitted to them."""
    # some simulated schools are hundreds of points apart: a guide of theta itself has a long way to go
    options = training(epochs, 0.3)
    return simulation_based_calibration(
        FORMS[form], AUTOGUIDES["auto-normal"], DATA, simulations=simulations, seed=0, **options
    ).sel(parameter=["mu", "tau"])


def main(epochs: int = 3000, simulations: int = 100, draws: int = 1000, particles: int = 20_000) -> None:
    """Fits two guides to either form, holds them against NUTS, calibrates, prints tables and writes figures."""
    if epochs < 10:  # a smoke run
        simulations, draws, particles = min(simulations, 10), 30, 100
    reference = nuts(FORMS["non-centered"], DATA, draws=draws, warmup=draws, chains=2, seed=0)
    good = [f"r-hat {reference.max_r_hat:.3f}", f"ESS {reference.min_ess_bulk:.0f}"]
    print(f"NUTS, non-centered: {', '.join(good)}, {reference.divergences} divergent of {2 * draws}\n")
    print(f"{'form':<14}{'guide':<13}{'ELBO, nats':>20}{'k-hat':>8}{'published':>11}   mean (sd) of ", end="")
    print("".join(f"{name:<16}" for name in PARAMETERS))
    drawn, compared = {}, {}
    for form, model in FORMS.items():
        for name in GUIDES:
            guide = fitted(form, name, epochs)
            bound = tightness(model, guide, DATA, particles=particles, seed=1)
            options: dict[str, Any] = {"draws": particles, "seed": 2}
            drawn[form, name] = posterior(model, guide, DATA, **options)
            found = posterior_quality(model, guide, DATA, reference=reference, **options)
            compared[form, name] = found
            elbo = results.with_error(float(bound.elbo[0]), float(bound.elbo_se[0]))
            row = f"{form:<14}{name:<13}{elbo:>20}{float(bound.khat[0]):>8.2f}{PUBLISHED.get((form, name), '-'):>11}"
            print(f"{row}{'':<16}" + cells(found, ""))
    print(f"{'':<14}{'NUTS':<13}{'':>55}" + cells(found, "reference_"))

    with begun(None, "centered-or-non-centered", "examples/centered_or_non_centered.py", {}) as running:
        place = running.path
        for (form, name), found in compared.items():
            figures.moments(found).savefig(place / f"moments-{form}-{name}.png", dpi=110)
            few = drawn[form, name][["mu", "tau", "theta"]]
            figures.quantiles(few, reference).savefig(place / f"quantiles-{form}-{name}.png", dpi=110)
        if simulations:
            print(f"\ncalibration of auto-normal, {simulations} simulations")
            print(f"{'form':<14}{'':<5}{'mean of p - 1/2':>20}{'p-value, symmetric':>20}{'uniform':>10}{'failed':>8}")
        for form in FORMS if simulations else ():
            result = calibrated(form, simulations, max(1, epochs // 5))
            figures.calibration_histograms(result).savefig(place / f"calibration-{form}.png", dpi=110)
            for name in result.parameter.values:
                one = result.sel(parameter=name)
                skew = results.with_error(float(one.skew), float(one.skew_se))
                tests = f"{float(one.symmetry_p_value):>20.4f}{float(one.uniformity_p_value):>10.4f}"
                print(f"{form:<14}{name:<5}{skew:>20}{tests}{result.failed:>8}")
        running.finish()
    print(running.path)


def cells(found: xr.Dataset, prefix: str) -> str:
    """Means and standard deviations of the parameters."""
    chosen = (found.sel(parameter=name) for name in PARAMETERS)
    texts = (f"{float(one[f'{prefix}mean']):.2f} ({float(one[f'{prefix}sd']):.2f})" for one in chosen)
    return "".join(f"{text:<16}" for text in texts)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=3000, help="steps for each guide; a fifth of them in simulations")
    parser.add_argument("--simulations", type=int, default=100)
    parser.add_argument("--draws", type=int, default=1000, help="of each of two chains of NUTS")
    parser.add_argument("--particles", type=int, default=20_000)
    main(**vars(parser.parse_args()))
