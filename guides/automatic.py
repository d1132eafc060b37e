"""Pyro's own guides, which are made of a model by its latents alone, by the command line's names."""

from collections.abc import Callable
from functools import partial
from typing import Any

from pyro.distributions.transforms import iterated, neural_autoregressive
from pyro.infer.autoguide import (
    AutoDelta,
    AutoDiagonalNormal,
    AutoGuide,
    AutoIAFNormal,
    AutoLaplaceApproximation,
    AutoLowRankMultivariateNormal,
    AutoMultivariateNormal,
    AutoNormal,
    AutoNormalizingFlow,
    AutoStructured,
)


def _flow(model: Callable[..., Any]) -> AutoGuide:
    """A neural autoregressive flow over all latents together (Huang et al. 2018)."""
    return AutoNormalizingFlow(model, partial(iterated, 1, neural_autoregressive))


# Each takes a model and makes a guide of all its continuous latents. "auto-laplace" is trained as a point, the mode,
# and becomes the Gaussian around it afterwards (ppl_vae.compare does so; else call its laplace_approximation).
AUTOGUIDES: dict[str, Callable[[Callable[..., Any]], AutoGuide]] = {
    "auto-delta": AutoDelta,
    "auto-normal": AutoNormal,
    "auto-diagonal": AutoDiagonalNormal,
    "auto-low-rank": AutoLowRankMultivariateNormal,
    "auto-mvn": AutoMultivariateNormal,
    "auto-iaf": AutoIAFNormal,
    "auto-flow": _flow,
    "auto-structured": AutoStructured,
    "auto-laplace": AutoLaplaceApproximation,
}
