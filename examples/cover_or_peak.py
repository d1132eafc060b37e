# %% [markdown]
# # Cover or peak: what does the entropy term do?
#
# *"To maximize the first term, $z$ will want to sit under the most likely point. But since we added entropy, $z$ now
# tries to cover it. Can we measure how good our approximation is?"*
#
# The ELBO is two terms, and what it lacks to $\log p(x)$ is a divergence:
#
# $$\log p(x) = \underbrace{\mathbb E_q[\log p(x, z)] + H(q)}_{\text{ELBO}} + \mathrm{KL}(q(z) \,\|\, p(z \mid x))$$
#
# The first term alone is largest for a point mass under the peak; the entropy spreads it. But does $q$ then *cover*
# the posterior? Here is a posterior with two peaks that one can see, of one latent, so that every term is an integral
# on a grid: $z \sim \mathcal N(0, 1)$ and $x \sim \mathcal N(z^2 + z / 4,\, 0.4^2)$, with $x = 2$ observed. A point
# mass, two Gaussians that climb the ELBO from either side, one Gaussian fitted by the divergence the other way round,
# $\mathrm{KL}(p \,\|\, q)$, and a spline flow, which may have two peaks.
#
#     python examples/cover_or_peak.py            # about 20 seconds; there is no larger form

# %%
import argparse
import math
import sys
from pathlib import Path

import pyro
import pyro.distributions as dist
import torch
from pyro.infer import ELBO, ReweightedWakeSleep, Trace_ELBO
from torch import Tensor

from ppl_vae import LatentVariableModel, fit
from ppl_vae.evidence import quadrature
from ppl_vae.guides import NSF, Amortized, Delta, Diagonal, Family
from ppl_vae.plots.style import PALETTE, new_figure, show, tidy

parser = argparse.ArgumentParser(description="Cover or peak: what does the entropy term do?")
parser.add_argument("--epochs", type=int, default=1000, help="steps for each guide")
parser.add_argument("--figure", type=Path, default=Path("runs/cover_or_peak.png"))
options = parser.parse_args([] if "ipykernel" in sys.modules else None)  # a notebook has no command line


class TwoPeaks(LatentVariableModel):
    """Only the square of z and a little of z itself are seen, so that a positive and a negative z explain x."""

    def likelihood(self, z: Tensor, *given: Tensor) -> dist.TorchDistribution:
        """The density of x, which has one pixel."""
        return dist.Normal(z.square() + z / 4, 0.4).to_event(1)


model, x = TwoPeaks(latent_dim=1), torch.tensor([[2.0]])
grid = torch.linspace(-8, 8, 16001, dtype=torch.float64)[:, None]
width = float(grid[1] - grid[0])
log_joint = model.prior().log_prob(grid) + model.likelihood(grid).log_prob(x.double())
log_evidence = float(log_joint.logsumexp(0)) + math.log(width)
posterior = (log_joint - log_evidence).exp()
share = float(posterior[grid[:, 0] > 0].sum() * width)
print(
    f"log p(x) = {log_evidence:.6f} nats by this grid, "
    f"{float(quadrature(model, x).log_evidence[0]):.6f} by quadrature(model, x)"
)
print(f"the positive peak holds {share:.1%} of the posterior")

# %% [markdown]
# An encoder that sees a single data point is a row of numbers, and a layer without hidden units is enough. What differs
# is the family, the start, and what is climbed: `Trace_ELBO` for $\mathrm{KL}(q \,\|\, p)$, Pyro's
# `ReweightedWakeSleep` for $\mathrm{KL}(p \,\|\, q)$, whose gradient it takes by importance weights.


# %%
def fitted(family: Family, elbo: ELBO, mean: float = 0.0, raw_scale: float = 0.0) -> Amortized:
    """A guide for this x, from a mean and a scale (before softplus) of our choice."""
    pyro.set_rng_seed(0)
    encoder = torch.nn.Linear(1, family.num_params)
    with torch.no_grad():
        encoder.weight.mul_(0.01)
        encoder.bias.zero_()[:2] += torch.tensor([mean, raw_scale])[: family.num_params]
    guide = Amortized(family, encoder=encoder)
    how = {"epochs": options.epochs, "lr": 0.02, "schedule": lambda done: 1 - done, "seed": 0, "progress": False}
    fit(model, guide, x, elbo=elbo, **how)
    return guide


def climb() -> ELBO:
    """The ELBO, by 32 draws: its gap is KL(q || p)."""
    return Trace_ELBO(num_particles=32, vectorize_particles=True, max_plate_nesting=1)


other_way = ReweightedWakeSleep(num_particles=256, vectorize_particles=True, max_plate_nesting=1, insomnia=1.0)
guides = {
    "point mass": fitted(Delta(1), climb(), 1.0),
    "ELBO, from the right": fitted(Diagonal(1), climb(), 1.0, -2.0),
    "ELBO, from the left": fitted(Diagonal(1), climb(), -1.0, -2.0),
    "KL(p || q)": fitted(Diagonal(1), other_way),
    "ELBO, a spline flow": fitted(NSF(1), climb()),
    "KL(p || q), a flow": fitted(NSF(1), other_way),
}


# %%
def integral(values: Tensor) -> float:
    """The sum over the grid; where a density underflows to 0, 0 log 0 is 0."""
    return float(values.nan_to_num(0.0).sum()) * width


@torch.no_grad()
def terms(guide: Amortized) -> dict[str, float]:
    """The terms of the ELBO and both divergences, each an integral by itself, and q's mean and standard deviation."""
    q = guide.posterior(x)
    log_q = q.log_prob(grid.float()[:, None])[:, 0].double()
    log_q = log_q - math.log(integral(log_q.exp()))  # what float32 leaves
    density, log_posterior = log_q.exp(), log_joint - log_evidence
    mean = integral(density * grid[:, 0])
    found = {
        "mean": mean,
        "sd": math.sqrt(integral(density * (grid[:, 0] - mean).square())),
        "E log p(x, z)": integral(density * log_joint),
        "entropy": integral(-density * log_q),
        "KL(q || p)": integral(density * (log_q - log_posterior)),
        "KL(p || q)": integral(posterior * (log_posterior - log_q)),
    }
    return found | {"ELBO": found["E log p(x, z)"] + found["entropy"]}


peak = float(guides["point mass"].posterior(x)().detach())
top = float(grid[log_joint.argmax()])
print(f"the point mass has moved to z = {peak:.3f}; log p(x, z) is highest at {top:.3f}")
rows = {name: terms(guide) for name, guide in guides.items() if name != "point mass"}
print(f"{'':>21}" + "".join(f"{name:>15}" for name in next(iter(rows.values()))))
for name, row in rows.items():
    print(f"{name:>21}" + "".join(f"{value:>15.4f}" for value in row.values()))
worst = max(abs(row["ELBO"] + row["KL(q || p)"] - log_evidence) for row in rows.values())
print(f"log p(x) = ELBO + KL(q || p) in each row, to {worst:.0e} nats")

# %% [markdown]
# To the left, what each guide makes of the two peaks. To the right, a Gaussian under the higher peak becomes wider:
# the first term alone wants it narrow, the entropy wants it wide, and their sum is highest at the width of that peak.
# The distance left to $\log p(x)$ is what the other peak costs: a $q$ that equals the posterior on a share $w$ of it,
# and is 0 elsewhere, lacks only $-\ln w$ nats.

# %%
figure = new_figure(11, 4.6)
left, right = (tidy(axes) for axes in figure.subplots(1, 2))
z = grid[:, 0]
left.fill_between(z, posterior, color="0.88")
left.plot(z, posterior, color="black", linewidth=1)
for number, name in enumerate(drawn := ("ELBO, from the right", "ELBO, from the left", "KL(p || q)")):
    with torch.no_grad():
        left.plot(z, guides[name].posterior(x).log_prob(grid.float()[:, None])[:, 0].exp(), color=PALETTE[number])
left.plot([peak, peak], [0, 3.2], color=PALETTE[4], linewidth=2)
left.text(peak + 0.06, 3.2, "point mass", color=PALETTE[4], va="top")
left.text(rows[drawn[0]]["mean"] + 0.25, 2.4, "ELBO,\nfrom the right", color=PALETTE[0])
left.text(rows[drawn[1]]["mean"] - 0.25, 2.4, "ELBO,\nfrom the left", color=PALETTE[1], ha="right")
left.text(0, 0.36, "KL(p || q)", color=PALETTE[2], ha="center")
left.text(rows[drawn[0]]["mean"] + 0.28, 1.0, "posterior", color="black")
left.set(xlim=(-3, 3), ylim=(0, 3.4), xlabel="z", ylabel="density")
left.set_title("What covers, what peaks", loc="left")

scales = torch.logspace(-1.7, 0.0, 60, dtype=torch.float64)
around = [torch.distributions.Normal(top, scale).log_prob(z) for scale in scales]
first = [integral(log_q.exp() * log_joint) for log_q in around]
entropy = [integral(-log_q.exp() * log_q) for log_q in around]
total = [a + b for a, b in zip(first, entropy, strict=True)]
best = max(range(len(total)), key=total.__getitem__)
right.axhline(log_evidence, color="black", linewidth=1)
for values, name, color, at in (
    (first, "E log p(x, z)", 4, (0.021, -1.55)),
    (entropy, "entropy", 2, (0.22, 0.3)),
    (total, "ELBO, their sum", 0, (0.021, -4.8)),
):
    right.plot(scales, values, color=PALETTE[color])
    right.text(*at, name, color=PALETTE[color], ha="right" if name == "entropy" else "left")
right.text(1.0, log_evidence + 0.12, "log p(x)", ha="right")
right.plot(scales[best], total[best], "o", color=PALETTE[0])
right.annotate(
    f"gap = KL(q || p)\n= {log_evidence - total[best]:.2f} nats", (scales[best], total[best]), xytext=(0, -14),
    textcoords="offset points", ha="center", va="top", color=PALETTE[0],
)  # fmt: skip
right.set(xscale="log", ylim=(-7, 2), xlabel="standard deviation of q around the higher peak", ylabel="nats")
right.set_title("Narrow or wide?", loc="left")
show(figure, options.figure)

# %%
one, other = (rows[name] for name in drawn[::2])
right_peak = torch.where(z > 0, posterior, 0.0) / share
middle = integral(right_peak * z)
spread = math.sqrt(integral(right_peak * (z - middle).square()))
apart = rows[drawn[0]]["mean"] - rows[drawn[1]]["mean"]
excess = one["KL(q || p)"] + math.log(share)
if abs(excess) < 0.05 and other["sd"] > apart / 4:
    costs = f"{excess:.3f} nats more than -ln {share:.3f} = {-math.log(share):.3f}"
    print(
        f"The entropy makes q as wide as one peak: its standard deviation is {one['sd']:.3f}, that of the posterior "
        f"where z > 0 is {spread:.3f}. It costs {one['KL(q || p)']:.3f} nats to leave the other peak out, {costs}. The "
        f"Gaussian fitted by KL(p || q) covers both (standard deviation {other['sd']:.2f}, the peaks are {apart:.2f} "
        f"apart) and the valley too, at an ELBO of {other['ELBO']:.1f} nats."
    )
else:
    print(
        f"These fits have not converged: the ELBO's Gaussian lacks {one['KL(q || p)']:.3f} nats (-ln {share:.3f} = "
        f"{-math.log(share):.3f}), and the other one has a standard deviation of {other['sd']:.2f}. Give more --epochs."
    )
