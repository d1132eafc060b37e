"""The models: one file each, one line here each. ``MODELS`` holds them by the command line's names."""

from ppl_vae.models.linear_gaussian import LinearGaussian
from ppl_vae.models.vae import VAE

MODELS = {"vae": VAE, "linear-gaussian": LinearGaussian}

__all__ = ["MODELS", "VAE", "LinearGaussian"]
