"""Every compatible model x guide, by name: the laws hold over all of them, and a test sees that none is missing."""

from collections.abc import Callable
from dataclasses import dataclass

import pyro
import torch
from torch import Tensor

from ppl_vae.guides import Amortized, Delta, Diagonal, Exact, Family, Flow, Full
from ppl_vae.models import VAE, LinearGaussian
from ppl_vae.programs import Guide, LatentVariableModel

OBSERVED, LATENT, BATCH = 12, 3, 5


def _linear_gaussian() -> LatentVariableModel:
    return LinearGaussian(OBSERVED, LATENT, scale=0.7)


def _bernoulli_vae() -> LatentVariableModel:
    return VAE(OBSERVED, LATENT, hidden=(16,))


def _gaussian_vae() -> LatentVariableModel:
    return VAE(OBSERVED, LATENT, likelihood="gaussian", hidden=(16,))


MODELS: dict[str, Callable[[], LatentVariableModel]] = {
    "linear-gaussian": _linear_gaussian,
    "vae-bernoulli": _bernoulli_vae,
    "vae-gaussian": _gaussian_vae,
}
FAMILIES: dict[str, Callable[[], Family]] = {
    "delta": lambda: Delta(LATENT),
    "diagonal": lambda: Diagonal(LATENT),
    "full": lambda: Full(LATENT),
    "flow": lambda: Flow(LATENT, hidden=(8,), context=4),
}


@dataclass(frozen=True)
class Case:
    """One pair of the zoo."""

    model: str
    guide: str

    def __str__(self) -> str:
        return f"{self.model}-{self.guide}"

    def make(self, seed: int = 0) -> tuple[LatentVariableModel, Guide, Tensor]:
        """The pair in float64 with data that the model itself drew, shape (BATCH, OBSERVED)."""
        pyro.set_rng_seed(seed)
        model = MODELS[self.model]()
        if self.guide == "exact":
            guide: Guide = Exact(model)
        else:
            guide = Amortized(FAMILIES[self.guide](), OBSERVED, hidden=(16,))
        model, guide = model.double(), guide.double()
        with torch.no_grad():
            x = model.generate(BATCH)[1].sample()
        return model, guide, x


ZOO = [Case(model, family) for model in MODELS for family in FAMILIES] + [Case("linear-gaussian", "exact")]
SOUND = [case for case in ZOO if case.guide != "delta"]
