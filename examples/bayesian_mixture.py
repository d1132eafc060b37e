# %% [markdown]
# # Do autoguides find what NUTS finds? What is label switching?
#
# *"Two chains give me two different means of component 1, and r-hat is far above 1. Is my model broken?"*
#
# The lengths of iris petals come in two kinds. The parameters of two Gaussians get priors, and which of them a petal
# comes from is summed out:
#
# $$p(x \mid w, \mu, \sigma) = \prod_i \sum_k w_k \, N(x_i;\ \mu_k, \sigma_k^2)$$
#
# The model does not change when its components swap names, so the posterior has two equal modes, and it is chance in
# which of them a chain or a guide sits. That is label switching. The average over both says nothing of either
# component, so every draw is relabelled afterwards, the smaller mean first. A guide whose draws all have one of the two
# namings tells of half of the evidence: by the symmetry $\log 2 = 0.69$ nats less. k-hat is about the draws that there
# are, and does not see the copy without any.
#
#     python examples/bayesian_mixture.py                                # about a minute
#     python examples/bayesian_mixture.py --draws 2000 --epochs 5000     # about 4 minutes

# %%
import argparse
import sys
from functools import partial
from pathlib import Path

import numpy as np
import torch
import xarray as xr
from pyro.infer import Trace_ELBO
from pyro.infer.autoguide import AutoIAFNormal, AutoMultivariateNormal, AutoNormal, init_to_value

from ppl_vae import cooldown, fit, nuts, posterior, tightness
from ppl_vae.measure.draws import mixing
from ppl_vae.measure.posterior_quality import compare_draws
from ppl_vae.models import BayesianMixture
from ppl_vae.plots.style import colors, new_figure, show, tidy

parser = argparse.ArgumentParser(description="Do autoguides find what NUTS finds? What is label switching?")
parser.add_argument("--epochs", type=int, default=2000, help="steps for each guide")
parser.add_argument("--draws", type=int, default=500, help="of each of four chains of NUTS, after as much warmup")
parser.add_argument("--particles", type=int, default=10_000)
parser.add_argument("--figure", type=Path, default=Path("runs/bayesian_mixture.png"))
options = parser.parse_args([] if "ipykernel" in sys.modules else None)  # a notebook has no command line

# %%
model = BayesianMixture(2)
data = BayesianMixture.example_data()


def ordered(draws: xr.Dataset) -> xr.Dataset:
    """Every draw's components by the size of their means."""
    order = draws.means.values.argsort(-1)
    return draws.map(lambda value: value.copy(data=np.take_along_axis(value.values, order, -1)))


raw = nuts(model, data, draws=options.draws, warmup=options.draws, chains=4, seed=0, progress=False)
reference = ordered(raw)
before, after = raw.max_r_hat, mixing(reference)["max_r_hat"]
print(f"NUTS, four chains of {options.draws}, {raw.divergences} divergent; petal length in standard deviations")
first = raw.means.values[..., 0]  # of the component that happens to be called 1
print("its mean in each chain: " + ", ".join(f"{value:.2f}" for value in first.mean(1)))
print(f"largest r-hat: {before:.2f}, relabelled {after:.3f}")

# %% [markdown]
# Three autoguides, held against NUTS after relabelling. The distance is that of the posterior mean that is furthest
# off, in posterior standard deviations; the ratio is the smallest of the guide's standard deviations over
# those of NUTS. "Swapped" is the share of the guide's draws, before relabelling, that have the larger mean first: where
# it is 0% or 100%, the guide visits one copy, and log p(x) by its weights is that of one copy.

# %%
guides, measured = {}, {}
print(f"{'guide':<13}{'ELBO':>10}{'log p(x)':>10}{'k-hat':>7}{'swapped':>9}{'distance':>15}{'ratio':>7}")
start = init_to_value(values={"means": torch.tensor([-1.0, 1.0])})  # elsewhere one component may end up empty
makers = {
    "auto-normal": partial(AutoNormal, init_loc_fn=start),
    "auto-mvn": partial(AutoMultivariateNormal, init_loc_fn=start),
    "auto-iaf": AutoIAFNormal,
}
for name, make in makers.items():
    guide = make(model)
    elbo = Trace_ELBO(num_particles=4, vectorize_particles=True, max_plate_nesting=1)
    fit(
        model,
        guide,
        data,
        epochs=options.epochs,
        batch_size=150,
        elbo=elbo,
        lr=0.02,
        schedule=cooldown,
        seed=0,
        progress=False,
    )
    found = tightness(model, guide, data, particles=options.particles, seed=1, progress=False)
    khat_threshold = found.attrs["khat_threshold"]
    drawn = posterior(model, guide, data, draws=2000, seed=2, progress=False)
    swapped = float((drawn.means.values[..., 0] > drawn.means.values[..., 1]).mean())
    guides[name] = ordered(drawn)
    quality = compare_draws(guides[name], reference)
    furthest = int(np.abs(quality.mean_difference.values).argmax())
    distance, error = (float(abs(quality[which][furthest])) for which in ("mean_difference", "mean_difference_se"))
    measured[name] = {
        "evidence": float(found.log_evidence[0]),
        "khat": float(found.khat[0]),
        "swapped": swapped,
        "distance": distance,
        "error": error,
    }
    figures = f"{float(found.elbo[0]):>10.3f}{measured[name]['evidence']:>10.3f}{measured[name]['khat']:>7.2f}"
    away, ratio = f"{distance:.2f} ± {error:.2f}", float(np.exp(quality.log_sd_ratio.min()))
    print(f"{name:<13}{figures}{swapped:>9.1%}{away:>15}{ratio:>7.2f}")

# %%
figure = new_figure(11, 4.4)
left, right = (tidy(axes) for axes in figure.subplots(1, 2))
chains = colors(f"chain {number}" for number in range(4))
for color, chain in zip(chains.values(), first, strict=True):
    left.plot(chain, color=color, linewidth=0.7)
left.set(
    xlabel="draw", ylabel="mean of 'component 1', sd of the data", title=f"Four chains of NUTS: r-hat {before:.1f}"
)
grid = np.linspace(*np.quantile(reference.means.values[..., 0], (0.0005, 0.9995)), 21)
for name, draws in {"NUTS": reference, **guides}.items():
    values = draws.means.values[..., 0].ravel()
    heights = np.histogram(values, grid, density=True)[0]
    color = "black" if name == "NUTS" else colors(guides)[name]
    right.stairs(heights, grid, color=color, linewidth=2 if name == "NUTS" else 1.2, label=name)
right.legend(frameon=False)
right.set(xlabel="the smaller mean, sd of the data", ylabel="posterior density", title=f"Relabelled: r-hat {after:.2f}")
show(figure, options.figure)

# %%
full = measured["auto-mvn"]
if 0 < full["swapped"] < 1:
    swaps = f"It visits both copies, one in {full['swapped']:.1%} of its draws."
elif full["khat"] < khat_threshold:
    swaps = f"It visits one copy of two, and its k-hat of {full['khat']:.2f} does not show that."
else:
    swaps = f"It visits one copy of two, and its k-hat of {full['khat']:.2f} is too high to be trusted anyway."
print(
    f"Once relabelled the chains {'agree' if after < 1.05 else 'still disagree'} (r-hat {before:.2f}, then "
    f"{after:.3f}), and the means of auto-mvn lie within {full['distance']:.2f} ± {full['error']:.2f} posterior "
    f"standard deviations of those of NUTS. {swaps}"
)
