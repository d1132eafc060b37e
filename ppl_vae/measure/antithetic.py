"""Noise in pairs e, -e, whatever distribution asks for it, and Adam climbing the ELBO by it."""

from collections.abc import Callable
from typing import Any

import pyro
import torch
from torch import Tensor, nn
from torch.optim import Adam

from ppl_vae.errors import InputError
from ppl_vae.graphs.private import TorchDispatchMode
from ppl_vae.pairs.arguments import Batch, batch_size
from ppl_vae.pairs.pair import Pair
from ppl_vae.training.optimizers import cosine


class Antithetic(TorchDispatchMode):
    """Makes the standard normal noise of the particles come in pairs e, -e, whatever distribution asks for it.

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
            # -e is as likely as e, so the mean stays unbiased; what is odd in e, the gradient for a Gaussian's mean for
            # the most part, cancels in each pair. An odd particle is left by itself.
            noise[half : 2 * half] = -noise[:half]
        return noise


class Climb:
    """Climbs the ELBO of a pair by Adam, its rate falling to 0 along a cosine, with noise in pairs.

    Args:
        pair: a pair whose log-weights depend on the leaves.
        leaves: what is moved.
        batch: the arguments of both programs.
        particles: draws of each unit in a step.
        steps: how many a round has.
        advance: called after each step with the number of units.
    """

    def __init__(
        self,
        pair: Pair,
        leaves: list[nn.Parameter],
        batch: Batch,
        particles: int,
        steps: int,
        advance: Callable[[int], None],
    ) -> None:
        self._pair, self._leaves, self._batch = pair, leaves, batch
        self._particles, self._steps, self._advance = particles, steps, advance
        self._units = 1 if pair.unit.whole else batch_size(batch)
        self._slopes = pair.repeated(self._by_programs, steps)

    def round(self, lr: float) -> None:
        """Takes the steps of a round, the first at a rate of lr."""
        optimizer = Adam(self._leaves, lr=lr)
        for step in range(self._steps):
            optimizer.param_groups[0]["lr"] = lr * cosine(step / self._steps)
            for leaf, slope in zip(self._leaves, self._slopes(self._batch, self._particles), strict=True):
                leaf.grad = slope
            optimizer.step()
            self._advance(self._units)

    def _by_programs(self, batch: Batch, particles: int) -> list[Tensor | None]:
        with torch.enable_grad(), pyro.validation_enabled(False), Antithetic(particles):
            elbos = self._pair.weigh(batch, particles).mean(0)
            if not elbos.requires_grad:
                raise InputError("refine climbs reparameterized draws, and no parameter of the guide reaches its draws")
            slopes = torch.autograd.grad(elbos.sum(), self._leaves, allow_unused=True)
        return [None if slope is None else -slope.nan_to_num(0.0, 0.0, 0.0) for slope in slopes]
