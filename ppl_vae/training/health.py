"""What is wrong with a training, in one sentence each: what was found, what it means, what to do; "" where all is well.

The figures come from :mod:`ppl_vae.training.looking` and from the curve; nothing here runs a pair.
"""

import math
from collections.abc import Sequence

import numpy as np

ACTIVE = 0.01  # the variance over the data above which a unit is active: Burda et al. 2015, section 5.1
_NO_RATE = 0.1  # nats; any unit that is clearly active carries more
_RELATED = 1.5  # how far the largest principal component must stand out of that of columns without any relation
_NARROW, _WIDE = 1e-3, 30.0  # the likelihood's scale in units of the data's spread
_FEW_EPOCHS = 10  # that make no straight line
_FALL, _LOSS, _RISE = 0.25, 0.05, 0.002  # shares of the gain and of the ELBO
_STRAIGHT, _BENT = 0.75, 0.3
_BURST, _BARELY = 10.0, 0.2  # times the first step's ELBO
_REACH = 0.02  # a parameter that has moved by less is as it was
_FEW_STEPS = 50


class TrainingWarning(UserWarning):
    """Says what looks wrong with a training that has ended, and what to do about it.

    ``warnings.filterwarnings("ignore", category=TrainingWarning)`` silences it.

    Examples:
        >>> import warnings
        >>> from ppl_vae import TrainingWarning
        >>> warnings.filterwarnings("error", category=TrainingWarning)  # a test that fails where a training is sick
    """


def unreached(names: Sequence[str]) -> str:
    """Says that no gradient reaches a guide of these parameters, while it reaches the model."""
    if not names:
        return ""
    many = f"{names[0]} and {len(names) - 1} more" if len(names) > 1 else names[0]
    return (
        f"no gradient reaches the guide ({many}), so it stays as it is and only the model is trained: use its "
        "parameters in the guide's distributions without detach() or no_grad(), or freeze(guide) if this is meant"
    )


def collapsed(rate: float, active: int, units: int | None, relation: float, constant: bool = False) -> str:
    """Says that z tells nothing about x, where the columns of x have something in common that z could tell.

    Args:
        rate: the mean of log q(z | x) - log p(z), nats per data point.
        active: the coordinates of z whose posterior mean varies over the data.
        units: the coordinates of z, None where they were not counted.
        relation: the largest principal component of the data, in units of that of columns without any relation.
        constant: whether q(z | x) is known to be the same for all x, though it need not be the prior.
    """
    if active or relation < _RELATED or not (constant or abs(rate) < _NO_RATE):
        return ""
    latents = "no latent" if units is None else f"0 of {units} latents"
    found = (
        f"posterior collapse: the guide gives the same q(z | x) whatever x is (rate {abs(rate):.2g} nats per data "
        f"point, {latents} active), so z says nothing about x"
    )
    if abs(rate) >= _NO_RATE:
        return (
            f"{found}: it is not the prior, so the guide makes no use of x or large steps have broken its encoder: "
            "begin anew with a lower lr"
        )
    return (
        f"{found}: if more epochs don't change it, start with a small weight on the KL (kl_weight=warm_up(0.8)), let z "
        "carry some bits at no cost (free_bits=0.1), lower lr, or take a weaker decoder"
    )


def noise_of(site: str, ratio: float, columns: int, of: int) -> str:
    """Says that a likelihood's learned scale has run to 0 or infinity.

    Args:
        site: the observed site.
        ratio: its scale in units of the data's spread, in the column where it is the furthest from it.
        columns: in how many columns it is so far off.
        of: how many there are.
    """
    where = f" in {columns} of {of} columns" if of > 1 else ""
    if ratio < _NARROW:
        return (
            f"the likelihood's scale of {site!r} runs to 0 (it is {ratio:.1g} of the data's spread{where}), and the "
            "ELBO with it to infinity, where it measures nothing: add a floor to the scale (scale + 0.01, say), and "
            "leave columns that are constant or follow from others out"
        )
    if ratio > _WIDE:
        return (
            f"the likelihood's scale of {site!r} is {ratio:.2g} times the data's spread{where}, so that all data look "
            "alike to the model: give fit standardized data, (x - x.mean(0)) / x.std(0), or start the scale at their "
            "spread, and look for a loc that runs away"
        )
    return ""


def is_off(ratio: float) -> bool:
    """Says whether :func:`noise_of` has something to say of a scale."""
    return not _NARROW <= ratio <= _WIDE


def rate_too_high(curve: Sequence[float], start: float | None, steps: int, rate: float | None = None) -> str:
    """Says that the steps are too large: the curve ends below where it began, or has fallen from its best.

    Args:
        curve: the ELBO by epoch, nats per data point.
        start: that of the first step, before anything was changed; None where it is not known.
        steps: in an epoch.
        rate: the learning rate, None where there is no single one.
    """
    if not curve or not np.isfinite(curve).all():
        return ""
    advice = f"the steps are too large: lower lr{_known(rate)} to a tenth, or give fit a falling schedule=cosine"
    last = float(np.mean(curve[-max(1, len(curve) // 10) :]))
    noise = _noise(curve)
    if start is not None and math.isfinite(start):
        unit = max(1.0, abs(start))
        if start - last > min(0.1 * unit + 5 * noise * math.sqrt(steps), 1.1 * unit):
            return (
                f"the training ELBO ends at {last:.4g} nats per data point, below the {start:.4g} of the first step, "
                f"before anything was learned; {advice}"
            )
        if start - min(curve) > _BURST * unit and last < start + _BARELY * unit:
            return (
                f"the training ELBO fell from {start:.4g} in the first step to {min(curve):.4g} nats per data point in "
                f"epoch {int(np.argmin(curve)) + 1} and ends at {last:.4g}; {advice}"
            )
    if len(curve) < 5:
        return ""
    parts = np.array([part.mean() for part in np.array_split(curve, min(len(curve), 20))])
    best, began = float(parts[:-1].max()), float(parts[0]) if start is None else min(start, float(parts[0]))
    size = max(1.0, abs(best))
    if best - parts[-1] > max(_FALL * (best - began), _LOSS * size, 6 * noise * math.sqrt(len(parts) / len(curve))):
        return (
            f"the training ELBO fell from {best:.4g} to {parts[-1]:.4g} nats per data point and stayed there; {advice}"
        )
    return ""


def rate_too_low(curve: Sequence[float], rate: float | None = None) -> str:
    """Says that the curve rises in a straight line to its end: the steps are too small, or too few."""
    if len(curve) < _FEW_EPOCHS or not np.isfinite(curve).all():
        return ""
    parts = [float(part.mean()) for part in np.array_split(curve, 6)]
    first, before, now = parts[2] - parts[0], parts[3] - parts[1], parts[5] - parts[3]
    noise = _noise(curve) * math.sqrt(2 * 6 / len(curve))
    if parts[5] - parts[0] < 6 * noise or now < max(_RISE * max(1.0, abs(parts[5])), 3 * noise):
        return ""
    if now < _STRAIGHT * before or before < _BENT * first:
        return ""
    return (
        f"the training ELBO still rises as fast at its end as before ({now:.3g} nats per data point in the last third "
        f"of {len(curve)} epochs, {before:.3g} in the third before), so the training is far from done: raise "
        f"lr{_known(rate)} or epochs"
    )


def unmoved(reach: float, steps: int, epochs: int, rate: float | None) -> str:
    """Says that no parameter can have moved by more than very little.

    Args:
        reach: how far the optimizer's steps reach together; infinity where it is not known.
        steps: how many there were.
        epochs: likewise.
        rate: the learning rate.
    """
    if reach > _REACH or steps < _FEW_STEPS or epochs < _FEW_EPOCHS:
        return ""
    return (
        f"{steps} steps of lr={rate:g} move a parameter by about {reach:.1g} at most, so hardly anything is learned: "
        "raise lr (Adam's usual one is 0.001) or epochs"
    )


def _known(rate: float | None) -> str:
    return "" if rate is None else f" (it was {rate:g})"


def _noise(curve: Sequence[float]) -> float:
    """Returns the standard deviation of an epoch's ELBO around a smooth curve; infinity where it can't be told."""
    if len(curve) < 5:
        return math.inf
    bends = np.abs(np.diff(curve[len(curve) // 4 :], 2))
    return float(np.median(bends)) / (0.6745 * math.sqrt(6))
