# %% [markdown]
# # How do gradients compare with EM on a Gaussian mixture, and what does each guide lose?
#
# *"Can I train a mixture by gradients, as I train a VAE? And what do I lose by an encoder of the component?"*
#
# With few components, the evidence is a sum that can be taken exactly,
#
# $$\log p(x) = \log \sum_k w_k \, N(x;\ \mu_k, \Sigma_k)$$
#
# so it can be maximized by gradients, beside the EM algorithm of scikit-learn, and no guide is needed for that. The
# ELBO of any guide $q(k \mid x)$ can be held against it. On the trained mixture an encoder of $q$ is trained in three
# ways: by the exact sum over $k$, by the score function, and by the Gumbel-softmax relaxation, which is biased.
#
#     python examples/gaussian_mixture.py                                         # iris, about a minute
#     PPL_VAE_DATA=folder python examples/gaussian_mixture.py --data old-faithful --components 2
#
# The second needs R's `faithful.csv` in that folder.

# %%
import argparse
import sys
from functools import partial
from pathlib import Path

import torch
from matplotlib.patches import Ellipse
from pyro.infer import ELBO, TraceEnum_ELBO, TraceGraph_ELBO
from sklearn.mixture import GaussianMixture as EM

from ppl_vae import best_of, cooldown, fit, freeze, tightness
from ppl_vae.data.tables import load_table
from ppl_vae.estimators import GumbelSoftmax
from ppl_vae.guides import Amortized, ExactPosterior, OneHot, Prior
from ppl_vae.measure.bounds import average
from ppl_vae.models import COVARIANCES, GaussianMixture
from ppl_vae.plots.style import PALETTE, new_figure, show, tidy

parser = argparse.ArgumentParser(description="How do gradients compare with EM on a Gaussian mixture?")
parser.add_argument("--data", default="iris", help="iris, old-faithful, or a .csv file of numbers")
parser.add_argument("--components", type=int, default=3)
parser.add_argument("--epochs", type=int, default=600)
parser.add_argument("--starts", type=int, default=5)
parser.add_argument("--figure", type=Path, default=Path("runs/gaussian_mixture.png"))
options = parser.parse_args([] if "ipykernel" in sys.modules else None)  # a notebook has no command line

# %% [markdown]
# Adam and EM from as many starts each, for every kind of covariance; the best start counts. A start by gradients whose
# covariance has shrunk onto a few points (its likelihood could grow without bound) is not kept; EM keeps its best start
# whatever its covariances, and adds $10^{-6}$ to their diagonals. scikit-learn has no tied diagonal.

# %%
table = load_table(options.data)
x = table.values.double()
found, likelihoods = {}, {}
print(f"{table.name}: {len(x)} rows, {options.components} components; log likelihood in nats")
print(f"{'covariance':<15}{'gradients':>11}{'EM':>11}   every start by gradients (*: degenerate)")
for covariance in COVARIANCES:
    found[covariance], starts = best_of(
        lambda seed, kind=covariance: (
            GaussianMixture(x.shape[1], options.components, kind).double().initialize(x, seed)
        ),
        x,
        starts=options.starts,
        epochs=options.epochs,
        batch_size=len(x),
        optimizer=partial(torch.optim.Adam, lr=0.03),
        schedule=cooldown,
        progress=False,
        device="cpu",
    )
    gradients = next(start.log_likelihood for start in starts if start.kept)
    reached = float("nan")
    if covariance != "tied-diagonal":
        kind = {"diagonal": "diag"}.get(covariance, covariance)
        em = EM(
            options.components, covariance_type=kind, n_init=options.starts, random_state=0, tol=1e-6, max_iter=1000
        )
        reached = em.fit(x.numpy()).score(x.numpy()) * len(x)
    likelihoods[covariance] = gradients, reached
    others = ", ".join(f"{start.log_likelihood:.2f}{'*' if start.degenerate else ''}" for start in starts)
    beside = "-" if covariance == "tied-diagonal" else f"{reached:.3f}"
    print(f"{covariance:<15}{gradients:>11.3f}{beside:>11}   {others}")

# %% [markdown]
# Now the mixture with full covariances is frozen, and guides are fitted to it. The exact posterior has no gap. The
# prior knows nothing of x; its gap is what an encoder can win at most. An encoder can stay at a local optimum, which
# gives one component to the points of two. So each is trained from two starts, and the better one counts.

# %%
model = freeze(found["full"])
guides = {"exact posterior": ExactPosterior(model), "prior": Prior(model)}
elbos = {"exact sum": TraceEnum_ELBO(max_plate_nesting=1), "score function": TraceGraph_ELBO()}
elbos["Gumbel-softmax"] = GumbelSoftmax()


def encoder(name: str, elbo: ELBO, seed: int) -> Amortized:
    """An encoder trained from one start."""
    torch.manual_seed(seed)
    guide = Amortized(OneHot(model.components), observed_dim=x.shape[1], hidden=(32,)).double()
    guide.enumerates = name == "exact sum"
    fit(
        model,
        guide,
        x,
        elbo=elbo,
        epochs=2 * options.epochs,
        batch_size=len(x),
        optimizer=partial(torch.optim.Adam, lr=1e-2),
        schedule=cooldown,
        seed=seed,
        progress=False,
        device="cpu",
    )
    return guide


gaps, of_each_start = {}, {}
shown_gaps = {}
print(f"{'guide':<17}{'gap, nats per row':>23}   (±: Monte Carlo error)")
for name in (*guides, *elbos):
    contestants = [encoder(name, elbos[name], seed) for seed in (0, 1)] if name in elbos else [guides[name]]
    found_gaps = [tightness(model, guide, x, particles=1000, seed=1, progress=False) for guide in contestants]
    of_each_start[name] = [float(one.gap.mean()) for one in found_gaps]
    measured = min(found_gaps, key=lambda one: float(one.gap.mean()))
    gaps[name] = round(float(measured.gap.mean()), 9) + 0.0  # without a sign where it is 0
    _, error = average(measured.gap, measured.gap_se)
    shown_gaps[name] = f"{gaps[name]:.4f} ± {error:.4f}"
    starts = ", ".join(f"{value:.4f}" for value in of_each_start[name])
    print(f"{name:<17}{shown_gaps[name]:>23}" + (f"   (the starts: {starts})" if name in elbos else ""))

# %%
figure = new_figure(11, 4.4)
left, right = (tidy(axes) for axes in figure.subplots(1, 2))
shown = [x.shape[1] - 2, x.shape[1] - 1]
component = model.posterior(x).probs.argmax(-1)
for number in range(model.components):
    color = PALETTE[number % len(PALETTE)]
    left.plot(*x[component == number][:, shown].T, ".", color=color)
    mean = model.means[number][shown].tolist()
    variances, directions = torch.linalg.eigh(model.covariances[number][shown][:, shown])
    angle = float(torch.atan2(directions[1, 1], directions[0, 1]).rad2deg())
    wide, high = (4 * variances.sqrt()).flip(0).tolist()  # two standard deviations to either side
    left.add_patch(Ellipse(mean, wide, high, angle=angle, fill=False, color=color))
unit = {"iris": ", cm", "old-faithful": ", minutes"}.get(table.name, "")
across, up = (table.columns[column] + unit for column in shown)
left.set(xlabel=across, ylabel=up, title="The components, two standard deviations")
encoders = ("exact sum", "score function", "Gumbel-softmax")
right.barh(encoders, [gaps[name] for name in encoders], color=PALETTE[: len(encoders)])
right.margins(x=0.15)
for row, name in enumerate(encoders):
    right.annotate(f"{gaps[name]:.4f}", (gaps[name], row), (4, 0), textcoords="offset points", va="center")
right.invert_yaxis()
right.set(xlabel="gap log p(x) - ELBO, nats per row", title=f"What an encoder loses (the prior: {gaps['prior']:.2f})")
show(figure, options.figure)

# %%
ours, theirs = likelihoods["full"]
print(
    f"Gradients reach {ours:.3f} nats and EM {theirs:.3f}; the better of two encoders trained by the exact sum loses "
    f"{shown_gaps['exact sum']} nats per row, by the score function {shown_gaps['score function']}, by Gumbel-softmax "
    f"{shown_gaps['Gumbel-softmax']}."
)
