"""How good a guide's posterior is: its draws held against a reference's, parameter by parameter and jointly."""

from typing import Any

import numpy as np
import torch
import xarray as xr

from ppl_vae.errors import InputError
from ppl_vae.measure.draws import components, constant, effective_draws, posterior_draws
from ppl_vae.pairs.psis import khat_threshold, smoothed

_DIRECTIONS = 200
_FEWEST_WEIGHTS = 25  # the tail of fewer can't be smoothed


def compare_draws(draws: Any, reference: Any, log_weights: Any = None) -> xr.Dataset:
    """Holds a guide's draws against a reference's (of NUTS, say): moments, and how far apart the distributions lie.

    A tight ELBO alone does not tell how far means and standard deviations are off (Huggins et al. 2020); this does, in
    units of the reference's posterior standard deviation. Parameters that one of the two lacks, and components that
    don't vary in the reference, are left out and named.

    Args:
        draws: independent draws of the guide, as :func:`ppl_vae.measure.draws.posterior_draws` takes them.
        reference: draws of the posterior, in as many chains as there are; likewise.
        log_weights: log p(x, z) - log q(z | x) of the draws in nats, up to a constant, in their order (chain after
            chain), any shape with as many numbers as draws. With them the corrected figures are added.

    Returns:
        With the dimension ``parameter``, whose labels are "mu", "theta[3]" (counted from 0) and so on:

        ``mean``, ``sd``, ``reference_mean``, ``reference_sd``: in the model's units.

        ``mean_difference``: (mean - reference_mean) / reference_sd, in posterior standard deviations.

        ``log_sd_ratio``: log(sd / reference_sd); below 0 where the guide is too narrow.

        ``mean_difference_se``, ``log_sd_ratio_se``: their Monte Carlo standard errors by the delta method, of the draws
        as independent ones and of the reference with the effective sample sizes of its chains, for the mean and for the
        squared deviations (Vehtari et al. 2021). NaN for a guide without any spread.

        Without a dimension: ``sliced_wasserstein``, the root mean square over 200 fixed random directions of the
        2-Wasserstein distance of the projected draws (Bonneel et al. 2015), each component standardized by the
        reference's mean and standard deviation: draws that are only shifted get the root mean square of
        ``mean_difference``. It is never zero; ``sliced_wasserstein_floor`` is the same distance of one half of the
        reference (its first chains, or the first half of a single one; thinned to as many as there are draws) from the
        other half: what is not above it can't be told from zero.

        With log-weights also: ``khat``, the shape of the weights' tail, and ``khat_threshold``, below which Pareto-
        smoothed weights are good (Yao et al. 2018, section 3.1; Vehtari et al. 2024); ``corrected_mean``,
        ``corrected_sd`` and ``corrected_mean_difference`` (parameter), with the draws weighted so, and
        ``corrected_mean_difference_se``, by self-normalized importance sampling. That error is NaN where ``khat`` is
        not below the threshold (it is infinite where fewer than 25 weights are above 0): neither the weights nor the
        corrected figures can be trusted.

        Attribute ``left_out``: what was not compared.

    Raises:
        InputError: for draws that can't be read, no common parameter that varies, a parameter of two shapes, or
            log-weights that are too few, not numbers, or of another number than the draws.

    Examples:
        >>> import numpy as np
        >>> from ppl_vae.measure.posterior_quality import compare_draws
        >>> numbers = np.random.default_rng(0)
        >>> reference = {"mu": numbers.normal(size=(4, 1000)), "theta": numbers.normal(size=(4, 1000, 2))}
        >>> guide = {"mu": numbers.normal(1.0, 0.5, size=(1, 1000)), "theta": numbers.normal(size=(1, 1000, 2))}
        >>> found = compare_draws(guide, reference)
        >>> found.parameter.values.tolist()
        ['mu', 'theta[0]', 'theta[1]']
        >>> found.mean_difference.values.round(1).tolist(), found.log_sd_ratio.values.round(1).tolist()
        ([1.0, 0.0, 0.0], [-0.7, 0.0, 0.0])
    """
    labels, ours, theirs, left_out = paired(draws, reference)
    flat = ours.reshape(-1, len(labels))
    weights = None if log_weights is None else _log_weights(log_weights, len(flat))
    mean, mean_error, sd, log_sd_error = _moments(
        flat, np.full(len(labels), len(flat)), np.full(len(labels), len(flat))
    )
    spread = (theirs - theirs.mean((0, 1))) ** 2
    reference_moments = _moments(theirs.reshape(-1, len(labels)), effective_draws(theirs), effective_draws(spread))
    columns = {"mean": mean, "sd": sd, "reference_mean": reference_moments[0], "reference_sd": reference_moments[2]}
    columns |= _difference("", mean, mean_error, reference_moments)
    with np.errstate(divide="ignore"):
        columns["log_sd_ratio"] = np.log(sd / reference_moments[2])
    columns["log_sd_ratio_se"] = np.hypot(log_sd_error, reference_moments[3])
    distance, floor = _distances(flat, theirs)
    scalars = {"sliced_wasserstein": distance, "sliced_wasserstein_floor": floor}
    if weights is not None:
        normalized, khat, threshold = _smoothed(weights)
        columns |= _corrected(flat, normalized, khat < threshold, reference_moments)
        scalars |= {"khat": khat, "khat_threshold": threshold}
    found = xr.Dataset({name: ("parameter", values) for name, values in columns.items()}, coords={"parameter": labels})
    return found.assign(scalars).assign_attrs(left_out=left_out, draws=len(flat))


def paired(draws: Any, reference: Any) -> tuple[list[str], np.ndarray, np.ndarray, str]:
    """Finds the components that draws and reference share and that vary in the reference.

    Returns:
        Their labels, both as arrays of shape (chains, draws, components), and what is left out, in words.

    Examples:
        >>> import numpy as np
        >>> from ppl_vae.measure.posterior_quality import paired
        >>> mu = np.random.default_rng(0).normal(size=(1, 100))
        >>> labels, _, _, left_out = paired({"mu": mu, "eta": mu}, {"mu": mu, "one": np.ones((1, 100))})
        >>> labels, left_out
        (['mu'], 'eta (not in the reference), one (not in the draws)')
    """
    ours, theirs = posterior_draws(draws), posterior_draws(reference)
    common = [name for name in theirs if name in ours]
    left_out = [f"{name} (not in the reference)" for name in ours if name not in theirs]
    left_out += [f"{name} (not in the draws)" for name in theirs if name not in ours]
    if not common:
        raise InputError(
            f"the draws hold {', '.join(map(str, ours))}, the reference {', '.join(map(str, theirs))}: none is common"
        )
    for name in common:
        shapes = [found[name].shape[2:] for found in (ours, theirs)]
        if shapes[0] != shapes[1]:
            raise InputError(f"{name!r} has shape {shapes[0]} in the draws and {shapes[1]} in the reference")
    labels, expected = components(theirs[common])
    values = components(ours[common])[1]
    still = constant(expected)
    left_out += [f"{label} (constant)" for label, fixed in zip(labels, still, strict=True) if fixed]
    if still.all():
        raise InputError(f"nothing varies in the reference: {', '.join(labels)}")
    kept = [label for label, fixed in zip(labels, still, strict=True) if not fixed]
    return kept, values[:, :, ~still], expected[:, :, ~still], ", ".join(left_out)


Moments = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def _moments(flat: np.ndarray, of_mean: np.ndarray, of_square: np.ndarray) -> Moments:
    """Returns mean, its error, sd and the error of log sd, from the numbers of independent draws that these are worth.

    The variance of a sample variance is (fourth central moment - sd^4) / draws, and d log sd = d variance / (2 sd^2).
    """
    mean, sd = flat.mean(0), np.where(constant(flat), 0.0, flat.std(0, ddof=1))
    with np.errstate(divide="ignore", invalid="ignore"):
        kurtosis = ((flat - mean) ** 4).mean(0) / sd**4
        return mean, sd / np.sqrt(of_mean), sd, np.sqrt((kurtosis - 1).clip(0) / of_square) / 2


def _difference(prefix: str, mean: np.ndarray, error: np.ndarray, reference: Moments) -> dict[str, np.ndarray]:
    """Returns the difference of means in reference sds, with its error, that of the unit included."""
    center, center_error, unit, log_unit_error = reference
    difference = (mean - center) / unit
    total = np.sqrt((error**2 + center_error**2) / unit**2 + (difference * log_unit_error) ** 2)
    return {f"{prefix}mean_difference": difference, f"{prefix}mean_difference_se": total}


def _corrected(flat: np.ndarray, weights: np.ndarray, trusted: bool, reference: Moments) -> dict[str, np.ndarray]:
    """Returns the moments under normalized weights; the error of a self-normalized mean is by the delta method."""
    mean = weights @ flat
    deviations = flat - mean
    error = np.sqrt(weights**2 @ deviations**2)
    columns = {"corrected_mean": mean, "corrected_sd": np.sqrt(weights @ deviations**2)}
    columns |= _difference("corrected_", mean, error if trusted else np.full_like(mean, np.nan), reference)
    return columns


def _smoothed(log_weights: np.ndarray) -> tuple[np.ndarray, float, float]:
    """Returns Pareto-smoothed normalized weights, k-hat and its threshold; draws of weight 0 have no part in them.

    ArviZ's versions differ on weights of 0, and some fit a tail to five equal ones.
    """
    positive = np.isfinite(log_weights)
    weights = np.zeros(len(log_weights))
    if positive.sum() < _FEWEST_WEIGHTS:
        weights[positive] = np.exp(log_weights[positive] - np.logaddexp.reduce(log_weights[positive]))
        return weights, np.inf, khat_threshold(int(positive.sum()))
    normalized, khat = smoothed(torch.as_tensor(log_weights[positive][:, None]))
    weights[positive] = np.exp(normalized[:, 0])
    return weights, float(khat[0]), khat_threshold(int(positive.sum()))


def _log_weights(log_weights: Any, draws: int) -> np.ndarray:
    """Returns log-weights as one array, one for each draw."""
    if isinstance(log_weights, torch.Tensor):
        log_weights = log_weights.detach().cpu().numpy()
    weights = np.asarray(log_weights, dtype=np.float64).reshape(-1)
    if len(weights) != draws:
        raise InputError(f"there are {len(weights)} log-weights and {draws} draws; one is needed for each draw")
    if draws < _FEWEST_WEIGHTS:
        raise InputError(f"there are {draws} draws; the tail of fewer than {_FEWEST_WEIGHTS} weights can't be smoothed")
    if np.isnan(weights).any() or not np.isfinite(weights.max()):
        raise InputError("the log-weights have NaN or +inf among them, or nothing but -inf")
    return weights


def _distances(flat: np.ndarray, theirs: np.ndarray) -> tuple[float, float]:
    """Returns the sliced distance of draws from the reference, and of one half of the reference from the other."""
    chains, length, count = theirs.shape
    whole = theirs.reshape(-1, count)
    center, unit = whole.mean(0), whole.std(0, ddof=1)
    halves = (
        (theirs[: chains // 2], theirs[chains // 2 :])
        if chains > 1
        else (theirs[:, : length // 2], theirs[:, length // 2 :])
    )
    one, other = ((half.reshape(-1, count) - center) / unit for half in halves)
    if len(flat) < len(one):
        one = one[np.linspace(0, len(one) - 1, len(flat)).astype(int)]
    return sliced_wasserstein((flat - center) / unit, (whole - center) / unit), sliced_wasserstein(one, other)


def sliced_wasserstein(one: np.ndarray, other: np.ndarray, directions: int = _DIRECTIONS) -> float:
    """Returns the sliced 2-Wasserstein distance of two samples (Bonneel et al. 2015).

    Args:
        one: shape (draws, components), in units that all components share.
        other: shape (other draws, components).
        directions: how many random unit vectors the samples are projected on; always the same ones.

    Examples:
        >>> import numpy as np
        >>> from ppl_vae.measure.posterior_quality import sliced_wasserstein
        >>> one = np.random.default_rng(0).normal(size=(100, 1))
        >>> round(sliced_wasserstein(one, one + 3), 3)
        3.0
    """
    vectors = np.random.default_rng(0).normal(size=(one.shape[1], directions))
    vectors /= np.linalg.norm(vectors, axis=0)
    first, second = np.sort(one @ vectors, axis=0), np.sort(other @ vectors, axis=0)
    ends = np.union1d(np.arange(1, len(first) + 1) / len(first), np.arange(1, len(second) + 1) / len(second))
    widths = np.diff(ends, prepend=0.0)
    middles = ends - widths / 2  # both quantile functions are constant between two ends
    apart = first[(middles * len(first)).astype(int)] - second[(middles * len(second)).astype(int)]
    return float(np.sqrt((widths @ apart**2).mean()))
