"""The best member of a guide's family for each data point: what is left of the gap without amortization."""

from typing import Any

import pyro
import torch
from torch import Tensor, nn
from torch.optim import Adam
from torch.utils._python_dispatch import TorchDispatchMode

from ppl_vae.errors import InputError
from ppl_vae.pairs.checks import explained
from ppl_vae.pairs.log_weights import probe, weigh
from ppl_vae.pairs.mistakes import require_sound
from ppl_vae.pairs.modules import Program
from ppl_vae.pairs.restore import evaluating, local_parameters
from ppl_vae.pairs.traces import batch_size, rows
from ppl_vae.programs import FamilyGuide, last_index
from ppl_vae.training.optimizers import cosine

_CHUNK_BYTES = 2**26  # for the largest tensor of a step


class Held(FamilyGuide):
    """A family with the parameters of one batch: the last argument is the index of each data point in that batch.

    Args:
        family: shared with the guide it comes from; it is not registered as a part of this one.
        params: shape (batch, num_params).
        left: how far the ELBO of each data point is likely to be from the best one, nats, shape (batch,); none if None.
    """

    def __init__(self, family: nn.Module, params: Tensor, left: Tensor | None = None) -> None:
        super().__init__()
        self._family = (family,)
        self.held = nn.Parameter(params)
        self.left = left if left is not None else params.new_zeros(len(params))

    @property
    def family(self) -> nn.Module:  # type: ignore[override]
        """The other guide's family, as it stands."""
        return self._family[0]

    def params(self, x: Tensor, *given: Tensor) -> Tensor:
        """The rows at the index, shape (batch, num_params)."""
        return self.held[last_index(self, x, given)]


class Antithetic(TorchDispatchMode):
    """Standard normal noise for the particles comes in pairs e, -e, whatever distribution asks for it.

    The average over a pair has no error from the odd part of what is averaged: for a Gaussian q and a nearly quadratic
    log p(x, z), none in the gradient for the mean.

    Args:
        particles: the length of the first dimension, where pairs are made; noise of other lengths is left alone.
    """

    def __init__(self, particles: int) -> None:
        super().__init__()
        self.particles = particles

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        noise = func(*args, **(kwargs or {}))
        standard = func is torch.ops.aten.normal_.default and args[1:] in ((), (0.0,), (0.0, 1.0))
        if (standard or func is torch.ops.aten.randn.default) and noise.dim() and len(noise) == self.particles:
            half = self.particles // 2
            noise[half : 2 * half] = -noise[:half]
        return noise


def refine(
    model: Program,
    guide: FamilyGuide,
    *batch: Any,
    rate: float = 0.05,
    particles: int = 32,
    steps: int = 500,
    rounds: int = 5,
    tolerance: float = 5e-4,
) -> Held:
    """Optimizes a guide's parameters for each data point by itself, from where the guide puts them.

    Neither the model nor the guide is changed; a flow's networks stay as they are, and only what they get from the
    encoder is optimized. Rounds of Adam, each with its rate falling to 0 along a cosine and starting at half the one
    before, go on until one gains less than ``tolerance``. After a round each data point keeps the better of its old
    and new parameters, measured with the same noise.

    Args:
        model: any Pyro model whose latents the guide samples.
        guide: a guide with ``params`` and ``family``: amortized, per data point or semi-amortized.
        batch: the arguments of both, one row a data point.
        rate: Adam's first learning rate.
        particles: draws of z for each step's gradient, in antithetic pairs.
        steps: steps of a round.
        rounds: rounds at most.
        tolerance: nats per data point, on average.

    Returns:
        A guide for this very batch, which takes the index as its last argument: its bounds are
        ``bounds(model, refined, *batch, torch.arange(len(x)))``. Its attribute ``left``, shape (batch,), is what the
        last round still gained, in nats: since rounds gain less and less, about what is left to gain.

    Raises:
        InputError: for a guide that is no FamilyGuide, whose family is not reparameterized, or what
            :func:`ppl_vae.check` finds wrong with data and pair.
    """
    if not isinstance(guide, FamilyGuide):
        raise InputError(
            f"refine needs a guide with params(x) and a family, a FamilyGuide; it got {type(guide).__name__}"
        )
    size = batch_size(batch)
    with evaluating(model, guide), local_parameters(model, guide):
        with explained(model, guide, *batch):
            start = guide.params(*batch).detach().clone()
        if not guide.family(start).has_rsample:
            raise InputError(f"refine climbs reparameterized draws, {type(guide.family).__name__} has none")
        require_sound(model, guide, *batch)
        probed = probe(model, guide, *batch)
        together = max(1, _CHUNK_BYTES // (probed.largest_bytes * particles))
        left = torch.zeros_like(start[:, 0])
        for first in range(0, size, together):
            held = Held(guide.family, start[first : first + together])
            part = (*rows(batch, size, first, first + together), torch.arange(len(held.held), device=start.device))
            for number in range(rounds):
                before = held.held.detach().clone()
                _round(model, held, part, rate / 2**number, particles, steps, probed.nesting)
                gains = _keep_the_better(model, held, part, before, 4 * particles, probed.nesting)
                left[first : first + together] = gains
                if float(gains.mean()) < tolerance:
                    break
            start[first : first + together] = held.held.detach()
    return Held(guide.family, start, left)


def _round(
    model: Program, held: Held, batch: tuple[Any, ...], rate: float, particles: int, steps: int, nesting: int
) -> None:
    optimizer = Adam([held.held], lr=rate)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = rate * cosine(step / steps)
        with torch.enable_grad(), pyro.validation_enabled(False), Antithetic(particles):
            elbo = weigh(model, held, batch, particles, nesting).mean(0).sum()
            (slope,) = torch.autograd.grad(elbo, held.held)
        held.held.grad = -slope.nan_to_num(0.0, 0.0, 0.0)
        optimizer.step()


def _keep_the_better(
    model: Program, held: Held, batch: tuple[Any, ...], before: Tensor, particles: int, nesting: int
) -> Tensor:
    """Puts back the rows that a round made worse; returns the gains in nats, shape (batch,)."""
    state, after = pyro.util.get_rng_state(), held.held.detach().clone()
    elbos = []
    for params in (before, after):
        pyro.util.set_rng_state(state)
        held.held.data = params
        with Antithetic(particles):
            elbos.append(weigh(model, held, batch, particles, nesting).double().mean(0))
    better = elbos[1] > elbos[0]
    held.held.data = torch.where(better[:, None], after, before)
    return (elbos[1] - elbos[0]).clamp(min=0)
