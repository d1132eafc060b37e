"""What passes through z: rate and distortion, active units, mutual information, the aggregate posterior."""

import math

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from ppl_vae.errors import InputError, require_count
from ppl_vae.pairs.arguments import Data
from ppl_vae.pairs.entrance import runs_a_pair
from ppl_vae.pairs.modules import Program
from ppl_vae.pairs.pair import CHUNK_BYTES, Draws, Pair
from ppl_vae.training.health import ACTIVE


@runs_a_pair
def information(
    model: Program,
    guide: Program,
    data: Data,
    *,
    particles: int = 100,
    marginal: int | None = 500,
    plate: str | None = None,
    seed: int | None = None,
    progress: bool = True,
) -> xr.Dataset:
    """Takes the ELBO apart into distortion and rate, and the rate into what it is made of.

    The distortion is - E_q[log p(x | z)], the rate KL(q(z | x) || p(z)).

    The rate's mean is I + KL(q(z) || p(z)), with q(z) the average of q(z | x) over these data points (the aggregate
    posterior) and I the mutual information of z and the data point's index (Hoffman & Johnson 2016).

    Args:
        model: any Pyro program.
        guide: its guide.
        data: a tensor, a tuple of tensors (one row a data point) or a DataLoader: the arguments of both.
        particles: draws of z for each data point, at least 2.
        marginal: data points in the aggregate posterior, the first ones; None for all. The cost is their square.
        plate: the name of the plate that holds the data, where the programs leave it open.
        seed: of the random numbers; None takes them as they come.
        progress: a progress bar on standard error.

    Returns:
        A dataset with ``rate``, ``rate_se``, ``distortion`` and ``distortion_se`` (data) in nats, and the attributes
        ``active_units`` (coordinates of z whose posterior mean varies by more than 0.01 over the data; Burda et al.
        2015), ``mutual_information``, ``marginal_kl`` with their standard errors and ``marginal_points``. I is at most
        the log of that number. Where the guide has no density for a z that another data point drew (a delta guide, an
        autoguide, plates below the data), both are NaN.

    Raises:
        InputError: for fewer than 2 particles, or what :func:`ppl_vae.check` finds wrong with data and pair.

    Examples:
        >>> import torch
        >>> from ppl_vae import information
        >>> from ppl_vae.guides import Amortized, Diagonal
        >>> from ppl_vae.models import VAE
        >>> x = torch.bernoulli(torch.full((5, 64), 0.3))
        >>> information(VAE(64, 2), Amortized(Diagonal(2), 64), x, progress=False).attrs["marginal_points"]
        5
    """
    measured = Information(particles, marginal)
    pair = Pair(model, guide, data, plate=plate)
    pair.require_all("rate and distortion")
    with pair.measuring(seed):
        pair.require_sound()
        pair.each(particles, lambda draws: measured.add(draws, pair), "information", progress)
        return measured.dataset(pair)


class Information:
    """The measurement of :func:`information`, chunk after chunk of a pair's draws.

    Args:
        particles: draws of z for each data point, at least 2.
        marginal: data points in the aggregate posterior; None for all.
    """

    def __init__(self, particles: int, marginal: int | None = 500) -> None:
        require_count("particles", particles, 2)
        if marginal is not None:
            require_count("marginal", marginal, 1)
        self._particles, self._marginal = particles, marginal
        self._columns: dict[str, list[Tensor]] = {}
        self._means: list[Tensor] = []
        self._noises: list[Tensor] = []
        self._firsts: list[dict[str, Tensor]] = []

    def add(self, draws: Draws, pair: Pair) -> None:
        """Takes in the draws of some data points."""
        rate = draws.proposed - draws.prior if pair.is_bound else torch.full_like(draws.prior, math.nan)
        for name, values in (("rate", rate), ("distortion", -draws.likelihood)):
            self._columns.setdefault(name, []).append(values.double().mean(0).cpu())
            self._columns.setdefault(f"{name}_se", []).append((values.double().std(0) / math.sqrt(len(values))).cpu())
        if draws.latents and not pair.unit.whole:
            flat = torch.cat([value.reshape(*rate.shape, -1).to(rate) for value in draws.latents.values()], -1)
            self._means.append(flat.mean(0))
            self._noises.append(flat.var(0) / self._particles)
            self._firsts.append({name: value[0].clone() for name, value in draws.latents.items()})

    def dataset(self, pair: Pair) -> xr.Dataset:
        """Returns the dataset of :func:`information`; call it inside ``pair.measuring``."""
        columns = {name: ("data", torch.cat(parts).numpy()) for name, parts in self._columns.items()}
        measured = xr.Dataset(columns, attrs={"units": "nats", "active_units": math.nan})
        if self._means:
            # the mean of a few draws varies by itself, which is no activity of the unit
            spread = torch.cat(self._means).var(0, correction=0) - torch.cat(self._noises).mean(0)
            measured.attrs["active_units"] = int((spread > ACTIVE).sum())
        count = min(pair.size, self._marginal or pair.size)
        excess = self._excess_density(pair, count) if self._firsts and pair.is_bound else None
        return measured.assign_attrs(_aggregate(measured.rate.values[:count], excess, count))

    def _excess_density(self, pair: Pair, count: int) -> Tensor | None:
        """Returns log q(z_m | x_m) - log q(z_m) for a draw z_m of each of the first data points; None where unknown."""
        batch = pair.rows(0, count)
        z = {name: torch.cat([part[name] for part in self._firsts])[:count] for name in self._firsts[0]}
        width = sum(value[0].numel() for value in z.values())
        at_once = max(2, CHUNK_BYTES // (16 * width * count))
        excess = []
        for start in range(0, count, at_once):
            some = {name: value[start : start + at_once] for name, value in z.items()}
            here = len(next(iter(some.values())))
            spread = {name: value.unsqueeze(1).expand(here, count, *value.shape[1:]) for name, value in some.items()}
            try:
                density = pair.log_guide(batch, spread, here).double()
            except (InputError, NotImplementedError):
                return None
            excess.append(density.diagonal(start) - density.logsumexp(1) + math.log(count))
        return torch.cat(excess)


def _aggregate(rate: np.ndarray, excess: Tensor | None, count: int) -> dict[str, float]:
    names = ("mutual_information", "mutual_information_se", "marginal_kl", "marginal_kl_se")
    if excess is None or not excess.isfinite().all():
        return {**dict.fromkeys(names, math.nan), "marginal_points": count}
    information = excess.cpu().numpy()
    left = rate - information
    figures = (f(values) for values in (information, left) for f in (np.mean, lambda v: v.std(ddof=1) / len(v) ** 0.5))
    return {**dict(zip(names, map(float, figures), strict=True)), "marginal_points": count}
