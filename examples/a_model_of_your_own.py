# %% [markdown]
# # How do I measure a model and a guide of my own?
#
# *"I wrote a model and a guide in Pyro, and SVI prints a loss. Is the bound tight, and can I believe the number?"*
#
# Two functions are enough: `model` says how the data come about, `guide` approximates the posterior. Everything is
# measured from the log-weights of the guide's draws,
#
# $$\log w = \log p(x, z) - \log q(z), \qquad \mathrm{ELBO} = \mathbb{E}[\log w], \qquad
# \log p(x) - \mathrm{ELBO} = \mathrm{KL}(q(z) \,\|\, p(z \mid x)).$$
#
# Here five groups have effects of their own around a common mean. One guide is written by hand, another is made of the
# model by Pyro's `AutoNormal`, a third, `AutoMultivariateNormal`, may also correlate the latents. Copy this page and
# put in your own functions and tensors.
#
#     python examples/a_model_of_your_own.py    # about 20 seconds; there is no larger form

# %%
import argparse
import sys
from pathlib import Path

import pyro
import torch
from pyro.distributions import LogNormal, Normal
from pyro.distributions.constraints import positive
from pyro.infer.autoguide import AutoMultivariateNormal, AutoNormal
from torch import Tensor

from ppl_vae import bounds, check, fit, tightness
from ppl_vae.plots.style import PALETTE, new_figure, show, tidy

parser = argparse.ArgumentParser(description="How do I measure a model and a guide of my own?")
parser.add_argument("--epochs", type=int, default=2000)
parser.add_argument("--figure", type=Path, default=Path("runs/a_model_of_your_own.png"))
options = parser.parse_args([] if "ipykernel" in sys.modules else None)  # a notebook has no command line

# %% [markdown]
# The model. The data points lie in a plate, one row each.

# %%
GROUPS = 5


def model(x: Tensor, group: Tensor) -> None:
    """Says how the data come about: x, one number for each data point, which lies in a group from 0 to 4."""
    mean = pyro.sample("mean", Normal(torch.tensor(0.0), 5.0))
    spread = pyro.sample("spread", LogNormal(torch.tensor(0.0), 1.0))
    with pyro.plate("groups", GROUPS):
        effect = pyro.sample("effect", Normal(mean, spread))
    with pyro.plate("data", len(x)):
        # [..., group]: many draws are run at once, in dimensions left of those that are written here
        pyro.sample("x", Normal(effect[..., group], 1.0), obs=x)


# %% [markdown]
# The guide samples the same latents from densities whose parameters are fitted.


# %%
def guide(x: Tensor, group: Tensor) -> None:
    """Approximates the posterior."""
    pyro.sample("mean", Normal(*parameters("mean", ())))
    pyro.sample("spread", LogNormal(*parameters("spread", ())))
    with pyro.plate("groups", GROUPS):
        pyro.sample("effect", Normal(*parameters("effect", (GROUPS,))))


def parameters(name: str, shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """What is fitted: a location, and a scale that stays above 0."""
    return pyro.param(f"{name}_loc", torch.zeros(shape)), pyro.param(f"{name}_scale", torch.ones(shape), positive)


# %% [markdown]
# `check` says in words what is wrong with a pair, before any training. `fit` takes any ELBO and optimizer of Pyro's;
# `bounds` and `tightness` measure. A k-hat below its threshold, 0.7 for this many draws, says that log p(x) can be
# trusted as far as the guide's draws have been: a mode that the guide never visits leaves no trace in k-hat.

# %%
torch.manual_seed(0)
group = torch.arange(30) % GROUPS
data = (2 + torch.randn(GROUPS)[group] + torch.randn(30), group)  # simulated here; put your own tensors in

guides = {"by hand": guide, "AutoNormal": AutoNormal(model), "AutoMultivariateNormal": AutoMultivariateNormal(model)}
curves, found, mistakes = {}, {}, {}
print(f"{'guide':<24}{'mistakes':>10}{'ELBO':>18}{'log p(x)':>18}{'gap':>16}{'k-hat':>7}")
for name, program in guides.items():
    mistakes[name] = check(model, program, data)
    fit(model, program, data, epochs=options.epochs, lr=0.01, seed=0, progress=False)
    curves[name] = bounds(model, program, data, particles=1000, seed=1, progress=False)
    found[name] = measured = tightness(model, program, data, particles=10_000, seed=1, progress=False)
    cells = [
        f"{float(measured[column][0]):.3f} ± {float(measured[f'{column}_se'][0]):.3f}"
        for column in ("elbo", "log_evidence", "gap")
    ]
    print(f"{name:<24}{len(mistakes[name]):>10}{cells[0]:>18}{cells[1]:>18}{cells[2]:>16}", end="")
    print(f"{float(measured.khat[0]):>7.2f}")
print("(nats of all the data together, since they share their latents)")

# %%
figure = new_figure(8, 4.2)
axes = tidy(figure.add_subplot())
for (name, curve), color in zip(curves.items(), PALETTE, strict=False):
    axes.plot(curve.K, curve.iwelbo[:, 0], "o-", color=color, label=name)
axes.legend(frameon=False, loc="lower right")
axes.set(
    xscale="log", xlabel="K, draws of the latents for one value of the bound", ylabel="IWELBO, nats of all the data"
)
axes.set_title("The more draws, the tighter the bound (K = 1: the ELBO)")
show(figure, options.figure)

# %%
by_hand = found["by hand"]
khat, threshold = float(by_hand.khat[0]), by_hand.attrs["khat_threshold"]
verdict = (
    f"is below {threshold:.2f}, so both can be believed unless the guide misses a whole mode"
    if khat < threshold
    else f"is not below {threshold:.2f}, so neither log p(x) nor the gap can be believed"
)
gap = f"{float(by_hand.gap[0]):.3f} ± {float(by_hand.gap_se[0]):.3f}"
print(
    f"The ELBO of the guide written by hand is measured to lie {gap} "
    f"nats below log p(x), {float(by_hand.log_evidence[0]):.2f}; its k-hat of {khat:.2f} {verdict}."
)
