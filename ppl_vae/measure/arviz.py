"""Posterior draws and their diagnostics for ArviZ: its InferenceData (0.23) or xarray's DataTree (1.x)."""

import warnings
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from ppl_vae.errors import InputError, require_count
from ppl_vae.measure.bounds import iwelbo
from ppl_vae.measure.named import at_draws, by_chain, coordinates, dimensions, joined, variable
from ppl_vae.pairs.arguments import Batch, Data
from ppl_vae.pairs.entrance import runs_a_pair
from ppl_vae.pairs.log_means import of_draws
from ppl_vae.pairs.modules import Program
from ppl_vae.pairs.pair import Draws, Pair
from ppl_vae.pairs.psis import effective_sample_size, khat_threshold, smoothed
from ppl_vae.pairs.traces import random_sites

__all__ = ["posterior_predictive", "to_arviz"]
_FEWEST = 25  # draws whose tail can be smoothed


@runs_a_pair
def to_arviz(
    model: Program,
    guide: Program,
    data: Data,
    *,
    chains: int = 4,
    draws: int = 250,
    plate: str | None = None,
    seed: int | None = None,
    progress: bool = True,
) -> Any:
    """Draws from the posterior, by resampling the guide's draws, with what ArviZ needs of them.

    ``az.loo`` on it works with the log-likelihoods at these draws. Where each data point has latents of its own, the
    model's parameters held fixed, it estimates the sum of log p(x) over the data points from the posterior alone (the
    harmonic mean, Pareto-smoothed); where the data share latents, what the model predicts of data left out.

    Args:
        model: any Pyro program, without a plate below that of the data where each data point has latents of its own.
        guide: its guide.
        data: a tensor, a tuple of tensors (one row a data point) or a DataLoader: the arguments of both.
        chains: independent parts of the draws, for r-hat and the like.
        draws: in each chain, from the guide and again from these; at least 25 in all.
        plate: the name of the plate that holds the data, where the programs leave it open.
        seed: of the random numbers; None takes them as they come.
        progress: a progress bar on standard error.

    Returns:
        ``arviz.InferenceData`` with ArviZ 0.23, ``xarray.DataTree`` with 1.x. Its groups: ``posterior`` (the latents,
        and what the model names by ``pyro.deterministic``; chain, draw, plates, ...), ``log_likelihood`` (log p(x | z)
        at these draws; chain, draw, data), ``importance`` (``log_weight`` of the guide's own draws; chain, draw, data;
        ``khat``, ``ess``, ``log_evidence`` with ``_se``; data; in nats) and ``observed_data``. Where all the data share
        a latent, the dimension data of ``importance`` has length 1 and is called unit.

    Raises:
        InputError: for too few draws, a guide that is a point mass, or plates below the data.

    Examples:
        >>> import torch
        >>> from ppl_vae import to_arviz
        >>> from ppl_vae.guides import Amortized, Diagonal
        >>> from ppl_vae.models import VAE
        >>> x = torch.bernoulli(torch.full((50, 64), 0.3))
        >>> result = to_arviz(VAE(64, 2), Amortized(Diagonal(2), 64), x, chains=2, draws=50, progress=False)
        >>> result.posterior.z.dims
        ('chain', 'draw', 'data', 'z_dim_0')
    """
    pair = _pair(model, guide, data, chains, draws, plate)
    with pair.measuring(seed):
        return _whole(_posterior(pair, chains, chains * draws, progress, predict=False))


@runs_a_pair
def posterior_predictive(
    model: Program,
    guide: Program,
    data: Data,
    *,
    chains: int = 4,
    draws: int = 250,
    plate: str | None = None,
    seed: int | None = None,
    progress: bool = True,
) -> Any:
    """Draws data from the model, at latents of the posterior and at latents of the prior, for ArviZ's checks.

    Args:
        model: see :func:`to_arviz`, likewise the other arguments. All draws of all data points are kept in memory.

    Returns:
        What :func:`to_arviz` gives, with three groups more: ``posterior_predictive`` (what is observed, drawn at the
        posterior's latents; chain, draw, data, ...), ``prior`` (latents) and ``prior_predictive``.

    Raises:
        InputError: as :func:`to_arviz`.

    Examples:
        >>> from ppl_vae import posterior_predictive
        >>> from ppl_vae.guides import ExactPosterior
        >>> from ppl_vae.models import LinearRegression
        >>> data = LinearRegression.example_data()
        >>> model = LinearRegression.for_data(*data)
        >>> result = posterior_predictive(model, ExactPosterior(model), data, chains=2, draws=50, progress=False)
        >>> result.posterior_predictive.x.dims
        ('chain', 'draw', 'data')
    """
    pair = _pair(model, guide, data, chains, draws, plate)
    with pair.measuring(seed):
        groups = _posterior(pair, chains, chains * draws, progress, predict=True)
        alone = pair.alone()
        parts = []
        for part in alone.parts(chains * draws):
            values = {
                name: value for name, value in alone.proposals(part, chains * draws).items() if name in _latents(pair)
            }
            named, _ = at_draws(alone, part, values, chains)
            parts.append((named, _predicted(alone, part, values, chains)))
        groups["prior"], groups["prior_predictive"] = (joined(group) for group in zip(*parts, strict=True))
        return _whole(groups)


def _pair(model: Program, guide: Program, data: Data, chains: int, draws: int, plate: str | None) -> Pair:
    """Makes the pair, or refuses one whose draws can't be resampled."""
    require_count("chains", chains, 1)
    require_count("draws", draws, 1)
    if chains * draws < _FEWEST:
        raise InputError(
            f"chains x draws is {chains} x {draws}; the tail of the weights can't be smoothed under {_FEWEST}"
        )
    pair = Pair(model, guide, data, plate=plate)
    below = pair.nesting > 1 and not pair.unit.whole
    if not pair.is_bound or below:
        what = "is a point mass, whose draws have no weights" if not pair.is_bound else "has plates below the data"
        raise InputError(f"the guide {what}: ArviZ's groups need a density over latents of each data point")
    pair.require_all("draws of the posterior")
    return pair


def _latents(pair: Pair) -> list[str]:
    return [site["name"] for site in pair.sites if not site["is_observed"]]


def _posterior(pair: Pair, chains: int, total: int, progress: bool, predict: bool) -> dict[str, xr.Dataset]:
    """Makes the groups of the posterior, and what is predicted from it."""
    parts: list[dict[str, xr.Dataset]] = []
    done = 0

    def take(drawn: Draws) -> None:
        nonlocal done
        part = pair.rows(done, pair.size if pair.unit.whole else done + drawn.log_weights.shape[1])
        done += len(part[0])
        weights = drawn.log_weights
        normalized, khat = smoothed(weights)
        picks = torch.multinomial(torch.as_tensor(np.exp(normalized.T)), len(weights), replacement=True).T
        picks = picks.to(weights.device)
        values = {name: _picked(value, picks, pair.unit.whole) for name, value in drawn.latents.items()}
        posterior, likelihood = at_draws(pair, part, values, chains)
        groups = {
            "posterior": posterior,
            "log_likelihood": likelihood,
            "importance": _importance(weights, khat, chains, "unit" if pair.unit.whole else "data"),
            "observed_data": _observed(pair, part),
        }
        if predict:
            groups["posterior_predictive"] = _predicted(pair, part, values, chains)
        parts.append(groups)

    pair.each(total, take, "posterior draws", progress, "draws", latents=True)
    groups = {name: joined([part[name] for part in parts]) for name in parts[0]}
    groups["importance"].attrs = {"khat_threshold": khat_threshold(total), "units": "nats"}
    return groups


def _picked(value: Tensor, picks: Tensor, whole: bool) -> Tensor:
    """Resamples draws, particles first: of each data point by itself, or of all latents together."""
    if whole:
        return value[picks[:, 0]]
    return value.gather(0, picks.reshape(*picks.shape, *[1] * (value.dim() - 2)).expand(value.shape))


def _predicted(pair: Pair, part: Batch, values: dict[str, Tensor], chains: int) -> xr.Dataset:
    """Draws what the model observes at the latents."""
    observed = [site for site in pair.sites if site["is_observed"]]
    drawn: dict[str, list[Tensor]] = {site["name"]: [] for site in observed}
    for traced, stacked, _ in pair.replayed(part, values, generate=True):
        for name, collected in drawn.items():
            collected.append(stacked(traced.nodes[name]))
    return xr.Dataset({site["name"]: variable(pair, site, torch.cat(drawn[site["name"]]), chains) for site in observed})


def _observed(pair: Pair, part: Batch) -> xr.Dataset:
    sites = [site for site in random_sites(pair.model_at(part)) if site["is_observed"]]
    return xr.Dataset({site["name"]: (dimensions(pair, site), site["value"].cpu().numpy()) for site in sites})


def _importance(weights: Tensor, khat: np.ndarray, chains: int, unit: str) -> xr.Dataset:
    evidence, error = iwelbo(weights, len(weights), of_draws(weights, khat))
    columns = {
        "log_weight": (("chain", "draw", unit), by_chain(weights.double(), chains)),
        "khat": (unit, khat),
        "ess": (unit, effective_sample_size(weights)),
        "log_evidence": (unit, evidence.cpu().numpy()),
        "log_evidence_se": (unit, error.cpu().numpy()),
    }
    return xr.Dataset(columns)


def _whole(groups: dict[str, xr.Dataset]) -> Any:
    first = ("chain", "draw", "data")
    groups = {
        name: group.transpose(*(dim for dim in first if dim in group.dims), ...).assign_coords(coordinates(group))
        for name, group in groups.items()
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # ArviZ 0.23 announces its successor when it is imported
        import arviz

        if not issubclass(arviz.InferenceData, xr.DataTree):  # in 1.x the one is another name of the other
            return arviz.InferenceData(warn_on_custom_groups=False, **groups)
    return xr.DataTree.from_dict(groups)
