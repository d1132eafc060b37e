"""Makes models, guides and estimators from the names that the command line takes."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pyro.infer import ELBO, Trace_ELBO, TraceMeanField_ELBO
from torch import Tensor, nn

from ppl_vae.data.tables import TABLES
from ppl_vae.errors import InputError
from ppl_vae.estimators import ESTIMATORS
from ppl_vae.estimators import estimator as named_estimator
from ppl_vae.guides import AUTOGUIDES, FAMILIES, Amortized, ExactPosterior, Family, Prior, SemiAmortized, TwoLayer
from ppl_vae.models import BAYESIAN_MODELS, MODELS, BayesianModel, EightSchools, LogisticRegression
from ppl_vae.programs import FamilyGuide, Guide, LatentVariableModel

ALIASES = {"flow": "iaf"}
OF_A_MODEL: dict[str, type[Guide]] = {"exact-posterior": ExactPosterior, "prior": Prior, "two-layer": TwoLayer}
GUIDES = (*FAMILIES, *OF_A_MODEL)
SEMI = "semi-amortized:"
MIXTURES = ("gaussian-mixture", "mixture-density-network")  # the models of tables
FIRST_CHOICES = ("delta", "diagonal", "full", "flow")
SHARED_FIRST_CHOICES = ("auto-normal", "auto-mvn", "auto-iaf")


@dataclass(frozen=True)
class SharedModel:
    """A model with latents that all the data share.

    Attributes:
        data: makes the data that it comes with.
        make: makes the model for data.
    """

    data: Callable[[], tuple[Tensor, ...]]
    make: Callable[..., BayesianModel]


SHARED_MODELS: dict[str, SharedModel] = {
    **{name: SharedModel(kind.example_data, kind.for_data) for name, kind in BAYESIAN_MODELS.items()},
    "eight-schools-centered": SharedModel(
        EightSchools.example_data,
        lambda x, *given: EightSchools(centered=True),
    ),
    "logistic-regression-horseshoe": SharedModel(
        LogisticRegression.example_data,
        lambda x, *given: LogisticRegression(given[0].shape[1], prior="horseshoe"),
    ),
}


def refuse_mixture(model: str, data: str) -> None:
    """InputError where a model of tables is asked for images."""
    if model in MIXTURES:
        raise InputError(f"{model} takes a table, not the images of {data}: --data {', '.join(TABLES)} or a .csv file")


def shared_guide(name: str, model_name: str, model: BayesianModel) -> nn.Module:
    """Makes the guide of that name for a model of shared latents; InputError for one that does not fit."""
    fitting = [*AUTOGUIDES, *(["exact-posterior"] if hasattr(model, "posterior") else [])]
    if name not in fitting:
        plain = name.removeprefix(SEMI)
        reason = f"there is no guide {name!r}"
        if plain == "exact-posterior":
            reason = f"the guide {name!r} does not fit {model_name}, whose posterior is not known"
        elif plain in (*GUIDES, *ALIASES):
            reason = f"the guide {name!r} has latents of each data point, but all the data share those of {model_name}"
        raise InputError(f"{reason}: choose from {', '.join(fitting)}")
    return ExactPosterior(model) if name == "exact-posterior" else AUTOGUIDES[name](model)


def shared_first_choices(model: BayesianModel) -> list[str]:
    """The guides to compare where none are named, for a model of shared latents."""
    return [*SHARED_FIRST_CHOICES, *(["exact-posterior"] if hasattr(model, "posterior") else [])]


@dataclass(frozen=True)
class Builder:
    """Makes models, guides and estimators for images of one size.

    Attributes:
        source: the name of the images.
        pixels: of one image.
        classes: of its label, None where there are no labels.
        latents: latents of one image.
        hidden: the widths of the hidden layers of the default networks.
        likelihood: "bernoulli" or "gaussian", for the models that have both.
    """

    source: str
    pixels: int
    classes: int | None
    latents: int
    hidden: tuple[int, ...]
    likelihood: str

    def model(self, name: str) -> LatentVariableModel:
        """Makes the model of that name; InputError for an unknown one, or options that do not fit it."""
        if name in SHARED_MODELS:
            raise InputError(f"{name} has latents that all the data share: take `ppl-vae compare` or `ppl-vae train`")
        if name not in MODELS:
            raise InputError(f"there is no model {name!r}: choose from {', '.join((*MODELS, *SHARED_MODELS))}")
        make: Callable[..., LatentVariableModel] = MODELS[name]
        accepted = inspect.signature(make).parameters
        options: dict[str, Any] = {"hidden": self.hidden, "likelihood": self.likelihood}
        if "given_dim" in accepted:
            options["given_dim"] = self._classes_for(name)
        try:
            chosen = {key: value for key, value in options.items() if key in accepted}
            return make(self.pixels, self.latents, **chosen)
        except ValueError as error:
            raise InputError(str(error)) from None

    def guide(self, name: str, model: LatentVariableModel) -> Guide:
        """Makes the guide of that name; InputError for an unknown one, or one that does not fit the model."""
        plain = name.removeprefix(SEMI)
        plain = ALIASES.get(plain, plain)
        if name in AUTOGUIDES:
            raise InputError(
                f"the guide {name!r} knows only the rows that it is fitted to, but a {type(model).__name__} is tested "
                f"on others: choose from {', '.join(self.fitting(model))}"
            )
        if plain not in GUIDES or (name.startswith(SEMI) and plain not in FAMILIES):
            known = ", ".join((*GUIDES, *ALIASES))
            raise InputError(f"there is no guide {name!r}: choose from {known}, or {SEMI}FAMILY")
        if plain not in self.fitting(model):
            fitting = ", ".join(self.fitting(model))
            reason = " (it has no posterior(x) of its own)" if plain == "exact-posterior" else ""
            raise InputError(f"the guide {name!r} does not fit a {type(model).__name__}{reason}: choose from {fitting}")
        try:
            if plain == "two-layer":
                return TwoLayer(self.pixels, self.latents)
            if plain in OF_A_MODEL:
                of_a_model: Callable[..., Guide] = OF_A_MODEL[plain]
                return of_a_model(model)
            given_dim = getattr(model, "given_dim", 0)
            family: Callable[[int], Family] = FAMILIES[plain]
            amortized = Amortized(family(self.latents), self.pixels, self.hidden, given_dim=given_dim)
            return SemiAmortized(amortized, model) if name.startswith(SEMI) else amortized
        except ValueError as error:
            raise InputError(str(error)) from None

    def fitting(self, model: LatentVariableModel) -> list[str]:
        """The names of the guides that fit the latents of the model."""
        if type(model) is MODELS["two-layer-vae"]:
            return ["two-layer"]
        event_shape, discrete = model.prior().event_shape, not model.prior().has_rsample
        if discrete:
            names = ["bernoulli" if len(event_shape) == 1 else "categorical"]
        else:
            names = [name for name, family in FAMILIES.items() if not family.discrete]
        return [*names, *(["exact-posterior"] if hasattr(model, "posterior") else []), "prior"]

    def first_choices(self, model: LatentVariableModel) -> list[str]:
        """The guides to compare where none are named."""
        fitting = self.fitting(model)
        chosen = [name for name in FIRST_CHOICES if ALIASES.get(name, name) in fitting] or fitting[:1]
        return chosen + [name for name in ("exact-posterior",) if name in fitting]

    def elbo(self, guide: Guide) -> ELBO:
        """Pyro's ELBO with the analytic KL for guides of one continuous site, where it trains in fewer steps.

        A guide of a family is switched to reparameterized draws.

        It takes each site's KL by itself, which is wrong for two sites in the opposite order of the model's.
        """
        if isinstance(guide, FamilyGuide):
            guide.reparameterized = True  # an estimator may have switched it to other draws
            if not guide.family.discrete:
                return TraceMeanField_ELBO()
        return Trace_ELBO()

    def estimator(self, name: str, model: LatentVariableModel, guide: Guide, particles: int | None) -> ELBO:
        """Makes the gradient estimator of that name, and switches the guide to the kind of draws that it needs.

        Args:
            name: a key of ``ESTIMATORS``.
            model: the model.
            guide: its guide.
            particles: of each data point, the estimator's fewest where None.

        Raises:
            InputError: for an unknown one, or one that does not fit the pair.
        """
        prior = model.prior()
        discrete, bits = not prior.has_rsample, not prior.has_rsample and len(prior.event_shape) == 1
        if name in ESTIMATORS and not ESTIMATORS[name].fits(not discrete, discrete, bits):
            fitting = ", ".join(key for key, entry in ESTIMATORS.items() if entry.fits(not discrete, discrete, bits))
            latents = "bits" if bits else "one-hot vectors" if discrete else "continuous"
            raise InputError(f"the estimator {name!r} does not fit latents that are {latents}: choose from {fitting}")
        made = named_estimator(name, particles)
        if isinstance(guide, FamilyGuide):
            guide.reparameterized = ESTIMATORS[name].latents != "not reparameterized"
        return made

    def _classes_for(self, model: str) -> int:
        if self.classes is None:
            raise InputError(f"{self.source} has no labels, which {model} is conditional on: take another data set")
        return self.classes
