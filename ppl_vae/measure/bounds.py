"""Bounds on log p(x) from the log-weights: per data point, in nats, each with its standard error."""

import math
from collections.abc import Iterable
from numbers import Integral
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from ppl_vae.errors import InputError, require_count, shown
from ppl_vae.pairs.arguments import Data
from ppl_vae.pairs.entrance import runs_a_pair
from ppl_vae.pairs.log_means import LogMean, of_draws, student
from ppl_vae.pairs.modules import Program
from ppl_vae.pairs.pair import Draws, Pair
from ppl_vae.pairs.psis import effective_sample_size, khat_threshold, pareto_k

_FEW_GROUPS = 10


@runs_a_pair
def bounds(
    model: Program,
    guide: Program,
    data: Data,
    *,
    particles: int = 1000,
    curve: Iterable[int] | None = None,
    plate: str | None = None,
    seed: int | None = None,
    progress: bool = True,
) -> xr.Dataset:
    """Measures the ELBO and IWELBO_K of each data point, for a whole curve of K from the same log-weights.

    IWELBO_K = E[log mean_{k<=K} w_k] (Burda et al. 2015, eq. 8) is averaged over the particles // K disjoint groups;
    IWELBO_1 is the ELBO, and at K = particles it is the importance-weighted estimate of log p(x).

    Args:
        model: any Pyro program.
        guide: its guide.
        data: a tensor, a tuple of tensors (one row a data point) or a DataLoader: the arguments of both.
        particles: draws of z for each data point, at least 2; of all latents, where the data share some.
        curve: the values of K; 1, 2, 5, 10, ... up to ``particles`` where None.
        plate: the name of the plate that holds the data, where the programs leave it open.
        seed: of the random numbers; None takes them as they come.
        progress: a progress bar on standard error.

    Returns:
        A dataset with dimensions K and data, in nats: ``elbo`` and ``elbo_se`` (data), ``iwelbo`` and ``iwelbo_se``
        (K, data). The standard errors are Monte Carlo errors, of the draws of z, such that 1.96 of them on either side
        make a 95% interval. For the last K, of which there are fewer than 10 groups, the error is NaN where the weights
        can't be trusted. ``bias`` (data) is how far the IWELBO at K = ``particles`` lies below log p(x), to first
        order. ``khat`` and ``ess`` (data) tell whether the weights can be trusted, by the attribute
        ``khat_threshold``; see :mod:`ppl_vae.pairs.psis`. Attribute ``is_bound`` is 0 for a guide with a point mass (a
        delta guide), whose figures bound nothing and whose weights say nothing.

        Where all the data share a latent, the weights of a regression, say, a log-weight belongs to all of them
        together: the dimension data has length 1, and attribute ``unit`` is "data set" instead of "data point". Where
        a plate holds the data, the ELBO is then taken apart: ``elbo_by_point`` (point) is what each data point adds,
        given the shared draw, ``elbo_shared`` the rest, each with ``_se``.

        Where that plate subsamples, the ELBO is scaled up from the data points that are shown; its error has their
        choice in it, as if those given were drawn at random. There is no IWELBO then, and k-hat, ess and bias are NaN.

    Raises:
        InputError: for a K that is not between 1 and ``particles``, for a pair that does not fit (see
            :func:`ppl_vae.check`), where it can't be told which plate holds the data, and for an IWELBO of a subsample.

    Examples:
        >>> import torch
        >>> from ppl_vae import bounds
        >>> from ppl_vae.guides import Amortized, Diagonal
        >>> from ppl_vae.models import VAE
        >>> x = torch.bernoulli(torch.full((5, 64), 0.3))
        >>> sorted(bounds(VAE(64, 2), Amortized(Diagonal(2), 64), x, particles=100, progress=False).sizes.items())
        [('K', 7), ('data', 5)]
    """
    pair = Pair(model, guide, data, plate=plate)
    measured = Bounds(pair, particles, curve)
    with pair.measuring(seed):
        pair.each(particles, measured.add, "bounds", progress)
    return measured.dataset()


class Bounds:
    """The measurement of :func:`bounds`, chunk after chunk of a pair's draws.

    Args:
        pair: whose draws they are.
        particles: draws of z for each unit.
        curve: the values of K; 1, 2, 5, 10, ... where None, and 1 alone where the pair shows a part of its data.
    """

    def __init__(self, pair: Pair, particles: int, curve: Iterable[int] | None = None) -> None:
        require_count("particles", particles, 2)
        self.pair, self.particles = pair, particles
        default = [1] if pair.unit.subsampled is not None else default_curve(particles)
        self.counts = whole_numbers("curve", curve) if curve is not None else default
        if not self.counts or self.counts[0] < 1 or self.counts[-1] > particles:
            raise InputError(f"curve is {shown(self.counts)}; each K is a number of particles, from 1 to {particles}")
        if pair.unit.subsampled is not None and self.counts != [1]:
            pair.require_all("a mean of weights, such as IWELBO_K, k-hat or log p(x)")
        self._values: list[np.ndarray] = []
        self._errors: list[np.ndarray] = []
        self._diagnostics: list[np.ndarray] = []
        self._points: tuple[Tensor, Tensor] | None = None
        self._shared = torch.zeros(())

    def add(self, draws: Draws) -> None:
        """Takes in the draws of some data points."""
        weights = draws.log_weights
        self._points, self._shared = draws.points, draws.shared
        khat = pareto_k(weights)
        whole = of_draws(weights, khat)
        pairs = [iwelbo(weights, count, whole) for count in [1, *self.counts]]
        self._values.append(torch.stack([value for value, _ in pairs]).cpu().numpy())
        self._errors.append(torch.stack([error for _, error in pairs]).cpu().numpy())
        self._diagnostics.append(np.stack([whole.bias.cpu().numpy(), khat, effective_sample_size(weights)]))

    def dataset(self) -> xr.Dataset:
        """Returns the dataset of :func:`bounds`."""
        is_bound, unit = self.pair.is_bound, self.pair.unit
        value, error = (np.concatenate(parts, axis=1) for parts in (self._values, self._errors))
        diagnostics = np.concatenate(self._diagnostics, axis=1)
        if not is_bound or unit.subsampled is not None:
            diagnostics = np.full_like(diagnostics, np.nan)
        if unit.subsampled is not None:
            error = np.hypot(error, self._error_of_rows())
        return xr.Dataset(
            {
                "elbo": ("data", value[0]),
                "elbo_se": ("data", error[0]),
                "iwelbo": (("K", "data"), value[1:]),
                "iwelbo_se": (("K", "data"), error[1:]),
                **{name: ("data", row) for name, row in zip(("bias", "khat", "ess"), diagnostics, strict=True)},
                **self._by_point(),
            },
            coords={"K": np.array(self.counts, dtype=np.int32)},
            attrs={
                "is_bound": int(is_bound),
                "particles": self.particles,
                "units": "nats",
                "unit": "data set" if unit.whole else "data point",
                "khat_threshold": khat_threshold(self.particles),
            },
        )

    def _by_point(self) -> dict[str, Any]:
        """Takes the ELBO of the whole data set apart: what each data point adds, and what they share."""
        if self._points is None:
            return {}
        mean, variance = (part.cpu().numpy() for part in self._points)
        shared = self._shared.double()
        return {
            "elbo_by_point": ("point", mean),
            "elbo_by_point_se": ("point", np.sqrt(variance / self.particles)),
            "elbo_shared": ("data", shared.mean(0).cpu().numpy()),
            "elbo_shared_se": ("data", student(len(shared) - 1) * (shared.std(0) / len(shared) ** 0.5).cpu().numpy()),
        }

    def _error_of_rows(self) -> float:
        """Returns the error of an ELBO scaled up from the rows that are given, as if these were drawn at random.

        Where each run shows rows of its own, the spread of the runs has it already.
        """
        fraction = self.pair.unit.fraction
        if self._points is None or self.pair.unit.random:
            return 0.0
        rows = self._points[0].double()
        return len(rows) / fraction * float(rows.std()) * math.sqrt((1 - fraction) / len(rows))


def whole_numbers(name: str, values: Iterable[int]) -> list[int]:
    """Returns numbers of particles in their order, each once; InputError where they are none."""
    try:
        given: Any = list(values)
    except TypeError:
        given = values
    if not isinstance(given, list) or not all(isinstance(one, Integral) and not isinstance(one, bool) for one in given):
        raise InputError(f"{name} is {shown(given)}; each K is a number of particles, such as in [1, 10, 100]")
    return sorted({int(one) for one in given})


def iwelbo(log_weights: Tensor, count: int, whole: LogMean | None = None) -> tuple[Tensor, Tensor]:
    """Returns IWELBO_K and its standard error, each of shape (batch,), float64.

    The log-weights have shape (particles, batch).

    From ten groups on, and for the ELBO, the error is that of the spread between groups, by Student's t; else that of
    :func:`ppl_vae.pairs.log_means.of_draws`, which ``whole`` is for all the weights, and found where None.
    """
    groups = len(log_weights) // count
    grouped = log_weights[: groups * count].double().unflatten(0, (groups, count))
    log_means = grouped.logsumexp(1) - math.log(count)
    value = log_means.mean(0)
    if count == 1 or groups >= _FEW_GROUPS:
        return value, student(groups - 1) * (log_means.var(0) / groups).sqrt()
    drawn = log_weights[: groups * count]
    if whole is None or len(drawn) < len(log_weights):
        whole = of_draws(drawn, pareto_k(drawn))
    return value, whole.error


def default_curve(particles: int) -> list[int]:
    """Returns 1, 2, 5, 10, 20, ... up to and with the number of particles."""
    steps = (digit * 10**power for power in range(len(str(particles))) for digit in (1, 2, 5))
    return sorted({step for step in steps if step <= particles} | {particles})


def average(value: xr.DataArray, error: xr.DataArray, bias: xr.DataArray | None = None) -> tuple[float, float]:
    """Returns the mean over the data points and its error, for these very data points; NaN where a point has none.

    The errors of points are independent of each other; what all of them are biased by adds up.
    """
    shared = 0.0 if bias is None else float(bias.mean(skipna=False))
    return float(value.mean()), math.hypot(float(np.sqrt((error**2).sum(skipna=False))) / value.size, shared)
