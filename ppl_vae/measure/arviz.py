"""Posterior draws and their diagnostics for ArviZ: its InferenceData (0.23) or xarray's DataTree (1.x)."""

import warnings
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from ppl_vae.errors import InputError
from ppl_vae.measure.bounds import iwelbo
from ppl_vae.pairs.arguments import Data
from ppl_vae.pairs.log_means import of_draws
from ppl_vae.pairs.modules import Program
from ppl_vae.pairs.pair import Draws, Pair
from ppl_vae.pairs.psis import effective_sample_size, khat_threshold, smoothed

__all__ = ["to_arviz"]


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
    """Draws from p(z | x) of each data point, by resampling the guide's draws, with what ArviZ needs of them.

    ``az.loo`` on it estimates the sum of log p(x) over the data points, the model's parameters held fixed, from the
    posterior alone (the harmonic mean, Pareto-smoothed); its own k-hat says where that goes wrong.

    Args:
        model: any Pyro program, without a plate below that of the data.
        guide: its guide.
        data: a tensor, a tuple of tensors (one row a data point) or a DataLoader: the arguments of both.
        chains: independent parts of the draws, for r-hat and the like.
        draws: of z in each chain for each data point, from the guide and again from these; at least 25 in all.
        plate: the name of the plate that holds the data, where the programs leave it open.
        seed: of the random numbers; None takes them as they come.
        progress: a progress bar on standard error.

    Returns:
        ``arviz.InferenceData`` with ArviZ 0.23, ``xarray.DataTree`` with 1.x. Its groups: ``posterior`` (the latents;
        chain, draw, data, ...), ``log_likelihood`` (log p(x | z) at these draws; chain, draw, data), ``importance``
        (``log_weight`` of the guide's own draws; chain, draw, data; ``khat``, ``ess``, ``log_evidence`` with ``_se``;
        data; in nats) and ``observed_data``.

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
    total = chains * draws
    if chains < 1 or total < 25:
        raise InputError(f"chains x draws is {chains} x {draws}; the tail of the weights can't be smoothed under 25")
    pair = Pair(model, guide, data, plate=plate)
    if not pair.is_bound or pair.nesting > 1:
        what = "is a point mass, whose draws have no weights" if not pair.is_bound else "has plates below the data"
        raise InputError(f"the guide {what}: to_arviz needs a density over latents of each data point")
    parts: list[tuple[xr.Dataset, ...]] = []
    with pair.measuring(seed):
        pair.each(total, lambda drawn: parts.append(_resampled(drawn, chains)), "posterior draws", progress, "draws")
    posterior, likelihood, importance = (xr.concat(group, dim="data") for group in zip(*parts, strict=True))
    importance.attrs = {"khat_threshold": khat_threshold(total), "units": "nats"}
    x = pair.batch[0].cpu()
    observed = xr.Dataset({"x": (("data", *_names("x", x[0])), x.numpy())})
    groups = {"posterior": posterior, "log_likelihood": likelihood, "importance": importance}
    return _whole({name: group.transpose("chain", "draw", "data", ...) for name, group in groups.items()}, observed)


def _resampled(drawn: Draws, chains: int) -> tuple[xr.Dataset, xr.Dataset, xr.Dataset]:
    weights, draws = drawn.log_weights, len(drawn.log_weights)
    normalized, khat = smoothed(weights)
    picks = torch.multinomial(torch.as_tensor(np.exp(normalized.T)), draws, replacement=True).T.to(weights.device)
    posterior = {}

    def by_chain(values: Tensor) -> np.ndarray:
        return values.unflatten(0, (chains, -1)).cpu().numpy()

    for name, value in drawn.latents.items():
        picked = value.gather(0, picks.reshape(*picks.shape, *[1] * (value.dim() - 2)).expand(value.shape))
        posterior[name] = (("chain", "draw", "data", *_names(name, value[0, 0])), by_chain(picked))
    dims = ("chain", "draw", "data")
    likelihood = {"x": (dims, by_chain(drawn.likelihood.gather(0, picks).double()))}
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
