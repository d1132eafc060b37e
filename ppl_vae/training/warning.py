"""Warnings that point at the user's line, however deep the helper lies that has something to say."""

import inspect
import warnings


def warn_caller(message: str, category: type[Warning] = UserWarning) -> None:
    """Warns at the nearest line outside this package that led here: the one that called ``fit``, most often."""
    level, frame = 1, inspect.currentframe()
    while frame is not None and str(frame.f_globals.get("__name__")).partition(".")[0] == "ppl_vae":
        level, frame = level + 1, frame.f_back
    warnings.warn(message, category, stacklevel=level)
