"""Whether log-weights can be trusted: Pareto-smoothed importance sampling's k-hat and the effective sample size."""

import math
import warnings
from typing import Any

import numpy as np
from torch import Tensor

from ppl_vae.errors import InputError

CLASSES = ("good", "bad", "very bad")
_EVEN = 1e-3  # weights that differ by less than a thousandth have no tail


def pareto_k(log_weights: Tensor) -> np.ndarray:
    """Returns each data point's k-hat, the shape of its largest weights' tail.

    The log-weights have shape (particles, batch).

    The error of an importance-weighted estimate falls as it should where k-hat is under :func:`khat_threshold`
    (Vehtari et al. 2024). ArviZ fits it; weights that are all but equal get 0, and it is infinite where there are too
    few particles to tell, or no finite weight.
    """
    raw = log_weights.detach().double().cpu().numpy().T
    khat = np.full(len(raw), np.inf)
    finite = np.isfinite(raw.max(1))
    if finite.any():
        khat[finite] = _smoothed(raw[finite])[1]
    return khat


def smoothed(log_weights: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Smooths the tail of log-weights, by ArviZ: normalized, shape (particles, batch), and k-hat, shape (batch,)."""
    raw = log_weights.detach().double().cpu().numpy().T
    if not np.isfinite(raw.max(1)).all():
        raise InputError("the log-weights of a data point are all -inf or NaN: its k-hat can't be told")
    weights, khat = _smoothed(raw)
    return weights.T, khat


def _smoothed(raw: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    weights = raw - np.logaddexp.reduce(raw, axis=1, keepdims=True)
    khat = np.zeros(len(raw))
    uneven = np.ptp(raw, axis=1) > _EVEN
    if uneven.any():
        weights[uneven], khat[uneven] = _psislw(raw[uneven])
    return weights, khat


def tail_length(particles: int) -> int:
    """Says how many of the largest weights are the tail: min(S / 5, 3 sqrt(S)) (Vehtari et al. 2024, section 6)."""
    return min(max(1, math.ceil(min(particles / 5, 3 * math.sqrt(particles)))), particles - 1)


def khat_threshold(particles: int) -> float:
    """Returns the k-hat below which S weights are good: min(1 - 1 / log10(S), 0.7) (Vehtari et al. 2024, eq. 13)."""
    return min(1 - 1 / math.log10(particles), 0.7) if particles > 10 else 0.0


def shares(khat: Any, threshold: float) -> dict[str, float]:
    """Returns the share of data points whose k-hat is good (under the threshold), bad (up to 1) and very bad."""
    values = np.asarray(khat)
    if np.isnan(values).any():
        return dict.fromkeys(CLASSES, math.nan)
    good, very_bad = float((values < threshold).mean()), float((values > 1).mean())
    return {"good": good, "bad": 1 - good - very_bad, "very bad": very_bad}


def effective_sample_size(log_weights: Tensor) -> np.ndarray:
    """Returns (sum w)^2 / sum w^2 of log-weights of shape (particles, batch), shape (batch,) (Kong 1992)."""
    weights = log_weights.double()
    return (2 * weights.logsumexp(0) - (2 * weights).logsumexp(0)).exp().cpu().numpy()


def _psislw(log_weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Calls ArviZ's psislw, which lies in a package of its own from 1.x on."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # ArviZ 0.23 announces its successor when it is imported
        try:
            from arviz import psislw
        except ImportError:
            from arviz_stats.base import array_stats

            return _one_by_one(array_stats.psislw, log_weights)
        return psislw(log_weights)


def _one_by_one(psislw: Any, log_weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Calls psislw of ArviZ 1.x row by row, which takes minus the log-weights.

    It raises where 0.23 gives infinity: for a tail of under 5, or of equals.
    """
    smooth, khat = log_weights - np.logaddexp.reduce(log_weights, axis=1, keepdims=True), np.empty(len(log_weights))
    for row, values in enumerate(log_weights):
        try:
            smooth[row], khat[row] = psislw(-values, axis=-1)
        except ValueError:
            khat[row] = np.inf
    return smooth, khat
