"""What is asked of the options of a measurement before it starts, since trainings may stand before it."""

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ppl_vae.errors import InputError, require_count, shown
from ppl_vae.evidence.path import path_of
from ppl_vae.measure.bounds import whole_numbers
from ppl_vae.measure.refinement import require_refinement

EVIDENCE = ("auto", "exact", "importance", "annealed")


def require_source(source: Any) -> None:
    """Raises InputError where log p(x) is to come from nowhere that is known."""
    if source not in EVIDENCE:
        raise InputError(f"evidence is {shown(source)}; choose from {', '.join(EVIDENCE)}")


def require_measurable(
    particles: Any, curve: Iterable[int] | None, evidence: Any, annealing: Any, refinement: Any
) -> list[int] | None:
    """Raises InputError for what :func:`ppl_vae.tightness` can't be asked; returns the values of K, None where open."""
    require_count("particles", particles, 2)
    require_source(evidence)
    _require_options("annealing", annealing, path_of)
    _require_options("refinement", refinement, require_refinement)
    return None if curve is None else whole_numbers("curve", curve)


def _require_options(name: str, options: Any, ask: Callable[..., object]) -> None:
    """Asks a function that takes the options, and raises InputError where they are none."""
    if options is None:
        return
    known = inspect.signature(ask).parameters
    if not isinstance(options, Mapping):
        raise InputError(f"{name} is {shown(options)}; expected its options by name, {', '.join(known)}")
    for option in options:
        if option not in known:
            raise InputError(f"{name} has no option {shown(option)}; choose from {', '.join(known)}")
    ask(**options)
