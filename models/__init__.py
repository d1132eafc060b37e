"""The models: one idea a file, one line here each. ``MODELS`` holds them by the command line's names."""

from ppl_vae.models.conditional_vae import ConditionalVAE
from ppl_vae.models.discrete_vae import BernoulliVAE, CategoricalVAE
from ppl_vae.models.gaussian_mixture import COVARIANCES, GaussianMixture
from ppl_vae.models.linear_gaussian import LinearGaussian
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

__all__ = [
    "COVARIANCES",
    "MODELS",
    "VAE",
    "BernoulliVAE",
    "CategoricalVAE",
    "ConditionalVAE",
    "GaussianMixture",
    "LinearGaussian",
    "MixtureDensityNetwork",
    "TwoLayerVAE",
]
