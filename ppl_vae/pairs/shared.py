"""What all the data share: terms of the ELBO that are not a sum over data points, and the batches that fit them."""

from collections.abc import Iterable
from typing import Any

import torch
from pyro import poutine
from pyro.poutine import Trace
from torch import Tensor

from ppl_vae.errors import InputError
from ppl_vae.pairs.arguments import batch_size, device_of, rows
from ppl_vae.pairs.mistakes import alone, run
from ppl_vae.pairs.modules import Program, follows_rows, modules_of
from ppl_vae.pairs.restore import modules_kept
from ppl_vae.pairs.traces import DATA_PLATE, Site, random_sites
from ppl_vae.pairs.units import plates_of, unit_of


def shared_sites(model: Program, guide: Program | None, batch: tuple[Any, ...], count: int) -> set[str]:
    """Names the sites that all the data share: latents and factors whose shape no number of rows changes.

    An observed site is shared where it also has the same density for other rows, with the shared latents as they were;
    one that a program has summed over the rows by itself is not. An autoguide, which is made for the rows of its first
    run, is not asked: its latents are the model's.

    Args:
        model: a Pyro program.
        guide: its guide, None for the model alone.
        batch: the arguments of both.
        count: of the rows to look at.
    """
    size, device = batch_size(batch), device_of(batch, model, guide)
    if size == 1:  # seen twice, it is as good as two
        batch = tuple(torch.cat([arg, arg]) if isinstance(arg, Tensor) and arg.dim() else arg for arg in batch)
        size = count = 2
    guide = guide if follows_rows(guide) else None
    count = max(2, count)
    with torch.no_grad(), modules_kept(modules_of(model, guide)), alone():
        first = _sites(run(model, guide, rows(batch, size, 0, count, device)))
        names = {name for name, site in first.items() if not _in_data(site)}
        if not names:
            return names
        fewer = _sites(run(model, guide, rows(batch, size, 0, count - 1, device)))
        names = {name for name in names if name in fewer and _shape(first[name]) == _shape(fewer[name])}
        shared_latents = Trace()
        for name in names:
            if not first[name]["is_observed"]:
                shared_latents.add_node(name, **first[name])
        guide_at_them = poutine.replay(guide, trace=shared_latents) if guide is not None else None
        model_at_them = poutine.replay(model, trace=shared_latents)
        others = _sites(run(model_at_them, guide_at_them, rows(batch, size, 1, count, device)))
        return {name for name in names if not first[name]["is_observed"] or _same_density(first[name], others[name])}


def require_whole(
    model: Program, guide: Program, pair: tuple[Trace, Trace], batch: tuple[Any, ...], size: int, exactly: bool
) -> None:
    """Refuses minibatches for a pair with terms that would be counted again in each of them.

    Args:
        model: a Pyro program.
        guide: its guide.
        pair: the guide's and the model's trace of a run on the batch.
        batch: the first batch.
        size: the data points in an epoch.
        exactly: whether that is known for sure: of tensors it is, of a loader whose sampler leaves rows out it is not.

    Raises:
        InputError: for a latent, or another term, that all the data share, where a batch is smaller than the data and
            its rows are not scaled up to stand for all of them; and for an autoguide of latents of each data point,
            which would use the parameters of the first batch's rows for all others.
    """
    count = batch_size(batch)
    sites = _sites(pair)
    if count < size and not follows_rows(guide):
        _refuse_rows_of_an_autoguide(guide, pair, count, size)
    suspects = {name for name, site in sites.items() if not _in_data(site) and not _subsampled(site)}
    if count >= size or not suspects:
        return
    shared = suspects & shared_sites(model, guide, batch, count)
    for name in sorted(shared):
        stands_for = min((_points(site, sites[name], count) for site in _rows_of(sites, shared)), default=count)
        if stands_for != size and (exactly or stands_for == count):
            kind = "term" if sites[name]["is_observed"] else "latent"
            scaled = "" if stands_for == count else f", which stand for {stands_for:g} by their plate or scale"
            raise InputError(
                f"all {size} data points share the {kind} {name!r}, but a batch is {count} of them{scaled}, so it "
                f'would be counted again in every batch: write pyro.plate("{DATA_PLATE}", {size}, subsample=x) in '
                f"model and guide, which scales a batch up, or give all the data in one batch, batch_size={size}"
            )


def _refuse_rows_of_an_autoguide(guide: Program, pair: tuple[Trace, Trace], count: int, size: int) -> None:
    try:
        plate = unit_of(*pair, count).plate
    except InputError:  # a batch has as many rows as another plate elements
        plate = DATA_PLATE
    for site in random_sites(pair[0]):
        rows_of_its_own = {DATA_PLATE, plate}.intersection(plates_of(site))
        if not site["is_observed"] and rows_of_its_own and not _subsampled(site):
            raise InputError(
                f"{type(guide).__name__} makes parameters for each row of its first batch, {count} of {size}, and "
                f"would use them for other rows as well (site {site['name']!r}): give all the data in one batch, "
                f"batch_size={size}, or take an amortized guide"
            )


def _rows_of(sites: dict[str, Site], shared: set[str]) -> list[Site]:
    """Lists the sites that are sums over the data points: the observed ones where there are some."""
    unshared = [site for name, site in sites.items() if name not in shared]
    return [site for site in unshared if site["is_observed"]] or unshared


def _points(site: Site, shared: Site, count: int) -> float:
    """Says how many data points the rows of a site stand for, where a shared one is counted once."""
    for frame in _plates(site):
        if frame.full_size not in (None, frame.size):
            return float(frame.full_size)
    ratio = torch.as_tensor(site["scale"], dtype=torch.float64) / torch.as_tensor(shared["scale"], dtype=torch.float64)
    points = float(count * ratio.mean())
    return float(round(points)) if abs(points - round(points)) < 1e-4 * points else points


def _sites(pair: Iterable[Trace]) -> dict[str, Site]:
    return {site["name"]: site for trace in pair for site in random_sites(trace)}


def _plates(site: Site) -> list[Any]:
    return [frame for frame in site["cond_indep_stack"] if frame.vectorized]


def _in_data(site: Site) -> bool:
    return any(frame.name == DATA_PLATE for frame in _plates(site))


def _subsampled(site: Site) -> bool:
    return any(frame.full_size not in (None, frame.size) for frame in _plates(site))


def _shape(site: Site) -> tuple[Any, ...]:
    return site["value"].shape, site["fn"].batch_shape


def _same_density(first: Site, second: Site) -> bool:
    densities = [site["fn"].log_prob(site["value"]) for site in (first, second)]
    return densities[0].shape == densities[1].shape and torch.allclose(*densities)
