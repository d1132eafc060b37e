"""Everything that runs a pair on data, as functions of model, guide and data, in as few draws as each takes."""

from functools import partial

from ppl_vae import bounds, fit, gradient_statistics, log_weights, reference_gradient, tightness
from ppl_vae.evidence import annealed
from ppl_vae.measure.information import information


def measures(elbo):
    """By name; gradients are those of an ELBO of this class."""
    return {
        "fit": partial(fit, epochs=1, progress=False),
        "log_weights": log_weights,
        "bounds": partial(bounds, particles=20),
        "tightness": partial(tightness, particles=30),
        "information": partial(information, particles=5),
        "annealed": lambda model, guide, x: annealed(model, guide, x, steps=3, chains=2),
        "gradient_statistics": lambda model, guide, x: gradient_statistics(model, guide, x, elbo=elbo(), draws=10),
        "reference_gradient": partial(reference_gradient, draws=10),
    }
