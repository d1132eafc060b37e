# %% [markdown]
# # How wrong is a mean-field guide?
#
# *"I give every weight its own independent normal. What do I lose, in nats and in standard deviations?"*
#
# Where the posterior is a Gaussian $N(m, S)$, the answer is known to the digit. With the precision $L = S^{-1}$, the
# best guide with independent weights has the right means, but the standard deviations $1/\sqrt{L_{ii}}$ in place of
# $\sqrt{S_{ii}}$: each weight's spread with all the others held where they are. The best one is never too wide, and its
# gap is (Bishop 2006, section 10.1)
#
# $$\mathrm{KL}(q \,\|\, p) = \tfrac{1}{2} \Big( \sum_i \log L_{ii} - \log \det L \Big)$$
#
# The data are ten measurements of 442 diabetes patients, some of which are strongly correlated. The model is a linear
# regression, whose posterior and evidence are exact.
#
#     python examples/how_wrong_is_mean_field.py                   # about 20 seconds
#     python examples/how_wrong_is_mean_field.py --epochs 20000    # five times as many steps: the last digit

# %%
import argparse
import sys
from pathlib import Path

import torch
from pyro.infer import Trace_ELBO

from ppl_vae import bounds, fit, posterior
from ppl_vae.guides import AUTOGUIDES
from ppl_vae.models import LinearRegression
from ppl_vae.plots.style import PALETTE, new_figure, show, tidy

parser = argparse.ArgumentParser(description="How wrong is a mean-field guide?")
parser.add_argument("--epochs", type=int, default=4000, help="steps for each guide")
parser.add_argument("--particles", type=int, default=50_000, help="draws for each figure")
parser.add_argument("--figure", type=Path, default=Path("runs/how_wrong_is_mean_field.png"))
options = parser.parse_args([] if "ipykernel" in sys.modules else None)  # a notebook has no command line

# %% [markdown]
# First the prediction, from the exact posterior alone.

# %%
data = LinearRegression.example_data()
model = LinearRegression.for_data(*data)
columns = ("age", "sex", "bmi", "bp", "s1", "s2", "s3", "s4", "s5", "s6", "intercept")
covariance = model.posterior(*data).covariance_matrix.double()
precision = torch.linalg.inv(covariance)
exact = covariance.diagonal().sqrt()
predicted_ratio = precision.diagonal().rsqrt() / exact
predicted_gap = float((precision.diagonal().log().sum() - torch.logdet(precision)) / 2)
evidence = float(model.log_evidence(*data))
print(f"log p(x), exact: {evidence:.3f} nats for all the data")

# %% [markdown]
# Then Pyro's `AutoNormal`, which is mean-field, and `AutoMultivariateNormal`, whose family holds the posterior. The
# learning rate falls early: the weights must go far, and then lie within hundredths of a standard deviation.

# %%
ratios, gaps, errors, shifts = {}, {}, {}, {}
exact_mean = model.posterior(*data).mean.double()
print(f"{'guide':<13}{'ELBO':>12}{'gap, nats':>18}{'predicted':>11}")
for name, predicted in (("auto-normal", predicted_gap), ("auto-mvn", 0.0)):
    guide = AUTOGUIDES[name](model)
    fit(
        model,
        guide,
        data,
        epochs=options.epochs,
        batch_size=len(data[0]),
        elbo=Trace_ELBO(num_particles=16, vectorize_particles=True, max_plate_nesting=1),
        lr=0.1,
        schedule=lambda done: (1 - done) ** 3,
        seed=0,
        progress=False,
    )
    bound = bounds(model, guide, data, particles=options.particles, curve=[1], seed=1, progress=False)
    elbo, error = float(bound.elbo[0]), float(bound.elbo_se[0])
    gaps[name], errors[name] = evidence - elbo, error
    draws = posterior(model, guide, data, draws=options.particles, seed=2, progress=False)
    weights = torch.from_numpy(draws.weights.values[0]).double()
    ratios[name], shifts[name] = weights.std(0) / exact, (weights.mean(0) - exact_mean).abs() / exact
    print(f"{name:<13}{elbo:>12.3f}{gaps[name]:>10.3f} ± {error:.3f}{predicted:>11.3f}")

# %%
print("standard deviations over the exact ones, and how many of these the mean is off")
print(f"{'':<11}{'predicted':>10}{'auto-normal':>13}{'auto-mvn':>10}{'mean of auto-normal':>21}{'of auto-mvn':>13}")
for row, column in enumerate(columns):
    mean_field, full = (float(ratios[name][row]) for name in ("auto-normal", "auto-mvn"))
    print(f"{column:<11}{float(predicted_ratio[row]):>10.3f}{mean_field:>13.3f}{full:>10.3f}", end="")
    print(f"{float(shifts['auto-normal'][row]):>21.3f}{float(shifts['auto-mvn'][row]):>13.3f}")

figure = new_figure(8, 4.6)
axes = tidy(figure.add_subplot())
order = predicted_ratio.argsort(descending=True).tolist()
places = range(len(columns))
axes.plot(predicted_ratio[order], places, "k|", markersize=16, markeredgewidth=1.5)
axes.plot(ratios["auto-normal"][order], places, "o", color=PALETTE[0])
axes.plot(ratios["auto-mvn"][order], places, "s", color=PALETTE[1])
axes.axvline(1.0, color="black", linewidth=0.8)
top = len(columns) - 0.35
axes.text(1.01, top, "full covariance", color=PALETTE[1], ha="left")
axes.text(0.97, top, "exact", ha="right")
last = float(ratios["auto-normal"][order[-1]])
axes.text(last + 0.03, len(columns) - 1, "mean-field (bar: predicted)", color=PALETTE[0], va="center")
axes.set_yticks(places, [columns[row] for row in order])
axes.set(xlim=(0, 1.25), ylim=(-0.6, len(columns) + 0.1), xlabel="standard deviation of the guide / the exact one")
show(figure, options.figure)

# %%
narrowest = int(ratios["auto-normal"].argmin())
print(
    f"Mean-field loses {gaps['auto-normal']:.2f} ± {errors['auto-normal']:.2f} nats (predicted: {predicted_gap:.2f}), "
    f"and its standard deviation of {columns[narrowest]} is {float(ratios['auto-normal'][narrowest]):.1%} of the exact "
    f"one (predicted: {float(predicted_ratio[narrowest]):.1%}); no mean is off by more than "
    f"{float(shifts['auto-normal'].max()):.2f} standard deviations."
)
