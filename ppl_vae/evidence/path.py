"""The path between a start and the posterior, and Hamiltonian Monte Carlo along it.

The path is geometric, start(z)^(1 - beta) p(x, z)^beta (Neal 2001), the moves between are Hamiltonian Monte Carlo in
unconstrained coordinates, all chains of all data points at once (Wu et al. 2017).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import xarray as xr
from torch import Tensor

from ppl_vae.errors import InputError, require_count
from ppl_vae.evidence.coordinates import Coordinates
from ppl_vae.pairs.arguments import Batch
from ppl_vae.pairs.log_means import LogMean
from ppl_vae.pairs.pair import Pair

SCHEDULES = ("sigmoid", "geometric", "linear")
_TARGET_ACCEPTANCE = 0.65  # the best for HMC in many dimensions (Beskos et al. 2013)
_PILOT_CHAINS = 4
_FEWEST_MIXING = 10


def temperatures(schedule: str, steps: int) -> Tensor:
    """Spaces the temperatures beta_0 = 0, ..., beta_steps = 1 of a path, shape (steps + 1,), float64.

    They are crowded at both ends ("sigmoid"), at the start ("geometric"), or nowhere ("linear").

    Examples:
        >>> from ppl_vae.evidence import temperatures
        >>> temperatures("linear", steps=4)
        tensor([0.0000, 0.2500, 0.5000, 0.7500, 1.0000], dtype=torch.float64)
    """
    require_count("steps", steps, 1)
    done = torch.linspace(0, 1, steps + 1, dtype=torch.float64)
    if schedule == "linear":
        return done
    if schedule == "sigmoid":
        raw = torch.sigmoid(4 * (2 * done - 1))
        return (raw - raw[0]) / (raw[-1] - raw[0])
    if schedule == "geometric":
        return torch.cat([done[:1], 1e-4 ** (1 - done[1:])]) if steps > 1 else done
    raise InputError(f"schedule is {schedule!r}; choose from {', '.join(SCHEDULES)}")


class Target:
    """The densities at both ends of the path, for the data points of one chunk.

    Args:
        pair: the model and the guide where the path starts.
        part: the arguments of both.
        expected: how often they will be asked for with one number of chains; many are replayed from a graph.
    """

    def __init__(self, pair: Pair, part: Batch, expected: int) -> None:
        if not pair.is_bound:
            raise InputError("the guide is a point mass, from which nothing can be annealed: start at the prior, None")
        pair.require_all("an annealed log p(x)")
        self.pair, self.part = pair, part
        self.coordinates = Coordinates(pair, part)
        self._run = pair.repeated(self._by_programs, expected)

    def start(self, chains: int) -> Tensor:
        """Draws u from the start, shape (chains, units, dim)."""
        return self.coordinates.vector(self.pair.proposals(self.part, chains))

    def __call__(self, u: Tensor) -> "State":
        """Returns log start(u) and log p(x, u) - log start(u), with their gradients."""
        return State(u, *self._run((u,), len(u)))

    def slopes(self, u: Tensor) -> "Slopes":
        """Returns the gradients alone, from whose graph the densities are left out: these take a part of its time."""
        return Slopes(*self._run((u,), len(u), first=2))

    def _by_programs(self, batch: Batch, chains: int) -> list[Tensor]:
        with torch.enable_grad():
            u = batch[0].detach().requires_grad_()
            values, log_det = self.coordinates.values(u)
            if self.pair.own_guide is None:
                base, ratio = self.pair.log_joint(self.part, values, chains)
            else:
                prior, likelihood, proposed, base = self.pair.at(self.part, values, chains)
                ratio = prior + likelihood - proposed
            base = base + log_det
            (base_slope,) = torch.autograd.grad(base.sum(), u, retain_graph=True)
            (ratio_slope,) = torch.autograd.grad(ratio.sum(), u)
        return [base.detach(), ratio.detach(), base_slope, ratio_slope]


@dataclass
class Slopes:
    """The gradients for u of the start's log-density, and of log p(x, u) less that."""

    of_base: Tensor
    of_ratio: Tensor

    def at(self, beta: float) -> Tensor:
        """Returns the gradient of the path's log-density at beta."""
        return self.of_base + beta * self.of_ratio


@dataclass
class State:
    """Where the chains are: u, the start's log-density, log p(x, u) less that, and their gradients."""

    u: Tensor
    base: Tensor
    ratio: Tensor
    base_slope: Tensor
    ratio_slope: Tensor

    def log_density(self, beta: float) -> Tensor:
        """Returns the log-density of the path at beta, for each chain and data point."""
        return self.base + beta * self.ratio

    @property
    def slopes(self) -> Slopes:
        """The gradients by themselves."""
        return Slopes(self.base_slope, self.ratio_slope)

    def where(self, chosen: Tensor, other: "State") -> "State":
        """Takes this state in the chosen chains, and the other one elsewhere."""
        wide = chosen[..., None]
        return State(
            torch.where(wide, self.u, other.u),
            torch.where(chosen, self.base, other.base),
            torch.where(chosen, self.ratio, other.ratio),
            torch.where(wide, self.base_slope, other.base_slope),
            torch.where(wide, self.ratio_slope, other.ratio_slope),
        )


class Path:
    """The temperatures of a path and the moves along it.

    Attributes:
        advance: called after each move with the number of data points that it has moved.
    """

    def __init__(self, betas: Tensor, leapfrog: int, chains: int) -> None:
        require_count("chains", chains, 2)
        require_count("leapfrog", leapfrog, 1)
        self.betas, self.leapfrog, self.chains = betas.tolist(), leapfrog, chains
        self.advance: Callable[[int], object] = lambda points: None

    def target(self, pair: Pair, part: Batch) -> Target:
        """Makes the densities that the chains of a part of the data move by."""
        return Target(pair, part, self.leapfrog * (len(self.betas) - 1))

    @property
    def mixing(self) -> int:
        """The moves of :meth:`mixed`."""
        return max(_FEWEST_MIXING, len(self.betas) // 10)

    def adapt(self, target: Target) -> tuple[Tensor, Tensor]:
        """Finds step sizes, shape (steps, batch), by a pilot run; returns them and its acceptance."""
        state = target(target.start(_PILOT_CHAINS))
        size = state.u.new_full(state.base.shape[1:], 0.5 / state.u.shape[-1] ** 0.25)
        sizes, total = [], torch.zeros_like(size)
        for beta in self.betas[1:]:
            state, rate = self._move(target, state, beta, size)
            total += rate
            size = size * (0.3 * (rate - _TARGET_ACCEPTANCE)).exp().to(size)
            sizes.append(size)
        return torch.stack(sizes), total / len(sizes)

    def forward(self, target: Target, sizes: Tensor) -> tuple[Tensor, Tensor]:
        """Runs the path from the start; returns log-weights, float64 of shape (chains, batch), and the acceptance.

        The acceptance is the mean of each data point over the moves.
        """
        state = target(target.start(self.chains))
        weights, total = torch.zeros_like(state.base, dtype=torch.float64), torch.zeros_like(sizes[0])
        for number, size in enumerate(sizes, 1):
            weights += (self.betas[number] - self.betas[number - 1]) * state.ratio.double()
            if number < len(sizes):  # the last move would change no weight
                state, rate = self._move(target, state, self.betas[number], size)
                total += rate
        return weights, total / max(1, len(sizes) - 1)

    def mixed(self, target: Target, size: Tensor, u: Tensor) -> Tensor:
        """Moves posterior draws u on at the posterior: still draws from it, but away from where they were."""
        state = target(u.contiguous())
        for _ in range(self.mixing):
            state, _ = self._move(target, state, 1.0, size)
        return state.u

    def backward(self, target: Target, sizes: Tensor, u: Tensor) -> Tensor:
        """Runs the path back from a posterior draw u to the start; returns the same weights."""
        state = target(u)
        weights = torch.zeros_like(state.base, dtype=torch.float64)
        for number in range(len(sizes), 0, -1):
            if number < len(sizes):
                state, _ = self._move(target, state, self.betas[number], sizes[number - 1])
            weights += (self.betas[number] - self.betas[number - 1]) * state.ratio.double()
        return weights

    def _move(self, target: Target, state: State, beta: float, size: Tensor) -> tuple[State, Tensor]:
        """Makes one Hamiltonian move; the acceptance probability is averaged over the chains."""
        step = size[None, :, None]
        momentum = torch.randn_like(state.u)
        energy = momentum.square().sum(-1) / 2 - state.log_density(beta)
        u, slopes = state.u, state.slopes
        for left in range(self.leapfrog - 1, -1, -1):
            momentum = momentum + step / 2 * slopes.at(beta)
            u = u + step * momentum
            if left:
                slopes = target.slopes(u)
            else:  # the end alone is compared with the start
                moved = target(u)
                slopes = moved.slopes
            momentum = momentum + step / 2 * slopes.at(beta)
        change = energy - (momentum.square().sum(-1) / 2 - moved.log_density(beta))
        rate = change.nan_to_num(-math.inf, math.inf, -math.inf).clamp(max=0).exp()
        self.advance(len(size))
        return moved.where(torch.rand_like(rate) < rate, state), rate.mean(0)


def path_of(steps: int = 500, chains: int = 16, leapfrog: int = 10, schedule: str = "sigmoid") -> Path:
    """Makes a path of the options of :func:`ppl_vae.annealed`; InputError where they are none."""
    return Path(temperatures(schedule, steps), leapfrog, chains)


def with_error(name: str, mean: LogMean) -> dict[str, Tensor]:
    """Names the columns of an estimate: itself, its error and its bias."""
    return {name: mean.value, f"{name}_se": mean.error, f"{name}_bias": mean.bias}


def dataset_of(columns: dict[str, Tensor], **attrs: Any) -> xr.Dataset:
    """Makes a dataset in nats of columns, each with one number for each data point."""
    variables = {name: ("data", column.double().cpu().numpy()) for name, column in columns.items()}
    return xr.Dataset(variables, attrs={"units": "nats", **attrs})
