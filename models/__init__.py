"""The models: one idea a file, one line here each.

``MODELS`` holds those with latents of each data point by the command line's names, ``BAYESIAN_MODELS`` those with
latents that all the data share.
"""

from ppl_vae.models.bayesian import BayesianModel
from ppl_vae.models.bayesian_mixture import BayesianMixture
from ppl_vae.models.conditional_vae import ConditionalVAE
from ppl_vae.models.discrete_vae import BernoulliVAE, CategoricalVAE
from ppl_vae.models.eight_schools import EightSchools
from ppl_vae.models.gaussian_mixture import COVARIANCES, GaussianMixture
from ppl_vae.models.hierarchical_poisson import HierarchicalPoisson
from ppl_vae.models.item_response import ItemResponse
from ppl_vae.models.linear_gaussian import LinearGaussian
from ppl_vae.models.linear_regression import LinearRegression
from ppl_vae.models.logistic_regression import LogisticRegression
from ppl_vae.models.mixture_density_network import MixtureDensityNetwork
from ppl_vae.models.two_layer_vae import TwoLayerVAE
from ppl_vae.models.vae import VAE
from ppl_vae.programs import LatentVariableModel

MODELS: dict[str, type[LatentVariableModel]] = {
    "vae": VAE,
    "conditional-vae": ConditionalVAE,
    "two-layer-vae": TwoLayerVAE,
    "bernoulli-vae": BernoulliVAE,
    "categorical-vae": CategoricalVAE,
    "linear-gaussian": LinearGaussian,
    "gaussian-mixture": GaussianMixture,
    "mixture-density-network": MixtureDensityNetwork,
}

BAYESIAN_MODELS: dict[str, type[BayesianModel]] = {
    "linear-regression": LinearRegression,
    "logistic-regression": LogisticRegression,
    "eight-schools": EightSchools,
    "hierarchical-poisson": HierarchicalPoisson,
    "bayesian-mixture": BayesianMixture,
    "item-response": ItemResponse,
}

__all__ = [
    "BAYESIAN_MODELS",
    "COVARIANCES",
    "MODELS",
    "VAE",
    "BayesianMixture",
    "BayesianModel",
    "BernoulliVAE",
    "CategoricalVAE",
    "ConditionalVAE",
    "EightSchools",
    "GaussianMixture",
    "HierarchicalPoisson",
    "ItemResponse",
    "LinearGaussian",
    "LinearRegression",
    "LogisticRegression",
    "MixtureDensityNetwork",
    "TwoLayerVAE",
]
