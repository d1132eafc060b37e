"""Annealed importance sampling: log p(x) by way of many distributions between a start and the posterior.

The path is geometric, start(z)^(1 - beta) p(x, z)^beta (Neal 2001), the moves between are Hamiltonian Monte Carlo in
unconstrained coordinates, all chains of all data points at once (Wu et al. 2017).
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pyro
import torch
import xarray as xr
from pyro import poutine
from torch import Tensor

from ppl_vae.checks import explained
from ppl_vae.contexts import evaluating
from ppl_vae.errors import InputError
from ppl_vae.evidence.latents import Coordinates, largest_bytes, latent_values, log_guide, log_joint, run
from ppl_vae.log_means import LogMean, of_chains
from ppl_vae.log_weights import CHUNK_BYTES
from ppl_vae.mistakes import require_sound
from ppl_vae.modules import Program
from ppl_vae.traces import batch_size, random_sites, rows

SCHEDULES = ("sigmoid", "geometric", "linear")
_TARGET_ACCEPTANCE = 0.65  # the best for HMC in many dimensions (Beskos et al. 2013)
_PILOT_CHAINS = 4
_FEWEST_MIXING = 10


def temperatures(schedule: str, steps: int) -> Tensor:
    """beta_0 = 0, ..., beta_steps = 1, shape (steps + 1,), float64: crowded at both ends, at the start, or nowhere."""
    if steps < 1:
        raise InputError(f"steps is {steps}; at least 1 is needed")
    done = torch.linspace(0, 1, steps + 1, dtype=torch.float64)
    if schedule == "linear":
        return done
    if schedule == "sigmoid":
        raw = torch.sigmoid(4 * (2 * done - 1))
        return (raw - raw[0]) / (raw[-1] - raw[0])
    if schedule == "geometric":
        return torch.cat([done[:1], 1e-4 ** (1 - done[1:])]) if steps > 1 else done
    raise InputError(f"schedule is {schedule!r}; choose from {', '.join(SCHEDULES)}")


def annealed(
    model: Program,
    *batch: Any,
    guide: Program | None = None,
    steps: int = 500,
    chains: int = 16,
    leapfrog: int = 10,
    schedule: str = "sigmoid",
    progress: Callable[[int], object] | None = None,
) -> xr.Dataset:
    """log p(x) of each data point by annealed importance sampling.

    A pilot run with a few chains of its own adapts the step size of each data point at each temperature; the run
    that counts keeps these, so its weights stay unbiased and the estimate a stochastic lower bound.

    Args:
        model: any Pyro program whose continuous latents live in the plate "data".
        batch: its arguments, one row a data point.
        guide: where to start: q(z | x) of this guide, the model's prior where None.
        steps: distributions on the way.
        chains: for each data point, at least 2.
        leapfrog: steps of one Hamiltonian move, which is one for each distribution.
        schedule: "sigmoid", "geometric" or "linear" spacing of the temperatures.
        progress: called with the number of data points that were just finished.

    Returns:
        A dataset with dimension data, in nats: ``log_evidence``, ``log_evidence_se`` (by the spread of the chains'
        weights, such that 1.96 of it on either side make a 95% interval for so many chains) and ``log_evidence_bias``
        (how far a mean over so few chains lies below log p(x), to first order; see :mod:`ppl_vae.log_means`);
        ``acceptance`` (the mean over the moves), ``ess`` (of the chains' weights).

    Raises:
        InputError: for a discrete latent, too few chains or steps, an unknown schedule, or what ``check`` finds wrong.
    """
    path = _Path(temperatures(schedule, steps), leapfrog, chains)
    require_sound(model, guide, *batch)
    weights, acceptances = [], []
    with evaluating(model, guide), pyro.validation_enabled(False), explained(model, guide, *batch):
        for part in _chunks(model, batch, chains):
            target = _Target(model, guide, part)
            sizes, _ = path.adapt(target)
            weight, acceptance = path.forward(target, sizes)
            weights.append(weight.cpu())
            acceptances.append(acceptance.cpu())
            if progress is not None:
                progress(batch_size(part))
    whole = torch.cat(weights, 1)
    found = _three("log_evidence", of_chains(whole)) | {
        "acceptance": torch.cat(acceptances),
        "ess": (2 * whole.logsumexp(0) - (2 * whole).logsumexp(0)).exp(),
    }
    return _dataset(found, steps=steps, chains=chains, leapfrog=leapfrog, schedule=schedule)


def sandwich(
    model: Program,
    *batch: Any,
    steps: int = 500,
    chains: int = 16,
    leapfrog: int = 10,
    schedule: str = "sigmoid",
) -> tuple[tuple[Any, ...], xr.Dataset]:
    """Bidirectional Monte Carlo (Grosse et al. 2015): log p(x) from below and from above, on data the model draws.

    For data drawn with their latent from the model, that latent is an exact draw from the posterior; annealing from
    it back to the prior gives an upper bound where the forward run gives a lower one. Each chain starts from a draw of
    its own: a tenth of the steps, all at the posterior, take it away from the one that they all come from.

    Args:
        model: any Pyro program whose continuous latents live in the plate "data".
        batch: its arguments; the observed one is only looked at for its size, the inputs of a conditional model are
            used as they are.
        steps: see :func:`annealed`; likewise the other arguments.

    Returns:
        The batch with simulated data in it, and a dataset with dimension data, in nats: ``lower``, ``upper`` and
        ``log_evidence``, their midpoint, each with ``_se`` and ``_bias`` as in :func:`annealed`; ``width`` and
        ``acceptance``.

    Raises:
        InputError: as :func:`annealed`, or where the model observes none of its arguments.
    """
    path = _Path(temperatures(schedule, steps), leapfrog, chains)
    batches, ahead, back, acceptances = [], [], [], []
    with evaluating(model), pyro.validation_enabled(False), explained(model, None, *batch):
        for part in _chunks(model, batch, chains):
            simulated, values = simulate(model, *part)
            target = _Target(model, None, simulated)
            sizes, _ = path.adapt(target)
            weight, acceptance = path.forward(target, sizes)
            u = path.mixed(target, sizes[-1], target.coordinates.vector(values).expand(chains, -1, -1))
            ahead.append(weight.cpu())
            back.append(path.backward(target, sizes, u).cpu())
            acceptances.append(acceptance.cpu())
            batches.append(simulated)
    lower, inverse = of_chains(torch.cat(ahead, 1)), of_chains(-torch.cat(back, 1))
    upper = LogMean(-inverse.value, inverse.error, inverse.bias)
    middle = LogMean(
        (lower.value + upper.value) / 2, torch.hypot(lower.error, upper.error) / 2, (lower.bias - upper.bias).abs() / 2
    )
    found = _three("lower", lower) | _three("upper", upper) | _three("log_evidence", middle)
    found |= {"width": upper.value - lower.value, "acceptance": torch.cat(acceptances)}
    joined = (torch.cat(args) if isinstance(args[0], Tensor) else args[0] for args in zip(*batches, strict=True))
    return tuple(joined), _dataset(found, steps=steps, chains=chains, leapfrog=leapfrog)


def simulate(model: Program, *batch: Any) -> tuple[tuple[Any, ...], dict[str, Tensor]]:
    """Draws z and x from the model: its arguments with x in the place of the observed one, and z by name.

    The latents have a leading dimension of one particle.
    """
    coordinates = Coordinates(model, batch)
    sites = random_sites(poutine.trace(model).get_trace(*batch))
    seen = {site["name"]: site["value"] for site in sites if site["is_observed"]}
    places = {name: n for name, value in seen.items() for n, arg in enumerate(batch) if _same_numbers(arg, value)}
    missing = [name for name in seen if name not in places]
    if missing:
        raise InputError(
            f"the model observes {missing[0]!r}, which is none of its arguments, at most reshaped: data drawn from "
            "the model could not be given to it; observe an argument itself"
        )
    drawn = run(poutine.uncondition(model), batch, 1, coordinates.nesting)
    values = {site["name"]: site["value"] for site in random_sites(drawn)}
    simulated = list(batch)
    for name, place in places.items():
        simulated[place] = values.pop(name).reshape(batch[place].shape)
    return tuple(simulated), values


def _same_numbers(argument: Any, value: Tensor) -> bool:
    """Whether a value is an argument, or a view of all of it in the same order."""
    return argument is value or (
        isinstance(argument, Tensor)
        and (argument.data_ptr(), argument.numel()) == (value.data_ptr(), value.numel())
        and argument.is_contiguous()
        and value.is_contiguous()
    )


class _Target:
    """The densities at both ends of the path, for the data points of one chunk."""

    def __init__(self, model: Program, guide: Program | None, batch: tuple[Any, ...]) -> None:
        self.model, self.guide, self.batch = model, guide, batch
        self.coordinates = Coordinates(model, batch)

    def start(self, chains: int) -> Tensor:
        """u of draws from the start, shape (chains, batch, dim)."""
        if self.guide is None:
            return self.coordinates.from_prior(self.model, self.batch, chains)
        drawn = run(self.guide, self.batch, chains, self.coordinates.nesting)
        return self.coordinates.vector(latent_values(drawn))

    def __call__(self, u: Tensor) -> "_State":
        """log start(u) and log p(x, u) - log start(u) with their gradients."""
        nesting = self.coordinates.nesting
        with torch.enable_grad():
            u = u.detach().requires_grad_()
            values, log_det = self.coordinates.values(u)
            prior, ratio = log_joint(self.model, self.batch, values, len(u), nesting)
            base = prior
            if self.guide is not None:
                base = log_guide(self.guide, self.batch, values, len(u), nesting)
                ratio = prior + ratio - base
            base = base + log_det
            (base_slope,) = torch.autograd.grad(base.sum(), u, retain_graph=True)
            (ratio_slope,) = torch.autograd.grad(ratio.sum(), u)
        return _State(u.detach(), base.detach(), ratio.detach(), base_slope, ratio_slope)


@dataclass
class _State:
    u: Tensor
    base: Tensor
    ratio: Tensor
    base_slope: Tensor
    ratio_slope: Tensor

    def log_density(self, beta: float) -> Tensor:
        return self.base + beta * self.ratio

    def slope(self, beta: float) -> Tensor:
        return self.base_slope + beta * self.ratio_slope

    def where(self, chosen: Tensor, other: "_State") -> "_State":
        """This state in the chosen chains, the other one elsewhere."""
        wide = chosen[..., None]
        return _State(
            torch.where(wide, self.u, other.u),
            torch.where(chosen, self.base, other.base),
            torch.where(chosen, self.ratio, other.ratio),
            torch.where(wide, self.base_slope, other.base_slope),
            torch.where(wide, self.ratio_slope, other.ratio_slope),
        )


class _Path:
    def __init__(self, betas: Tensor, leapfrog: int, chains: int) -> None:
        for name, value, least in (("chains", chains, 2), ("leapfrog", leapfrog, 1)):
            if value < least:
                raise InputError(f"{name} is {value}; at least {least} is needed")
        self.betas, self.leapfrog, self.chains = betas.tolist(), leapfrog, chains

    def adapt(self, target: _Target) -> tuple[Tensor, Tensor]:
        """Step sizes by temperature and data point, shape (steps, batch), from a pilot run; and its acceptance."""
        state = target(target.start(_PILOT_CHAINS))
        size = state.u.new_full(state.base.shape[1:], 0.5 / state.u.shape[-1] ** 0.25)
        sizes, total = [], torch.zeros_like(size)
        for beta in self.betas[1:]:
            state, rate = self._move(target, state, beta, size)
            total += rate
            size = size * (0.3 * (rate - _TARGET_ACCEPTANCE)).exp()
            sizes.append(size)
        return torch.stack(sizes), total / len(sizes)

    def forward(self, target: _Target, sizes: Tensor) -> tuple[Tensor, Tensor]:
        """Log-weights, float64 of shape (chains, batch), and the mean acceptance of each data point."""
        state = target(target.start(self.chains))
        weights, total = torch.zeros_like(state.base, dtype=torch.float64), torch.zeros_like(sizes[0])
        for number, size in enumerate(sizes, 1):
            weights += (self.betas[number] - self.betas[number - 1]) * state.ratio.double()
            if number < len(sizes):  # the last move would change no weight
                state, rate = self._move(target, state, self.betas[number], size)
                total += rate
        return weights, total / max(1, len(sizes) - 1)

    def mixed(self, target: _Target, size: Tensor, u: Tensor) -> Tensor:
        """Posterior draws u moved on at the posterior: still draws from it, but away from where they were."""
        state = target(u)
        for _ in range(max(_FEWEST_MIXING, len(self.betas) // 10)):
            state, _ = self._move(target, state, 1.0, size)
        return state.u

    def backward(self, target: _Target, sizes: Tensor, u: Tensor) -> Tensor:
        """The same weights from a posterior draw u back to the start."""
        state = target(u)
        weights = torch.zeros_like(state.base, dtype=torch.float64)
        for number in range(len(sizes), 0, -1):
            if number < len(sizes):
                state, _ = self._move(target, state, self.betas[number], sizes[number - 1])
            weights += (self.betas[number] - self.betas[number - 1]) * state.ratio.double()
        return weights

    def _move(self, target: _Target, state: _State, beta: float, size: Tensor) -> tuple[_State, Tensor]:
        """One Hamiltonian move; the acceptance probability is averaged over the chains."""
        step = size[None, :, None]
        momentum = torch.randn_like(state.u)
        energy = momentum.square().sum(-1) / 2 - state.log_density(beta)
        moved = state
        for _ in range(self.leapfrog):
            momentum = momentum + step / 2 * moved.slope(beta)
            moved = target(moved.u + step * momentum)
            momentum = momentum + step / 2 * moved.slope(beta)
        change = energy - (momentum.square().sum(-1) / 2 - moved.log_density(beta))
        rate = change.nan_to_num(-math.inf, math.inf, -math.inf).clamp(max=0).exp()
        return moved.where(torch.rand_like(rate) < rate, state), rate.mean(0)


def _chunks(model: Program, batch: tuple[Any, ...], chains: int) -> Iterator[tuple[Any, ...]]:
    """The batch in parts whose largest tensor, for all chains, stays near the cache."""
    size = batch_size(batch)
    points = max(1, CHUNK_BYTES // (largest_bytes(model, batch) * chains))
    for start in range(0, size, points):
        yield rows(batch, size, start, start + points)


def _three(name: str, mean: LogMean) -> dict[str, Tensor]:
    return {name: mean.value, f"{name}_se": mean.error, f"{name}_bias": mean.bias}


def _dataset(columns: dict[str, Tensor], **attrs: Any) -> xr.Dataset:
    found = {name: ("data", column.double().numpy()) for name, column in columns.items()}
    return xr.Dataset(found, attrs={"units": "nats", **attrs})
