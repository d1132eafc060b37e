"""Whether a guide's posteriors are calibrated over data that the model itself draws: ranks of the true parameters."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr
from torch import Tensor

from ppl_vae.errors import InputError
from ppl_vae.measure.draws import labels_of

_FEWEST_SIMULATIONS = 10
_FLIPS = 1999  # a p-value goes down to 1 / 2000
_AT_ONCE = 2**22  # signs in memory


def calibration(truth: Mapping[str, Any], draws: Mapping[str, Any], *, seed: int = 0) -> xr.Dataset:
    """Says how the true parameters of simulated data sets lie among a guide's draws, for each scalar component.

    Each of M data sets is drawn from the model with parameters from its prior, the guide is fitted to it, and
    p = P(draw < truth) under the guide. Where the guide is the posterior, p is uniform (Talts et al. 2018); where it is
    wrong but unbiased, p is symmetric about 1/2 (VSBC; Yao et al. 2018, section 3.2, which asks for no more of a
    mean-field guide). True values that lie among equal draws count half of them as smaller.

    Args:
        truth: the parameters of the simulated data sets by name, arrays or tensors of shape (M, ...).
        draws: independent draws of the guide of each, by the same names, shape (M, draws, ...).
        seed: of the random numbers of both tests.

    Returns:
        A dataset with dimensions ``parameter`` (labels such as "mu" and "theta[3]") and ``simulation``:

        ``p`` (parameter, simulation): between 0 and 1.

        ``skew``, ``skew_se`` (parameter): mean of p, minus 1/2, and its standard error over the simulations. Above 0
        the true values lie above the draws: the guide's draws are too low. Below 0 they are too high.

        ``symmetry_p_value``: of the hypothesis that p and 1 - p have the same distribution, that is, of no bias. The
        statistic is that of the paper, Kolmogorov and Smirnov's distance of p from 1 - p. The table of two independent
        samples does not hold for it, because the second sample is a function of the first: it rejects a symmetric p
        9% of the time at a level of 5%, and 4% at 1% (2000 repeats of 100 simulations). Here p is exchanged with 1 - p
        at random 1999 times, which leaves a symmetric p what it is, so that no level is exceeded, whatever the
        distribution (Butler 1969, "A test for symmetry using the sample distribution function").

        ``uniformity_p_value``: of the hypothesis that p is uniform, by Kolmogorov and Smirnov's test of the ranks, each
        spread at random over its width (which makes it exact with any number of draws). It sees a bias, and a guide
        that is too narrow (p near 0 and 1) or too wide (p near 1/2), which the symmetry can't show.

        Both p-values are for one parameter each; of many parameters, some are small by chance.

    Raises:
        InputError: for names or shapes that don't match, fewer than 10 simulations, no draws, or NaN.

    Examples:
        >>> import numpy as np
        >>> from ppl_vae.measure.calibration import calibration
        >>> numbers = np.random.default_rng(0)
        >>> truth = numbers.normal(size=200)  # of a posterior N(0, 1), whatever the data
        >>> found = calibration({"mu": truth}, {"mu": numbers.normal(-1.0, 1.0, size=(200, 100))})
        >>> bool(found.skew[0] > 0.2), bool(found.symmetry_p_value[0] < 0.001)
        (True, True)
    """
    from scipy import stats

    labels, true, drawn = _matched(truth, draws)
    numbers = np.random.default_rng(seed)
    simulations, count = drawn.shape[:2]
    below, equal = (drawn < true[:, None]).sum(1), (drawn == true[:, None]).sum(1)  # (simulations, parameters)
    p = (below + equal / 2) / count
    ranks = below + numbers.integers(0, equal + 1)  # uniform from 0 to count, where truth and draws are exchangeable
    spread = (ranks + numbers.uniform(size=ranks.shape)) / (count + 1)
    columns = {
        "skew": p.mean(0) - 0.5,
        "skew_se": p.std(0, ddof=1) / np.sqrt(simulations),
        "symmetry_p_value": [symmetry_p_value(values, numbers) for values in p.T],
        "uniformity_p_value": [stats.kstest(values, "uniform").pvalue for values in spread.T],
    }
    found = xr.Dataset({name: ("parameter", np.asarray(values)) for name, values in columns.items()})
    found["p"] = (("parameter", "simulation"), p.T)
    return found.assign_coords(parameter=labels).assign_attrs(draws=count)


def symmetry_p_value(p: np.ndarray, numbers: np.random.Generator) -> float:
    """Returns the p-value of the hypothesis that values are symmetric about 1/2, by random exchanges of p and 1 - p.

    The statistic is the largest distance between the distribution functions of p and 1 - p. At t below 1/2 that is the
    share of values from 0 to t less that of values from 1 - t to 1: a sum of signs, the values farthest from 1/2 first.
    It is exact for any sample size, with ties.

    Args:
        p: shape (simulations,).
        numbers: the random numbers of the exchanges.

    Examples:
        >>> import numpy as np
        >>> from ppl_vae.measure.calibration import symmetry_p_value
        >>> symmetry_p_value(np.linspace(0.3, 1.0, 100), np.random.default_rng(0)) < 0.01
        True
    """
    centered = np.round(2 * np.asarray(p) - 1, 12)  # 1 - p is not exact: equal distances must be equal
    centered = centered[centered != 0]  # p = 1/2 stays where it is
    if not len(centered):
        return 1.0
    centered = centered[np.argsort(-np.abs(centered))]
    last = np.append(np.diff(np.abs(centered)) != 0, True)  # of those equally far from 1/2: the functions jump at once
    observed = np.abs(np.cumsum(np.sign(centered))[last]).max()
    reached, left = 0, _FLIPS
    while left:
        rows = min(left, max(1, _AT_ONCE // len(centered)))
        signs = 2 * numbers.integers(0, 2, size=(rows, len(centered)), dtype=np.int8) - 1
        reached += int((np.abs(np.cumsum(signs, axis=1, dtype=np.int32)[:, last]).max(1) >= observed).sum())
        left -= rows
    return (1 + reached) / (1 + _FLIPS)


def _matched(truth: Mapping[str, Any], draws: Mapping[str, Any]) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Returns labels, true values (simulations, parameters) and draws (simulations, draws, parameters)."""
    if not isinstance(truth, Mapping) or not isinstance(draws, Mapping):
        raise InputError("truth and draws are mappings of names to arrays, one row for each simulation")
    if not truth or set(truth) != set(draws):
        given = [", ".join(map(str, part)) or "nothing" for part in (truth, draws)]
        raise InputError(f"truth holds {given[0]} and draws hold {given[1]}; both need the same parameters")
    labels: list[str] = []
    true, drawn = [], []
    sizes = set()
    for name in truth:
        values, several = _numbers(name, truth[name]), _numbers(name, draws[name])
        if several.ndim < 2 or values.shape != several.shape[:1] + several.shape[2:]:
            raise InputError(
                f"{name!r} has true values of shape {values.shape} and draws of shape {several.shape}; expected "
                "(simulations, ...) and (simulations, draws, ...)"
            )
        sizes.add(several.shape[:2])
        labels += labels_of(name, values.shape[1:])
        true.append(values.reshape(len(values), -1))
        drawn.append(several.reshape(*several.shape[:2], -1))
    if len(sizes) > 1:
        raise InputError(f"the parameters differ in (simulations, draws): {sorted(sizes)}; all need the same")
    simulations, count = sizes.pop()
    if simulations < _FEWEST_SIMULATIONS or count < 1:
        raise InputError(
            f"there are {simulations} simulations of {count} draws; at least {_FEWEST_SIMULATIONS} of 1 are needed"
        )
    return labels, np.concatenate(true, axis=1), np.concatenate(drawn, axis=2)


def _numbers(name: str, values: Any) -> np.ndarray:
    array = np.asarray(values.detach().cpu().numpy() if isinstance(values, Tensor) else values, dtype=np.float64)
    if np.isnan(array).any():
        raise InputError(f"{name!r} has NaN among its values")
    return array
