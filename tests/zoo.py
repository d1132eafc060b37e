"""Every compatible model x guide, by name: the laws hold over all of them, and a test sees that none is missing."""

from collections.abc import Callable
from dataclasses import dataclass

import pyro
import torch
from torch import Tensor

from ppl_vae.guides import (
    IAF,
    MAF,
    NSF,
    Amortized,
    Bernoulli,
    Categorical,
    Delta,
    Diagonal,
    ExactPosterior,
    Family,
    FixedScale,
    Full,
    LowRank,
    Mixture,
    OneHot,
    PerDatapoint,
    Prior,
    SemiAmortized,
    TwoLayer,
    Unit,
)
from ppl_vae.models import (
    VAE,
    BernoulliVAE,
    CategoricalVAE,
    ConditionalVAE,
    GaussianMixture,
    LinearGaussian,
    MixtureDensityNetwork,
    TwoLayerVAE,
)
from ppl_vae.programs import FamilyGuide, Guide, LatentVariableModel

OBSERVED, LATENT, GIVEN, BATCH = 12, 3, 2, 5

MODELS: dict[str, Callable[[], LatentVariableModel]] = {
    "linear-gaussian": lambda: LinearGaussian(OBSERVED, LATENT, scale=0.7),
    "vae": lambda: VAE(OBSERVED, LATENT, hidden=(16,)),
    "vae-gaussian": lambda: VAE(OBSERVED, LATENT, likelihood="gaussian", hidden=(16,)),
    "conditional-vae": lambda: ConditionalVAE(OBSERVED, LATENT, GIVEN, hidden=(16,)),
    "two-layer-vae": lambda: TwoLayerVAE(OBSERVED, LATENT, middle_dim=4, widths=(8, 8)),
    "bernoulli-vae": lambda: BernoulliVAE(OBSERVED, LATENT, hidden=(16,)),
    "categorical-vae": lambda: CategoricalVAE(OBSERVED, LATENT, categories=4, hidden=(16,)),
    "gaussian-mixture": lambda: GaussianMixture(OBSERVED, LATENT),
    "mixture-density-network": lambda: MixtureDensityNetwork(OBSERVED, LATENT, GIVEN, covariance="full"),
}
FAMILIES: dict[str, Callable[[], Family]] = {
    "delta": lambda: Delta(LATENT),
    "unit": lambda: Unit(LATENT),
    "fixed-scale": lambda: FixedScale(LATENT, 0.3),
    "diagonal": lambda: Diagonal(LATENT),
    "low-rank": lambda: LowRank(LATENT, rank=2),
    "full": lambda: Full(LATENT),
    "mixture": lambda: Mixture(LATENT),
    "iaf": lambda: IAF(LATENT, hidden=(8,), context=4),
    "maf": lambda: MAF(LATENT, hidden=(8,), context=4),
    "nsf": lambda: NSF(LATENT, hidden=(8,), context=4),
    "bernoulli": lambda: Bernoulli(LATENT),
    "categorical": lambda: Categorical(LATENT, categories=4),
    "one-hot": lambda: OneHot(LATENT),
}
DISCRETE = {"bernoulli-vae": "bernoulli", "categorical-vae": "categorical"} | dict.fromkeys(
    ("gaussian-mixture", "mixture-density-network"), "one-hot"
)
EXACT = ("linear-gaussian", "gaussian-mixture", "mixture-density-network")
CONTINUOUS = ("linear-gaussian", "vae", "vae-gaussian", "conditional-vae")


@dataclass(frozen=True)
class Case:
    """One pair of the zoo: a model, a family and its source, or a guide that needs neither."""

    model: str
    guide: str
    source: str = "amortized"

    def __str__(self) -> str:
        return f"{self.model}-{self.guide}-{self.source}"

    @property
    def is_bound(self) -> bool:
        """Whether the ELBO is one."""
        return self.guide != "delta"

    def make(self, seed: int = 0) -> tuple[LatentVariableModel, Guide, tuple[Tensor, ...]]:
        """The pair in float64 and its batch: data that the model itself drew, shape (BATCH, OBSERVED), first."""
        pyro.set_rng_seed(seed)
        model = MODELS[self.model]().double()
        given = (torch.randn(BATCH, GIVEN, dtype=torch.float64),) if model.given_count else ()
        with torch.no_grad():
            x = model.generate(BATCH, *given)[1].sample()
        batch = (x, *given, torch.arange(BATCH)) if self.source == "per-datapoint" else (x, *given)
        return model, self._guide(model).double(), batch

    def _guide(self, model: LatentVariableModel) -> Guide:
        if self.source == "of-a-model":
            made: dict[str, Callable[[], Guide]] = {
                "exact": lambda: ExactPosterior(model),
                "prior": lambda: Prior(model),
                "two-layer": lambda: TwoLayer(OBSERVED, LATENT, middle_dim=4, widths=(8, 8)),
            }
            return made[self.guide]()
        family = FAMILIES[self.guide]()
        if self.source == "per-datapoint":
            return PerDatapoint(family, BATCH)
        given_dim = GIVEN if model.given_count else 0
        amortized = Amortized(family, OBSERVED, hidden=(16,), given_dim=given_dim)
        return amortized if self.source == "amortized" else SemiAmortized(amortized, model, steps=2)


def _zoo() -> list[Case]:
    cases = [Case(model, "exact", "of-a-model") for model in EXACT]
    cases += [Case("two-layer-vae", "two-layer", "of-a-model")]
    cases += [Case(model, "prior", "of-a-model") for model in (*CONTINUOUS, *DISCRETE)]
    for source in ("amortized", "per-datapoint", "semi-amortized"):
        for model in CONTINUOUS:
            cases += [Case(model, family, source) for family in FAMILIES if family not in DISCRETE.values()]
        if source != "semi-amortized":  # which climbs reparameterized draws
            cases += [Case(model, family, source) for model, family in DISCRETE.items()]
    # Pyro's gradient of a mixture's draws can't be differentiated again, as learning through the steps would need
    return [case for case in cases if (case.guide, case.source) != ("mixture", "semi-amortized")]


ZOO = _zoo()
SOUND = [case for case in ZOO if case.is_bound]
# For what takes long: every model with every source that it has, every guide and every family, the flows once each
COVERING = [
    Case("vae", "diagonal"),
    Case("linear-gaussian", "full"),
    Case("vae", "iaf"),
    Case("vae-gaussian", "maf"),
    Case("conditional-vae", "nsf"),
    Case("linear-gaussian", "delta", "per-datapoint"),
    Case("vae", "low-rank", "per-datapoint"),
    Case("vae-gaussian", "mixture", "per-datapoint"),
    Case("conditional-vae", "fixed-scale", "per-datapoint"),
    Case("linear-gaussian", "unit", "semi-amortized"),
    Case("vae", "diagonal", "semi-amortized"),
    Case("vae-gaussian", "unit", "semi-amortized"),
    Case("conditional-vae", "diagonal", "semi-amortized"),
    *(Case(model, family, source) for model, family in DISCRETE.items() for source in ("amortized", "per-datapoint")),
    *(case for case in ZOO if case.source == "of-a-model"),
]


def _each_once(cases: list[Case]) -> list[Case]:
    """Those that bring a model, a guide or a source which none before them had."""
    seen: set[str] = set()
    found = []
    for case in cases:
        if new := {case.model, case.guide, case.source} - seen:
            seen |= new
            found.append(case)
    return found


EACH_ONCE = _each_once(COVERING)  # for what takes seconds
SOURCES: dict[str, type[FamilyGuide]] = {
    "amortized": Amortized,
    "per-datapoint": PerDatapoint,
    "semi-amortized": SemiAmortized,
}
