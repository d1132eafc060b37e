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
#     python examples/why_not_an_autoencoder.py                            # 8x8 digits, one to two minutes
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
parser.add_argument("--images", type=int, default=30, help="held-out images whose log p(x) is measured")
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
# a lower bound on average, and lies the further below the harder the posterior is to walk to, which may differ from
# decoder to decoder. So each is measured with half as many steps, too: what the other half still gained tells how much
# may be missing. The errors (±) say how far the images differ: in the table they are of a mean over images, in the
# comparison below it of a mean of differences, image by image. Each decoder was trained once.
#
# A plain autoencoder never promised codes like $\mathcal N(0, I)$, so it gets a second chance: the Gaussian of its own
# codes, with their mean and covariance, in place of the prior.


# %%
class OwnPrior(VAE):
    """A decoder behind the Gaussian of some codes."""

    def __init__(self, model: VAE, codes: Tensor) -> None:
        super().__init__(pixels, latents, decoder=model.decoder)
        self.mean, self.factor = codes.mean(0), torch.linalg.cholesky(codes.T.cov())

    def likelihood(self, z: Tensor, *given: Tensor) -> object:
        """The density of an image whose standardized code is z."""
        return super().likelihood(self.mean + z @ self.factor.T)


def mean(values: Tensor) -> str:
    """The mean over the images, and its standard error."""
    return f"{values.mean():.2f} ± {values.std() / len(values) ** 0.5:.2f}"


rows = {}
print(f"{'decoder of':>18}{'log p(x), nats':>16}{'half the steps':>16}{'behind own codes':>18}", end="")
print(f"{'half the steps':>16}{'reconstruction':>16}{'sd of codes':>13}")
for name, (model, guide) in pairs.items():
    with torch.no_grad():
        codes = guide.posterior(images.train[:5000].bernoulli())()
        at_code = model.likelihood(guide.posterior(test).mean).log_prob(test)
    found = {}
    for prior, made in (("evidence", model), ("own", OwnPrior(model, codes))):
        for key, steps in ((f"{prior}_half", max(1, options.steps // 2)), (prior, options.steps)):
            how = {"steps": steps, "chains": 8, "leapfrog": 5, "seed": 0, "progress": False}
            found[key] = torch.as_tensor(annealed(made, None, test[: options.images], **how).log_evidence.values)
    rows[name] = row = found | {"reconstruction": at_code, "sd": float(codes.var(0).mean().sqrt()), "codes": codes}
    print(f"{name:>18}{mean(row['evidence']):>16}{row['evidence_half'].mean():>16.2f}", end="")
    print(f"{mean(row['own']):>18}{row['own_half'].mean():>16.2f}{mean(at_code):>16}{row['sd']:>13.2f}")
print("(reconstruction: mean of log p(x | z) of held-out images, z the mean of their code)")

# %% [markdown]
# An autoencoder is trained to reconstruct, so that column alone would favour it. The pull on each code makes the codes
# shrink to a small ball, and then most draws of $\mathcal N(0, I)$ fall outside of it. What the first three lack is a
# number in training that says how good a density they are: theirs bound nothing, and only the annealing tells.


# %%
def against(better: Tensor, worse: Tensor) -> str:
    """In words, whether the first has the higher values, by their differences image by image."""
    difference = better - worse
    error = float(difference.std()) / len(difference) ** 0.5
    size = f"{float(difference.mean()):+.2f} ± {error:.2f}"
    if not abs(float(difference.mean())) > 2 * error:
        return f"about as good ({size})"
    return f"{'better' if float(difference.mean()) > 0 else 'worse'} ({size})"


vae = rows["VAE"]
print("held against the VAE, nats per image:")
for name, row in rows.items():
    if name != "VAE":
        print(f"  {name}: as a density behind N(0, I) {against(row['evidence'], vae['evidence'])}", end="")
        print(f", behind its own codes {against(row['own'], vae['evidence'])}", end="")
        print(f"; as a reconstruction {against(row['reconstruction'], vae['reconstruction'])}")

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
    label = f"{name.replace(' to ', chr(10) + 'to ')}\n{rows[name]['evidence'].mean():.1f} nats"
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
numbers = ", ".join(f"{mean(row['evidence'])} ({name})" for name, row in rows.items())
still = max(float((row["evidence"] - row["evidence_half"]).mean()) for row in rows.values())
print(
    f"Held-out log p(x) of the four decoders behind N(0, I), nats per image, is at least {numbers}; the other half of "
    f"the annealing's steps raised none by more than {max(still, 0):.2f}. Held against the VAE, the plain autoencoder "
    f"behind the Gaussian of its own codes is {against(rows['autoencoder']['own'], vae['evidence'])}."
)
