"""The laboratory of gradient estimators: mean, bias, variance and cost of the gradient of one pair."""

import copy
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pyro
import torch
import xarray as xr
from pyro.infer import ELBO
from torch import Tensor, nn

from ppl_vae.checks import explained
from ppl_vae.contexts import local_parameters, random_state_kept
from ppl_vae.errors import InputError
from ppl_vae.estimators import LogWeightELBO, Pathwise
from ppl_vae.estimators.base import latent_sites
from ppl_vae.estimators.enumeration import Enumeration, GaussHermite, fits_gauss_hermite
from ppl_vae.evidence.exact import states_of
from ppl_vae.mistakes import require_sound
from ppl_vae.modules import Program
from ppl_vae.per_draw import gradients
from ppl_vae.traces import trace_guide
from ppl_vae.trainable import first_run

_BOOTSTRAPS = 1000
_MOST_NUMBERS = 2**29  # in the gradients of all draws: 2 GiB
TOTAL = "total"


@dataclass(frozen=True)
class Reference:
    """A gradient to compare with.

    Attributes:
        mean: of minus the bound, all parameters side by side, float64.
        error: its standard error, the same shape; zero where it is exact.
        source: how it was found.
    """

    mean: Tensor
    error: Tensor
    source: str


def gradient_statistics(
    model: Program,
    guide: Program,
    elbo: ELBO,
    *batch: Any,
    draws: int = 1000,
    exact: Reference | None = None,
    learning_steps: int = 0,
    learning_rate: float = 1e-2,
) -> xr.Dataset:
    """Draws the gradient of one batch many times, with parameters as they are, and says how good it is.

    The gradient is that of minus the bound summed over the batch, in nats per unit of the parameters. ``elbo`` is
    copied, so what it learns here it forgets; nothing else is changed.

    Args:
        model: any Pyro program.
        guide: its guide.
        elbo: the gradient estimator.
        batch: the arguments of both, one row a data point.
        draws: how many gradients.
        exact: what :func:`reference_gradient` gives; no bias is told where None.
        learning_steps: steps for what the estimator itself learns (a baseline, a control variate), before the draws
            are made, the pair held as it is.
        learning_rate: of these steps, by Adam.

    Returns:
        A dataset with dimension ``group``: each layer of model and guide, "model", "guide" and "total".
        ``mean_norm`` the length of the mean gradient; ``variance`` the summed variance of its components, with a
        bootstrap interval of 95% ``variance_low`` and ``variance_high``; ``snr`` the length over the standard
        deviation; ``variance_cost`` variance x seconds; with ``exact`` also ``bias`` the length of the mean's
        difference from it, ``bias_noise`` what the errors of both would give by themselves, and ``bias_z`` the
        largest component in standard errors. ``mean`` and ``mean_se`` have dimension ``component``. Attributes:
        ``seconds`` for one gradient by itself, ``draws``, ``vectorized``, ``reference``.

    Raises:
        InputError: for fewer than 10 draws, more numbers than 2 GiB hold, a pair that the estimator refuses, or what
            :func:`ppl_vae.check` finds wrong with data and pair.
    """
    if draws < 10:
        raise InputError(f"draws is {draws}; a variance needs at least 10")
    with _ready(model, guide, elbo, batch) as (own, leaves, names, anchored):
        size = sum(leaf.numel() for leaf in leaves)
        if size * draws > _MOST_NUMBERS:
            raise InputError(
                f"{draws} gradients of {size} parameters take {4e-9 * size * draws:.1f} GB: take at most "
                f"{_MOST_NUMBERS // size} draws"
            )
        _learn(own, model, anchored, batch, learning_steps, learning_rate)
        seconds = _seconds(own, model, anchored, batch, leaves)
        if isinstance(own, LogWeightELBO):
            own.adapting = False
        found, vectorized = gradients(own, model, guide, anchored, batch, draws, leaves)
    mean = found.mean(0, dtype=torch.float64)
    squares = found.sub_(mean.to(found.dtype)).square_()
    error = (squares.mean(0, dtype=torch.float64) / (draws - 1)).sqrt()
    groups = _groups(names, leaves)
    lengths = {name: _lengths(squares, where) for name, where in groups.items()}
    low, high = _interval(np.stack(list(lengths.values())))
    rows: dict[str, dict[str, float]] = {}
    for number, (group, where) in enumerate(groups.items()):
        variance = float(lengths[group].mean())
        here = torch.cat([mean[part] for part in where])
        row = {
            "mean_norm": float(here.norm()),
            "variance": variance,
            "variance_low": float(low[number]),
            "variance_high": float(high[number]),
            "snr": float(here.norm()) / variance**0.5 if variance > 0 else np.inf,
            "variance_cost": variance * seconds,
        }
        if exact is not None:
            difference = torch.cat([mean[part] - exact.mean[part] for part in where])
            noise = torch.cat([(error[part].square() + exact.error[part].square()).sqrt() for part in where])
            floor = 1e-9 + 1e-6 * float(exact.mean.norm())  # of float32 sums
            row |= {
                "bias": float(difference.norm()),
                "bias_noise": float(noise.norm()),
                "bias_z": float((difference.abs() / (noise + floor)).max()),
            }
        rows[group] = row
    variables = {name: ("group", [row[name] for row in rows.values()]) for name in rows[TOTAL]}
    return xr.Dataset(
        {**variables, "mean": ("component", mean.numpy()), "mean_se": ("component", error.numpy())},
        coords={"group": list(rows)},
        attrs={
            "seconds": seconds,
            "draws": draws,
            "vectorized": int(vectorized),
            "reference": exact.source if exact is not None else "none",
            "estimator": type(elbo).__name__,
            "particles": elbo.num_particles,
        },
    )


def reference_gradient(
    model: Program, guide: Program, *batch: Any, elbo: ELBO | None = None, draws: int = 100_000
) -> Reference:
    """The gradient of minus the ELBO, exact where it can be: by all states, by quadrature, else by many draws.

    Quadrature is for a diagonal normal of one or two latents, and given up where two rules differ by more than 1e-4.

    Args:
        model: any Pyro program.
        guide: its guide; one with ``reparameterized=False`` is reparameterized for this alone.
        batch: the arguments of both.
        elbo: take this estimator's mean instead, for a bound that is not the ELBO (``IWAE(5)``, say).
        draws: of the pathwise gradient, where it comes to that.

    Raises:
        InputError: for a discrete latent of too many states.
    """
    require_sound(model, guide, *batch)
    own_guide: Any = guide
    switched = isinstance(guide, nn.Module) and getattr(guide, "reparameterized", None) is False
    try:
        if switched:
            own_guide.reparameterized = True
        with random_state_kept(), torch.no_grad(), local_parameters(model, guide):
            trace = trace_guide(guide, batch, 1, 0)
        sites = latent_sites(trace)
        chosen, source = elbo, f"{draws} draws of {type(elbo).__name__}"
        if chosen is None and len(sites) == 1 and states_of(sites[0]["fn"]) is not None:
            chosen, source = Enumeration(), "enumeration"
        elif chosen is None and fits_gauss_hermite(trace):
            found = _quadrature(model, guide, batch)
            if found is not None:
                return found
        if chosen is None:
            chosen, source = Pathwise(), f"{draws} pathwise draws"
        with _ready(model, guide, chosen, batch) as (own, leaves, _, anchored):
            if isinstance(own, LogWeightELBO):
                own.adapting = False
            once = isinstance(own, Enumeration)
            total, squares, done = torch.zeros(()), torch.zeros(()), 0
            size = sum(leaf.numel() for leaf in leaves)
            while done < (1 if once else draws):
                count = 1 if once else min(draws - done, 1000, max(1, 2**26 // size))
                part = gradients(own, model, guide, anchored, batch, count, leaves)[0].double()
                total, squares, done = total + part.sum(0), squares + part.square().sum(0), done + count
    finally:
        if switched:
            own_guide.reparameterized = False
    mean = total / done
    variance = (squares / done - mean.square()).clamp(min=0) / max(1, done - 1)
    return Reference(mean, torch.zeros_like(mean) if once else variance.sqrt(), source)


def _quadrature(model: Program, guide: Program, batch: tuple[Any, ...]) -> Reference | None:
    """By two rules, whose difference is the error; None where that is not small, as for a ReLU's kinks."""
    found = []
    for nodes in (64, 51):
        with _ready(model, guide, GaussHermite(nodes), batch) as (own, leaves, _, anchored):
            found.append(gradients(own, model, guide, anchored, batch, 1, leaves)[0][0].double())
    error = (found[0] - found[1]).abs()
    return Reference(found[0], error, "quadrature") if error.norm() < 1e-4 * found[0].norm() else None


@contextmanager
def _ready(
    model: Program, guide: Program, elbo: ELBO, batch: tuple[Any, ...]
) -> Iterator[tuple[ELBO, list[Tensor], list[str], Program]]:
    """A copy of the ELBO, the parameters and their names, and a guide that Pyro's ELBOs take gradients of."""
    own = copy.deepcopy(elbo)
    require_sound(model, guide if getattr(elbo, "runs_guide", True) else None, *batch)
    programs = {"model": model, "guide": guide}
    modules = {name: program for name, program in programs.items() if isinstance(program, nn.Module)}
    with local_parameters(model, guide), pyro.validation_enabled(False), explained(model, guide, *batch):
        ready = first_run(own, model, guide, None, batch)
        leaves = ready.parameters
        known = {id(leaf): f"{name}.{key}" for name, part in modules.items() for key, leaf in part.named_parameters()}
        order = {key: number for number, key in enumerate(known)}
        leaves.sort(key=lambda leaf: order.get(id(leaf), len(order)))  # the model's in its order, then the guide's
        known = {id(leaf): name for name, leaf in ready.sites.items()} | known
        names = [known[id(leaf)] for leaf in leaves]
        before = [leaf.grad for leaf in leaves]
        try:
            yield own, leaves, names, ready.guide
        finally:
            for leaf, grad in zip(leaves, before, strict=True):
                leaf.grad = grad


def _groups(names: list[str], leaves: list[Tensor]) -> dict[str, list[slice]]:
    """Which components belong to each layer, each program and the whole."""
    found: dict[str, list[slice]] = {}
    start = 0
    for name, leaf in zip(names, leaves, strict=True):
        part = slice(start, start + leaf.numel())
        start = part.stop
        for group in dict.fromkeys((name.rpartition(".")[0], name.split(".")[0], TOTAL)):
            found.setdefault(group, []).append(part)
    return found


def _lengths(squares: Tensor, where: list[slice]) -> np.ndarray:
    """Squared distances from the mean, summed over a group's components; their mean is its unbiased variance."""
    summed = torch.stack([squares[:, part].sum(1, dtype=torch.float64) for part in where]).sum(0)
    return (summed * len(squares) / (len(squares) - 1)).cpu().numpy()


def _interval(lengths: np.ndarray) -> np.ndarray:
    """The 95% bootstrap interval of the means, (2, groups), of lengths of shape (groups, draws)."""
    generator = np.random.default_rng(0)
    blocks = min(lengths.shape[1], 1000)  # of draws, resampled together: as good, and cheaper
    lengths = np.stack([part.mean(1) for part in np.array_split(lengths, blocks, axis=1)], 1)
    draws = lengths.shape[1]
    means = [lengths[:, generator.integers(0, draws, draws)].mean(1) for _ in range(_BOOTSTRAPS)]
    return np.quantile(means, (0.025, 0.975), axis=0)


def _learn(elbo: ELBO, model: Program, guide: Program, batch: tuple[Any, ...], steps: int, rate: float) -> None:
    if not isinstance(elbo, LogWeightELBO):
        return
    network = elbo.learned(model, guide, *batch)
    optimizer = torch.optim.Adam(network.parameters(), lr=rate) if network is not None else None
    for _ in range(steps):
        if optimizer is not None:
            optimizer.zero_grad()
        elbo.loss_and_grads(model, guide, *batch)
        if optimizer is not None:
            optimizer.step()


def _seconds(elbo: ELBO, model: Program, guide: Program, batch: tuple[Any, ...], leaves: list[Tensor]) -> float:
    """The median time of one gradient, what the estimator learns from it included."""
    trial = copy.deepcopy(elbo)
    times = []
    step = partial(trial.loss_and_grads, model, guide, *batch)
    with random_state_kept():
        for _ in range(13):
            for leaf in leaves:
                leaf.grad = None
            start = time.perf_counter()
            step()
            if leaves[0].is_cuda:
                torch.cuda.synchronize()
            times.append(time.perf_counter() - start)
    return float(np.median(times[3:]))
