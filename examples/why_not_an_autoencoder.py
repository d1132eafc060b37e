# %% [markdown]
# # Why not simply an autoencoder?
#
# *"Why do we need $z$ to be random given $x$? If $z = f(x)$, and the codes of all images follow $\mathcal N(0, I)$,
# we can sample $z$ and decode it. It would seem natural to make a standard autoencoder with the additional condition
# that the empirical distribution of $z$ is as close as possible to a $\mathcal N(0, I)$."*
#
# All of them end in a decoder, and with $z \sim \mathcal N(0, I)$ in front of it each decoder is a density of images:
#
# $$\log p(x) = \log \int p(x \mid z) \, \mathcal N(z;\, 0, I) \, dz$$
#
# So they can be compared by the same number, $\log p(x)$ of images that none has seen. Four ways to train the decoder:
# an autoencoder; one that pulls each code towards 0 (the prior's $\log p(z)$, and still no noise); one that pulls the
# *set* of codes towards $\mathcal N(0, I)$ by the maximum mean discrepancy, as the question proposes; and a VAE.
#
#     python examples/why_not_an_autoencoder.py                            # 8x8 digits, about a minute
#     python examples/why_not_an_autoencoder.py --data mnist --epochs 20   # about 15 minutes

# %%
import argparse
import sys
from pathlib import Path

import pyro
import torch
from pyro.infer import ELBO
from torch import Tensor

from ppl_vae import annealed, fit, load
from ppl_vae.estimators import LogWeightELBO
from ppl_vae.guides import Amortized, Delta, Diagonal, Family
from ppl_vae.models import VAE
from ppl_vae.plots.images import show_image
from ppl_vae.plots.style import PALETTE, new_figure, show, tidy

parser = argparse.ArgumentParser(description="Why not simply an autoencoder?")
parser.add_argument("--data", default="digits", help="digits, mnist, fashion-mnist, or a .npy file of images")
parser.add_argument("--epochs", type=int, default=100)
parser.add_argument("--latents", type=int, default=8)
parser.add_argument("--images", type=int, default=50, help="held-out images whose log p(x) is measured")
parser.add_argument("--steps", type=int, default=100, help="of the annealing")
parser.add_argument("--figure", type=Path, default=Path("runs/why_not_an_autoencoder.png"))
options = parser.parse_args([] if "ipykernel" in sys.modules else None)  # a notebook has no command line

# %% [markdown]
# The first three have no noise (`Delta`); they differ in what is added to $\log p(x \mid z)$. The discrepancy
# compares the codes of a batch with as many draws of $\mathcal N(0, I)$: it is 0 where both have the same
# distribution.


# %%
class WithDiscrepancy(LogWeightELBO):
    """log p(x | z), less a weight times the squared maximum mean discrepancy of the batch's codes from N(0, I)."""

    is_bound = False

    def __init__(self, weight: float) -> None:
        super().__init__(1)
        self.weight = weight

    def objective(self, model: object, guide: object, batch: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        """The value and the surrogate, one number for each image."""
        run = self.run(model, guide, batch)
        codes = run.guide.nodes["z"]["value"].flatten(0, -2)
        likelihood = run.likelihood.mean(0)
        value = likelihood - self.weight * discrepancy(codes, torch.randn_like(codes))
        return value, value


def discrepancy(codes: Tensor, draws: Tensor) -> Tensor:
    """The squared maximum mean discrepancy, with the kernel 1 / (1 + squared distance / twice the latents)."""

    def kernel(a: Tensor, b: Tensor) -> Tensor:
        squares = (a[:, None] - b[None]).square().sum(-1)
        return (1 / (1 + squares / (2 * a.shape[-1]))).mean()

    return kernel(codes, codes) + kernel(draws, draws) - 2 * kernel(codes, draws)


images = load(options.data)
pixels, latents = images.train.shape[1], options.latents
pyro.set_rng_seed(0)
test = images.test[:500].bernoulli()


def trained(family: Family, elbo: ELBO | None = None, kl_weight: float = 1.0) -> tuple[VAE, Amortized]:
    """A decoder and its encoder, from the same start."""
    pyro.set_rng_seed(0)
    model, guide = VAE(pixels, latents, hidden=(200, 200)), Amortized(family, pixels, hidden=(200, 200))
    how = {"epochs": options.epochs, "lr": 2e-3, "kl_weight": kl_weight, "seed": 0, "progress": False}
    fit(model, guide, images.train, transform=torch.bernoulli, elbo=elbo, **how)
    return model, guide


pairs = {
    "autoencoder": trained(Delta(latents), kl_weight=0.0),
    "codes to 0": trained(Delta(latents)),
    "codes to N(0, I)": trained(Delta(latents), WithDiscrepancy(100.0)),
    "VAE": trained(Diagonal(latents)),
}

# %% [markdown]
# Without a density $q$ there are no importance weights, so $\log p(x)$ is estimated by annealed importance sampling,
# which needs the decoder alone: `annealed(model, None, x)` walks from the prior to the posterior of each image. It is
# a lower bound on average. A plain autoencoder never promised codes like $\mathcal N(0, I)$, so it gets a second
# chance: the Gaussian of its own codes, with their mean and covariance, in place of the prior.


# %%
class OwnPrior(VAE):
    """A decoder behind the Gaussian of some codes."""

    def __init__(self, model: VAE, codes: Tensor) -> None:
        super().__init__(pixels, latents, decoder=model.decoder)
        self.mean, self.factor = codes.mean(0), torch.linalg.cholesky(codes.T.cov())

    def likelihood(self, z: Tensor, *given: Tensor) -> object:
        """The density of an image whose standardized code is z."""
        return super().likelihood(self.mean + z @ self.factor.T)


rows = {}
print(f"{'decoder of':>18}{'log p(x), nats':>18}{'behind own codes':>18}{'reconstruction':>16}{'sd of codes':>13}")
for name, (model, guide) in pairs.items():
    with torch.no_grad():
        codes = guide.posterior(images.train[:5000].bernoulli())()
        reconstruction = float(model.likelihood(guide.posterior(test)()).log_prob(test).mean())
    how = {"steps": options.steps, "chains": 8, "leapfrog": 5, "seed": 0, "progress": False}
    found = [annealed(made, None, test[: options.images], **how) for made in (model, OwnPrior(model, codes))]
    rows[name] = row = {
        "evidence": float(found[0].log_evidence.mean()),
        "own": float(found[1].log_evidence.mean()),
        "reconstruction": reconstruction,
        "sd": float(codes.var(0).mean().sqrt()),
        "codes": codes,
    }
    numbers = (row[key] for key in ("evidence", "own", "reconstruction", "sd"))
    print(f"{name:>18}" + "".join(f"{n:>{w}.2f}" for n, w in zip(numbers, (18, 18, 16, 13), strict=True)))
print("(reconstruction: mean of log p(x | z) of held-out images, z their code)")

# %% [markdown]
# The autoencoders reconstruct better than the VAE and are no better as densities. The pull on each code makes it worse:
# all codes shrink to a small ball, and nearly every draw of $\mathcal N(0, I)$ falls outside of it. On the small digits
# the question's proposal is about as good as the VAE, and so is a plain autoencoder behind the Gaussian of its codes.
# What they lack is a number in training that says so: theirs bound nothing, and only the annealing told.

# %%
figure = new_figure(12, 5.4)
clouds, drawn, between = figure.subfigures(1, 3, width_ratios=(2.3, 4, 5))
dots = clouds.subplots(len(pairs), 1)
samples, ways = drawn.subplots(len(pairs), 7), between.subplots(len(pairs), 9)
clouds.suptitle("codes; ring: 95% of N(0, I)", fontsize=9)
drawn.suptitle("decoded draws of N(0, I)", fontsize=9)
between.suptitle("from the code of one test image to that of another", fontsize=9)
angle = torch.linspace(0, 6.3, 100)
for line, (name, (model, guide)) in enumerate(pairs.items()):
    axes = tidy(dots[line])
    codes = rows[name]["codes"][:500]
    axes.plot(codes[:, 0], codes[:, 1], ".", color=PALETTE[line], markersize=2)
    axes.plot(2.45 * angle.cos(), 2.45 * angle.sin(), color="black", linewidth=1)
    axes.set(xlim=(-5, 5), ylim=(-5, 5), aspect="equal", xticks=[-4, 0, 4], yticks=[-4, 0, 4])
    axes.tick_params(labelsize=7)
    label = f"{name}\n{rows[name]['evidence']:.1f} nats"
    axes.set_ylabel(label, rotation=0, ha="right", va="center", fontsize=9, color=PALETTE[line])
    pyro.set_rng_seed(2)
    with torch.no_grad():
        first, last = guide.posterior(test[:2]).mean
        way = torch.linspace(0, 1, ways.shape[1])[:, None]
        pictures = (model.generate(samples.shape[1])[1].mean, model.likelihood(first + way * (last - first)).mean)
    for cells, row in zip((samples[line], ways[line]), pictures, strict=True):
        for cell, picture in zip(cells, row, strict=True):
            show_image(cell, picture, images.shape)
dots[-1].set_xlabel("first latent (up: second)", fontsize=8)
show(figure, options.figure)

# %%
numbers = ", ".join(f"{row['evidence']:.1f} ({name})" for name, row in rows.items())
print(
    f"Held-out log p(x) of the four decoders behind N(0, I), nats per image: {numbers}. Behind the Gaussian of its own "
    f"codes the plain autoencoder has {rows['autoencoder']['own']:.1f}."
)
