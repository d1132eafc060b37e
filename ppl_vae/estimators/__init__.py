"""Gradient estimators: each a ``pyro.infer.ELBO``, a way to differentiate E[log w] through the drawing of z.

``ESTIMATORS`` holds them by the command line's names, with what each asks for and whether it is biased.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from pyro.infer import ELBO

from ppl_vae.errors import InputError
from ppl_vae.estimators.base import LogWeightELBO, Run
from ppl_vae.estimators.bits import RELAX, DisARM
from ppl_vae.estimators.enumeration import Enumeration
from ppl_vae.estimators.pathwise import IWAE, DReG, Pathwise, PathwiseKL, StickingTheLanding
from ppl_vae.estimators.relaxed import GumbelSoftmax, StraightThrough
from ppl_vae.estimators.score_function import (
    VIMCO,
    LeaveOneOut,
    NeuralBaseline,
    Reinforce,
    RunningMean,
    ScoreFunction,
)

__all__ = [
    "ESTIMATORS",
    "IWAE",
    "RELAX",
    "VIMCO",
    "DReG",
    "DisARM",
    "Enumeration",
    "Estimator",
    "GumbelSoftmax",
    "LeaveOneOut",
    "LogWeightELBO",
    "NeuralBaseline",
    "Pathwise",
    "PathwiseKL",
    "Reinforce",
    "Run",
    "RunningMean",
    "ScoreFunction",
    "StickingTheLanding",
    "StraightThrough",
    "estimator",
]

Latents = Literal["reparameterized", "not reparameterized", "any", "enumerable", "discrete", "bits"]


@dataclass(frozen=True)
class Estimator:
    """An entry of ``ESTIMATORS``: how an estimator is made, and what it asks of a guide.

    Attributes:
        make: makes the ELBO from a number of particles.
        latents: what the guide's draws must be.
        particles: how many it takes by default, the fewest that it can.
        biased: whether the gradient's mean is another one than its bound's.
        multi_sample: whether the bound is IWELBO at the particles instead of the ELBO.
        about: one line with the source.

    Examples:
        >>> from ppl_vae.estimators import ESTIMATORS
        >>> entry = ESTIMATORS["rloo"]
        >>> entry.particles, entry.biased, entry.fits(has_rsample=False, discrete=True, bits=False)
        (2, False, True)
    """

    make: Callable[[int], ELBO]
    latents: Latents
    about: str
    particles: int = 1
    biased: bool = False
    multi_sample: bool = False

    def fits(self, has_rsample: bool, discrete: bool, bits: bool) -> bool:
        """Says whether a guide of such draws can be used, made with ``reparameterized=False`` if need be."""
        return {
            "reparameterized": has_rsample,
            "not reparameterized": True,
            "any": True,
            "enumerable": discrete,
            "discrete": discrete,
            "bits": bits,
        }[self.latents]


def _vectorized(elbo: Callable[..., ELBO]) -> Callable[[int], ELBO]:
    return lambda particles: elbo(num_particles=particles, vectorize_particles=particles > 1, max_plate_nesting=1)


ESTIMATORS: dict[str, Estimator] = {
    "pathwise": Estimator(_vectorized(Pathwise), "reparameterized", "Pyro's Trace_ELBO (Kingma & Welling 2014)."),
    "pathwise-kl": Estimator(
        _vectorized(PathwiseKL), "reparameterized", "Pyro's TraceMeanField_ELBO: analytic KL (Kingma & Welling 2014)."
    ),
    "sticking-the-landing": Estimator(
        StickingTheLanding, "reparameterized", "Pathwise without the score of q (Roeder et al. 2017)."
    ),
    "score-function": Estimator(
        _vectorized(ScoreFunction), "not reparameterized", "Pyro's TraceGraph_ELBO, no baseline (Williams 1992)."
    ),
    "reinforce": Estimator(Reinforce, "any", "The score function by the data axis, no baseline (Williams 1992)."),
    "running-mean": Estimator(RunningMean, "any", "The score function, a decaying mean as its baseline."),
    "neural-baseline": Estimator(NeuralBaseline, "any", "The score function, a network of x as its baseline (NVIL)."),
    "rloo": Estimator(LeaveOneOut, "any", "The score function, leave-one-out baseline (Kool et al. 2019).", 2),
    "vimco": Estimator(VIMCO, "any", "IWELBO by leave-one-out scores (Mnih & Rezende 2016).", 2, multi_sample=True),
    "iwae": Estimator(IWAE, "reparameterized", "IWELBO, pathwise (Burda et al. 2016).", 2, multi_sample=True),
    "dreg": Estimator(
        DReG, "reparameterized", "IWELBO, doubly reparameterized (Tucker et al. 2019).", 2, multi_sample=True
    ),
    "enumeration": Estimator(Enumeration, "enumerable", "Exact: all states of one discrete site."),
    "gumbel-softmax": Estimator(
        GumbelSoftmax, "discrete", "Biased: relaxed draws, analytic KL (Jang et al. 2017).", biased=True
    ),
    "straight-through": Estimator(
        StraightThrough, "discrete", "Biased: the gradient of the mean (Bengio et al. 2013).", biased=True
    ),
    "straight-through-gumbel": Estimator(
        lambda particles: GumbelSoftmax(particles, hard=True),
        "discrete",
        "Biased: discrete draws, the relaxed one's gradient (Jang et al. 2017).",
        biased=True,
    ),
    "disarm": Estimator(DisARM, "bits", "Antithetic pairs for independent bits (Dong et al. 2020).", 2),
    "relax": Estimator(RELAX, "bits", "A learned control variate for independent bits (Grathwohl et al. 2018)."),
}


def estimator(name: str, particles: int | None = None) -> ELBO:
    """Makes the estimator of that name, with so many particles; with as many as it takes by default where None.

    Raises:
        InputError: for an unknown name, or too few particles.

    Examples:
        >>> from ppl_vae.estimators import estimator
        >>> elbo = estimator("iwae", particles=5)
        >>> type(elbo).__name__, elbo.num_particles
        ('IWAE', 5)
    """
    if name not in ESTIMATORS:
        raise InputError(f"there is no estimator {name!r}: choose from {', '.join(ESTIMATORS)}")
    entry = ESTIMATORS[name]
    count = entry.particles if particles is None else particles
    if count < entry.particles:
        raise InputError(f"{name} needs at least {entry.particles} particles, not {count}")
    return entry.make(count)
