# %% [markdown]
# # How tight is the bound?
#
# *"Everyone says that the ELBO is a lower bound on $\log p(x)$. By how much is it lower, and would I notice?"*
#
# In a linear-Gaussian model it is known. With the posterior's precision matrix $\Lambda$ and $d$ latents, the best
# diagonal Gaussian, the best one of unit variance and the best one of full covariance leave
#
# $$\tfrac{1}{2}\Bigl(\sum_i \log \Lambda_{ii} - \log\det\Lambda\Bigr), \qquad
# \tfrac{1}{2}\bigl(\mathrm{tr}\,\Lambda - d - \log\det\Lambda\bigr), \qquad 0 \quad\text{nats;}$$
#
# flows and mixtures lie between. Each family is fitted with an encoder (amortized), refined for each data point from
# there, and fitted as a table with a row for each data point. The measured gaps stand beside the exact ones.
#
#     python examples/how_tight_is_the_bound.py    # four families, about a minute
#     python examples/how_tight_is_the_bound.py --families all --epochs 2000 --particles 2000    # about 10 minutes

# %%
import argparse
import sys
from functools import partial
from pathlib import Path

import torch
from pyro.infer import Trace_ELBO
from torch import Tensor

from ppl_vae import bounds, cosine, fit, freeze, refine
from ppl_vae.guides import FAMILIES, Amortized, ExactPosterior, Family, LowRank, PerDatapoint
from ppl_vae.measure.bounds import average
from ppl_vae.models import LinearGaussian
from ppl_vae.plots.style import PALETTE, new_figure, show, tidy
from ppl_vae.programs import Guide

parser = argparse.ArgumentParser(description="How tight is the bound?")
parser.add_argument("--families", default="unit,diagonal,full,iaf", help="diagonal, full and others, or all")
parser.add_argument("--epochs", type=int, default=500, help="steps of each training")
parser.add_argument("--particles", type=int, default=1000, help="draws of z to measure each gap with")
parser.add_argument("--figure", type=Path, default=Path("runs/how_tight_is_the_bound.png"))
options = parser.parse_args([] if "ipykernel" in sys.modules else None)  # a notebook has no command line
if options.families != "all" and not {"diagonal", "full"} <= set(options.families.split(",")):
    parser.error(f"--families {options.families} must hold diagonal and full, which the last sentence is about")

# %%
LATENT, OBSERVED, SIZE = 8, 20, 50
torch.manual_seed(0)
model = freeze(LinearGaussian(OBSERVED, LATENT, scale=0.3).double())
x = model.generate(SIZE)[1].sample()
index = torch.arange(SIZE)
precision = model.posterior_precision()
log_det = precision.logdet()
diagonal = float(precision.diagonal().log().sum() - log_det) / 2
unit = float(precision.trace() - LATENT - log_det) / 2
closed = {"unit": unit, "diagonal": diagonal, "full": 0.0, f"low-rank {LATENT}": 0.0, "exact": 0.0}


def gap(guide: Guide, *batch: Tensor) -> tuple[float, float]:
    """The mean of log p(x) - ELBO over the data points, and its Monte Carlo error."""
    found = bounds(model, guide, batch, particles=options.particles, curve=(1,), seed=1, progress=False)
    return average(model.log_evidence(x).numpy() - found.elbo, found.elbo_se)


def train(guide: Guide, *batch: Tensor, lr: float) -> None:
    """Fits a guide to the model, with all data points in each step."""
    fit(
        model,
        guide,
        batch,
        elbo=Trace_ELBO(num_particles=8, vectorize_particles=True, max_plate_nesting=1),
        optimizer=partial(torch.optim.Adam, lr=lr),
        epochs=options.epochs,
        batch_size=SIZE,
        schedule=cosine,
        capture=not isinstance(guide, PerDatapoint),  # whose gradients are sparse, which no graph holds
        seed=0,
        progress=False,
    )


# %% [markdown]
# The model's posterior mean is linear in $x$ and its covariance is the same for all data, so a linear encoder can be
# as good as a table: where the two differ, it is the training, whose learning rates and lengths differ.

# %%
chosen = [name for name, family in FAMILIES.items() if not family.discrete and name != "delta"]
families: dict[str, Family] = {
    name: FAMILIES[name](LATENT) for name in (chosen if options.families == "all" else options.families.split(","))
}
if options.families == "all":
    families[f"low-rank {LATENT}"] = LowRank(LATENT, rank=LATENT)
SOURCES = ("amortized", "refined", "table")
measured: dict[str, dict[str, tuple[float, float]]] = {}
print(f"{'family':<12}{'closed form':>13}" + "".join(f"{name:>20}" for name in SOURCES))
for name, family in families.items():
    amortized = Amortized(family, OBSERVED, hidden=()).double()
    train(amortized, x, lr=2e-2)
    steps, draws = max(1, options.epochs // 4), max(2, options.particles // 16)
    refined = refine(model, amortized, x, particles=draws, steps=steps, rounds=8, tolerance=1e-4, progress=False)
    own_family = LowRank(LATENT, LATENT) if name not in FAMILIES else FAMILIES[name](LATENT)
    table = PerDatapoint(own_family, SIZE).double()
    train(table, x, index, lr=5e-2)
    found = gap(amortized, x), gap(refined, x, index), gap(table, x, index)
    measured[name] = dict(zip(SOURCES, found, strict=True))
    exact = f"{closed[name]:.4f}" if name in closed else "-"
    cells = "".join(f"{f'{value:.4f} ± {error:.4f}':>20}" for value, error in found)
    print(f"{name:<12}{exact:>13}{cells}", flush=True)
own = gap(ExactPosterior(model), x)
print(f"{'exact':<12}{0.0:>13.4f}{f'{own[0]:.4f} ± {own[1]:.4f}':>20}")
print("(nats per data point; ±: Monte Carlo error)")

# %%
figure = new_figure(8, 1.6 + 0.55 * len(measured))
axes = tidy(figure.add_subplot())
for line, (name, by_source) in enumerate(measured.items()):
    if name in closed:
        axes.plot([closed[name]] * 2, [line - 0.35, line + 0.35], color="black", linewidth=1.5)
    for number, (source, (value, error)) in enumerate(by_source.items()):
        axes.errorbar(
            value,
            line + 0.2 * (number - 1),
            xerr=2 * error,
            fmt="o",
            color=PALETTE[number],
            label=None if line else source,
        )
axes.plot([], [], color="black", label="exact")
axes.set_yticks(range(len(measured)), list(measured))
axes.invert_yaxis()
axes.set_xscale("symlog", linthresh=0.1)
axes.set(xlabel="log p(x) - ELBO, nats per data point (bars: two Monte Carlo errors)")
figure.legend(loc="outside upper center", ncols=4, frameon=False)
show(figure, options.figure)

# %%
value, error = measured["diagonal"]["refined"]
left, left_error = measured["full"]["refined"]
print(
    f"The diagonal guide's bound is {value:.4f} ± {error:.4f} nats below log p(x), and the closed form says "
    f"{diagonal:.4f}; a full covariance leaves {left:.4f} ± {left_error:.4f}."
)
