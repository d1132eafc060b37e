"""Latent-variable models as Pyro programs, guides that can be swapped, and how tight each ELBO is.

Its names are imported where they are first asked for, so that what needs neither torch nor Pyro starts at once.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ppl_vae.data.images import Images, load
    from ppl_vae.errors import InputError
    from ppl_vae.evidence import annealed, sandwich
    from ppl_vae.measure.arviz import posterior_predictive, to_arviz
    from ppl_vae.measure.bounds import bounds
    from ppl_vae.measure.comparison import compare
    from ppl_vae.measure.gradients import gradient_statistics
    from ppl_vae.measure.information import information
    from ppl_vae.measure.nuts import nuts
    from ppl_vae.measure.posterior import posterior, posterior_quality
    from ppl_vae.measure.reference import reference_gradient
    from ppl_vae.measure.refinement import refine
    from ppl_vae.measure.remaining import remaining
    from ppl_vae.measure.side_by_side import Comparison
    from ppl_vae.measure.simulated import simulation_based_calibration
    from ppl_vae.measure.tightness import generalization, tightness
    from ppl_vae.pairs.checks import check
    from ppl_vae.pairs.log_weights import log_weights
    from ppl_vae.programs import Guide, LatentVariableModel
    from ppl_vae.runs.opened import Run, open_run
    from ppl_vae.runs.pairs import load_pair, save_pair
    from ppl_vae.training.capture import CaptureWarning
    from ppl_vae.training.converged import Converged
    from ppl_vae.training.fit import History, fit, freeze
    from ppl_vae.training.health import TrainingWarning
    from ppl_vae.training.objective import cyclical, warm_up
    from ppl_vae.training.optimizers import cooldown, cosine
    from ppl_vae.training.patience import Patience
    from ppl_vae.training.several_starts import LogEvidence, Start, best_of, no_guide
    from ppl_vae.training.stopping import StoppingRule
    from ppl_vae.training.trackers import CSVTracker, TensorBoardTracker, Tracker

__all__ = [
    "CSVTracker",
    "CaptureWarning",
    "Comparison",
    "Converged",
    "Guide",
    "History",
    "Images",
    "InputError",
    "LatentVariableModel",
    "LogEvidence",
    "Patience",
    "Run",
    "Start",
    "StoppingRule",
    "TensorBoardTracker",
    "Tracker",
    "TrainingWarning",
    "annealed",
    "best_of",
    "bounds",
    "check",
    "compare",
    "cooldown",
    "cosine",
    "cyclical",
    "fit",
    "freeze",
    "generalization",
    "gradient_statistics",
    "information",
    "load",
    "load_pair",
    "log_weights",
    "no_guide",
    "nuts",
    "open_run",
    "posterior",
    "posterior_predictive",
    "posterior_quality",
    "reference_gradient",
    "refine",
    "remaining",
    "sandwich",
    "save_pair",
    "simulation_based_calibration",
    "tightness",
    "to_arviz",
    "warm_up",
]

_HOMES = {
    "CSVTracker": "ppl_vae.training.trackers",
    "CaptureWarning": "ppl_vae.training.capture",
    "Comparison": "ppl_vae.measure.side_by_side",
    "Converged": "ppl_vae.training.converged",
    "Guide": "ppl_vae.programs",
    "History": "ppl_vae.training.fit",
    "Images": "ppl_vae.data.images",
    "InputError": "ppl_vae.errors",
    "LatentVariableModel": "ppl_vae.programs",
    "LogEvidence": "ppl_vae.training.several_starts",
    "Patience": "ppl_vae.training.patience",
    "Run": "ppl_vae.runs.opened",
    "Start": "ppl_vae.training.several_starts",
    "StoppingRule": "ppl_vae.training.stopping",
    "TensorBoardTracker": "ppl_vae.training.trackers",
    "Tracker": "ppl_vae.training.trackers",
    "TrainingWarning": "ppl_vae.training.health",
    "annealed": "ppl_vae.evidence",
    "best_of": "ppl_vae.training.several_starts",
    "bounds": "ppl_vae.measure.bounds",
    "check": "ppl_vae.pairs.checks",
    "compare": "ppl_vae.measure.comparison",
    "cooldown": "ppl_vae.training.optimizers",
    "cosine": "ppl_vae.training.optimizers",
    "cyclical": "ppl_vae.training.objective",
    "fit": "ppl_vae.training.fit",
    "freeze": "ppl_vae.training.fit",
    "generalization": "ppl_vae.measure.tightness",
    "gradient_statistics": "ppl_vae.measure.gradients",
    "information": "ppl_vae.measure.information",
    "load": "ppl_vae.data.images",
    "load_pair": "ppl_vae.runs.pairs",
    "log_weights": "ppl_vae.pairs.log_weights",
    "no_guide": "ppl_vae.training.several_starts",
    "nuts": "ppl_vae.measure.nuts",
    "open_run": "ppl_vae.runs.opened",
    "posterior": "ppl_vae.measure.posterior",
    "posterior_predictive": "ppl_vae.measure.arviz",
    "posterior_quality": "ppl_vae.measure.posterior",
    "reference_gradient": "ppl_vae.measure.reference",
    "refine": "ppl_vae.measure.refinement",
    "remaining": "ppl_vae.measure.remaining",
    "sandwich": "ppl_vae.evidence",
    "save_pair": "ppl_vae.runs.pairs",
    "simulation_based_calibration": "ppl_vae.measure.simulated",
    "tightness": "ppl_vae.measure.tightness",
    "to_arviz": "ppl_vae.measure.arviz",
    "warm_up": "ppl_vae.training.objective",
}


if not TYPE_CHECKING:  # for which any name would be one, a mistyped one too

    def __getattr__(name: str) -> Any:
        if name in _HOMES:
            globals()[name] = found = getattr(import_module(_HOMES[name]), name)
            return found
        if not name.startswith("_"):  # `__main__` would run the command line
            module = f"{__name__}.{name}"
            try:
                return import_module(module)
            except ModuleNotFoundError as error:
                if error.name != module:
                    raise
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
