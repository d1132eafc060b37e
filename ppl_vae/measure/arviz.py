"""Posterior draws and their diagnostics for ArviZ: its InferenceData (0.23) or xarray's DataTree (1.x)."""

import warnings
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from ppl_vae.errors import InputError
from ppl_vae.measure.bounds import iwelbo
from ppl_vae.pairs.log_means import of_draws
from ppl_vae.pairs.log_weights import probe, terms_of
from ppl_vae.pairs.modules import Program
from ppl_vae.pairs.psis import effective_sample_size, khat_threshold, smoothed
from ppl_vae.pairs.restore import evaluating
from ppl_vae.pairs.traces import batch_size, random_sites, rows, traces

__all__ = ["to_arviz"]
_CHUNK_BYTES = 2**25


def to_arviz(model: Program, guide: Program, *batch: Any, chains: int = 4, draws: int = 250) -> Any:
    """Draws from p(z | x) of each data point, by importance resampling from the guide, with what ArviZ needs of them.

    ``az.loo`` on it estimates the sum of log p(x) over the data points, the model's parameters held fixed, from the
    posterior alone (the harmonic mean, Pareto-smoothed); its own k-hat says where that goes wrong.

    Args:
        model: any Pyro program whose local latents live in the plate "data", none in a plate below it.
        guide: its guide.
        batch: the arguments of both, one row a data point.
        chains: independent parts of the draws, for r-hat and the like.
        draws: of z in each chain for each data point, from the guide and again from these; at least 25 in all.

    Returns:
        ``arviz.InferenceData`` with ArviZ 0.23, ``xarray.DataTree`` with 1.x. Its groups: ``posterior`` (the latents;
        chain, draw, data, ...), ``log_likelihood`` (log p(x | z) at these draws; chain, draw, data), ``importance``
        (``log_weight`` of the guide's own draws; chain, draw, data; ``khat``, ``ess``, ``log_evidence`` with ``_se``;
        data; in nats) and ``observed_data``.

    Raises:
        InputError: for too few draws, a guide that is a point mass, or plates below the data.
    """
    total = chains * draws
    if chains < 1 or total < 25:
        raise InputError(f"chains x draws is {chains} x {draws}; the tail of the weights can't be smoothed under 25")
    size = batch_size(batch)
    with evaluating(model, guide):
        probed = probe(model, guide, *batch)
        if not probed.is_bound or probed.nesting > 1:
            what = (
                "is a point mass, whose draws have no weights" if not probed.is_bound else "has plates below the data"
            )
            raise InputError(f"the guide {what}: to_arviz needs a density over latents of each data point")
        points = max(1, _CHUNK_BYTES // (probed.largest_bytes * total))
        parts = [
            _resampled(model, guide, rows(batch, size, start, start + points), chains, total)
            for start in range(0, size, points)
        ]
    posterior, likelihood, importance = (xr.concat(group, dim="data") for group in zip(*parts, strict=True))
    importance.attrs = {"khat_threshold": khat_threshold(total), "units": "nats"}
    observed = xr.Dataset({"x": (("data", *_names("x", batch[0][0])), batch[0].cpu().numpy())})
    groups = {"posterior": posterior, "log_likelihood": likelihood, "importance": importance}
    return _whole({name: group.transpose("chain", "draw", "data", ...) for name, group in groups.items()}, observed)


def _resampled(
    model: Program, guide: Program, batch: tuple[Any, ...], chains: int, draws: int
) -> tuple[xr.Dataset, xr.Dataset, xr.Dataset]:
    pair = traces(model, guide, batch, draws, 1)
    latent, observed, proposed = terms_of(*pair, batch, draws, 1)
    weights = latent + observed - proposed
    normalized, khat = smoothed(weights)
    picks = torch.multinomial(torch.as_tensor(np.exp(normalized.T)), draws, replacement=True).T.to(weights.device)
    posterior = {}

    def by_chain(values: Tensor) -> np.ndarray:
        return values.unflatten(0, (chains, -1)).cpu().numpy()

    for site in random_sites(pair[1]):
        if not site["is_observed"]:
            value = site["value"].expand(*weights.shape, *site["fn"].event_shape)
            picked = value.gather(0, picks.reshape(*picks.shape, *[1] * (value.dim() - 2)).expand(value.shape))
            dims = ("chain", "draw", "data", *_names(site["name"], value[0, 0]))
            posterior[site["name"]] = (dims, by_chain(picked))
    dims = ("chain", "draw", "data")
    likelihood = {"x": (dims, by_chain(observed.gather(0, picks).double()))}
    evidence, error = iwelbo(weights, draws, of_draws(weights, khat))
    importance = {
        "log_weight": (dims, by_chain(weights.double())),
        "khat": ("data", khat),
        "ess": ("data", effective_sample_size(weights)),
        "log_evidence": ("data", evidence.cpu().numpy()),
        "log_evidence_se": ("data", error.cpu().numpy()),
    }
    return xr.Dataset(posterior), xr.Dataset(likelihood), xr.Dataset(importance)


def _names(site: str, value: Tensor) -> tuple[str, ...]:
    return tuple(f"{site}_dim_{number}" for number in range(value.dim()))


def _whole(groups: dict[str, xr.Dataset], observed: xr.Dataset) -> Any:
    groups = {name: group.assign_coords(_coordinates(group)) for name, group in groups.items()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # ArviZ 0.23 announces its successor when it is imported
        import arviz

        if not issubclass(arviz.InferenceData, xr.DataTree):  # in 1.x the one is another name of the other
            return arviz.InferenceData(warn_on_custom_groups=False, **groups, observed_data=observed)
    return xr.DataTree.from_dict({**groups, "observed_data": observed})


def _coordinates(group: xr.Dataset) -> dict[str, np.ndarray]:
    return {str(name): np.arange(length) for name, length in group.sizes.items()}
