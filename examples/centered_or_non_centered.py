# %% [markdown]
# # Which form of a hierarchy can a Gaussian guide fit, and is it biased?
#
# *"The same model, written in two ways, gives me two different answers. Which one may I believe?"*
#
# The effects of coaching in eight schools (Rubin 1981) can be written with the effects themselves as latents, the
# centered form, or with standard normal ones, the non-centered form:
#
# $$\theta_j \sim N(\mu, \tau^2) \qquad\text{or}\qquad \theta_j = \mu + \tau \, \eta_j, \quad \eta_j \sim N(0, 1)$$
#
# Both say the same of $\mu$, $\tau$ and $\theta$. But where $\tau$ is small, the centered $\theta_j$ have to be close
# to $\mu$. That is a funnel, which no guide of one width fits. Where each school's own data say much, it is the other
# way round: then they hold $\theta_j$ in place, and the centered form is the easier one (Papaspiliopoulos et al. 2007).
# Three questions tell (Yao et al. 2018):
#
# - **k-hat**: can the guide's draws be corrected by importance weights? Below about 0.7 they can, at 1 they cannot.
# - **beside NUTS**: how far are the guide's means and standard deviations off?
# - **calibration**: over data sets drawn from the model, where do the true $\mu$ and $\tau$ lie among the guide's
#   draws? The share $p$ of the draws below the truth should be 1/2 on average. Above it, the guide's draws are too low.
#
#     python examples/centered_or_non_centered.py                       # about 2 minutes
#     python examples/centered_or_non_centered.py --simulations 200     # about 15 minutes

# %%
import argparse
import sys
from pathlib import Path

from pyro.infer import Trace_ELBO

from ppl_vae import cooldown, fit, nuts, posterior, posterior_quality, simulation_based_calibration, tightness
from ppl_vae.guides import AUTOGUIDES
from ppl_vae.models import EightSchools
from ppl_vae.plots.style import PALETTE, new_figure, show, tidy

parser = argparse.ArgumentParser(description="Which form of a hierarchy can a Gaussian guide fit, and is it biased?")
parser.add_argument("--epochs", type=int, default=3000, help="steps for each guide; a fifth of them in simulations")
parser.add_argument("--simulations", type=int, default=12, help="at least 10")
parser.add_argument("--draws", type=int, default=1000, help="of each of two chains of NUTS")
parser.add_argument("--particles", type=int, default=20_000)
parser.add_argument("--figure", type=Path, default=Path("runs/centered_or_non_centered.png"))
options = parser.parse_args([] if "ipykernel" in sys.modules else None)  # a notebook has no command line

# %% [markdown]
# The reference: NUTS in the non-centered form, which has no funnel.

# %%
data = EightSchools.example_data()
forms = {"centered": EightSchools(centered=True), "non-centered": EightSchools(centered=False)}
parameters = ["mu", "tau", "theta[0]"]
length = {"draws": options.draws, "warmup": options.draws, "chains": 2}
reference = nuts(forms["non-centered"], data, **length, seed=0, progress=False)
print(f"NUTS: r-hat {reference.max_r_hat:.3f}, {reference.divergences} divergent of {2 * options.draws}")

# %% [markdown]
# Two guides for each form: `AutoNormal`, mean-field, and `AutoMultivariateNormal`.

# %%
elbo = Trace_ELBO(num_particles=10, vectorize_particles=True, max_plate_nesting=1)
measured, drawn = {}, {}
print(
    f"{'form':<14}{'guide':<13}{'ELBO, nats':>17}{'k-hat':>7}   mean (sd) of " + "".join(f"{p:<16}" for p in parameters)
)
for form, model in forms.items():
    for name in ("auto-normal", "auto-mvn"):
        guide = AUTOGUIDES[name](model)
        fit(model, guide, data, epochs=options.epochs, lr=0.05, schedule=cooldown, elbo=elbo, seed=0, progress=False)
        bound = tightness(model, guide, data, particles=options.particles, seed=1, progress=False)
        quality = posterior_quality(
            model, guide, data, reference=reference, draws=options.particles, seed=2, progress=False
        ).sel(parameter=parameters)
        measured[form, name] = bound, quality
        drawn[form, name] = posterior(model, guide, data, draws=1000, seed=3, progress=False)
        moments = (f"{m:.2f} ({s:.2f})" for m, s in zip(quality["mean"].values, quality.sd.values, strict=True))
        figures = f"{float(bound.elbo[0]):.3f} ± {float(bound.elbo_se[0]):.3f}{float(bound.khat[0]):>7.2f}"
        print(f"{form:<14}{name:<13}{figures:>24}{'':<16}" + "".join(f"{text:<16}" for text in moments))
moments = (
    f"{m:.2f} ({s:.2f})" for m, s in zip(quality.reference_mean.values, quality.reference_sd.values, strict=True)
)
print(f"{'':<14}{'NUTS':<13}{'':>40}" + "".join(f"{text:<16}" for text in moments))

# %% [markdown]
# Calibration of the mean-field guides. Some simulated schools are hundreds of points apart, and a guide of $\theta$
# itself has a long way to go, so the learning rate is higher. The p-value is that of the hypothesis of no bias.

# %%
calibrated = {}
print(f"{'form':<14}{'':<5}{'mean of p - 1/2':>18}{'p-value':>9}{'failed':>8}   of {options.simulations} simulations")
for form, model in forms.items():
    calibrated[form] = simulation_based_calibration(
        model,
        AUTOGUIDES["auto-normal"],
        data,
        simulations=options.simulations,
        seed=0,
        epochs=max(1, options.epochs // 5),
        lr=0.3,
        schedule=cooldown,
        elbo=elbo,
        progress=False,
    ).sel(parameter=["mu", "tau"])
    for one in calibrated[form].transpose("parameter", ...).parameter.values:
        row = calibrated[form].sel(parameter=one)
        skew = f"{float(row.skew):+.3f} ± {float(row.skew_se):.3f}"
        print(f"{form:<14}{one:<5}{skew:>18}{float(row.symmetry_p_value):>9.4f}{row.failed:>8}")

# %%
figure = new_figure(11, 4.4)
panels = figure.subplots(1, 2, sharex=True, sharey=True)
for axes, form in zip(panels, forms, strict=True):
    tidy(axes)
    guided = drawn[form, "auto-normal"]
    khat = float(measured[form, "auto-normal"][0].khat[0])
    axes.plot(reference.theta.values[..., 0].ravel(), reference.tau.values.ravel(), ".", color="black", markersize=2)
    axes.plot(guided.theta.values[..., 0].ravel(), guided.tau.values.ravel(), ".", color=PALETTE[0], markersize=3)
    axes.set(yscale="log", ylim=(0.05, 60), xlim=(-20, 40), xlabel="effect θ of the first school, points")
    axes.set_title(f"{form}: k-hat {khat:.2f}")
    axes.text(0.02, 0.1, "NUTS", transform=axes.transAxes)
    axes.text(0.02, 0.04, "the mean-field guide", color=PALETTE[0], transform=axes.transAxes)
panels[0].set_ylabel("spread τ of the schools, points")
show(figure, options.figure)

# %%
khats = {form: float(measured[form, "auto-normal"][0].khat[0]) for form in forms}
taus = {form: calibrated[form].sel(parameter="tau") for form in forms}
biases = {form: f"{float(tau.skew):+.2f} ± {float(tau.skew_se):.2f}" for form, tau in taus.items()}
better, worse = sorted(khats, key=lambda form: khats[form])
failed = sum(int(tau.failed) for tau in taus.values())
beside = f"{failed} simulations failed and are left out"
if not failed:
    differences = (taus[better].p - taus[worse].p).values
    difference, error = differences.mean(), differences.std(ddof=1) / len(differences) ** 0.5
    beside = f"a difference of {difference:+.2f} ± {error:.2f}; no simulation failed"
print(
    f"For these schools, whose own data say little, a mean-field guide of the {better} form has the lower k-hat: "
    f"{khats[better]:.2f} beside {khats[worse]:.2f}. Its mean of p - 1/2 for τ is {biases[better]} beside "
    f"{biases[worse]} (0 is unbiased; {beside})."
)
