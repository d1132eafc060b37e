"""Noise in pairs e, -e, whatever distribution asks for it."""

from typing import Any

import torch

from ppl_vae.graphs.private import TorchDispatchMode


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
