"""Latent-variable models as Pyro programs, guides that can be swapped, and how tight each ELBO is."""

from ppl_vae.data.images import Images, load
from ppl_vae.errors import InputError
from ppl_vae.evidence import annealed, sandwich
from ppl_vae.measure.arviz import posterior_predictive, to_arviz
from ppl_vae.measure.bounds import bounds
from ppl_vae.measure.comparison import Comparison, compare
from ppl_vae.measure.gradients import gradient_statistics
from ppl_vae.measure.information import information
from ppl_vae.measure.nuts import nuts
from ppl_vae.measure.posterior import posterior, posterior_quality
from ppl_vae.measure.reference import reference_gradient
from ppl_vae.measure.refinement import refine
from ppl_vae.measure.simulated import simulation_based_calibration
from ppl_vae.measure.tightness import generalization, tightness
from ppl_vae.pairs.checks import check
from ppl_vae.pairs.log_weights import log_weights
from ppl_vae.programs import Guide, LatentVariableModel
from ppl_vae.training.capture import CaptureWarning
from ppl_vae.training.fit import History, fit, freeze
from ppl_vae.training.optimizers import cooldown, cosine
from ppl_vae.training.several_starts import EarlyStopping, LogEvidence, Start, best_of, no_guide

__all__ = [
    "CaptureWarning",
    "Comparison",
    "EarlyStopping",
    "Guide",
    "History",
    "Images",
    "InputError",
    "LatentVariableModel",
    "LogEvidence",
    "Start",
    "annealed",
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
    "information",
    "load",
    "log_weights",
    "no_guide",
    "nuts",
    "posterior",
    "posterior_predictive",
    "posterior_quality",
    "reference_gradient",
    "refine",
    "sandwich",
    "simulation_based_calibration",
    "tightness",
    "to_arviz",
]
