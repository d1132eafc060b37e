"""Latent-variable models as Pyro programs, guides that can be swapped, and how tight each ELBO is."""

from ppl_vae.checks import check
from ppl_vae.comparison import Comparison, compare
from ppl_vae.datasets import Images, load
from ppl_vae.errors import InputError
from ppl_vae.gradients import gradient_statistics
from ppl_vae.iwelbo import bounds
from ppl_vae.log_weights import log_weights
from ppl_vae.maximum_likelihood import EarlyStopping, ExactEvidence, Start, best_of, no_guide
from ppl_vae.optimizers import cooldown, cosine
from ppl_vae.programs import Guide, LatentVariableModel
from ppl_vae.reference import reference_gradient
from ppl_vae.refinement import refine
from ppl_vae.tightness import generalization, tightness
from ppl_vae.training import History, fit, freeze

__all__ = [
    "Comparison",
    "EarlyStopping",
    "ExactEvidence",
    "Guide",
    "History",
    "Images",
    "InputError",
    "LatentVariableModel",
    "Start",
    "best_of",
    "bounds",
    "check",
    "compare",
    "cooldown",
    "cosine",
    "fit",
    "freeze",
    "generalization",
    "gradient_statistics",
    "load",
    "log_weights",
    "no_guide",
    "reference_gradient",
    "refine",
    "tightness",
]
