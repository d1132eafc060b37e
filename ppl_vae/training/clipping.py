"""Gradients that are too long are shortened before the optimizer's step."""

from collections.abc import Sequence

import torch
from torch import Tensor

_LEAST = 1e-6  # beside a norm that is divided by, as in torch.nn.utils.clip_grad_norm_


class Clipping:
    """Shortens the gradients of a step to a largest norm, over all parameters together.

    The norm is that of the gradient of the mean ELBO of a data point, as a step's own is a sum over the rows.

    Args:
        parameters: those that the ELBO depends on.
        largest: the norm for one data point.
        full_size: the data points that each step stands for, where a plate subsamples them.
    """

    def __init__(self, parameters: Sequence[Tensor], largest: float, full_size: int | None = None) -> None:
        self._parameters, self._largest, self._full_size = list(parameters), largest, full_size

    def __call__(self, rows: int) -> None:
        """Shortens the gradients that the parameters now have, after a step on so many rows."""
        reached = [(leaf, leaf.grad) for leaf in self._parameters if leaf.grad is not None]
        # a row of a table that is drawn twice has two gradients, which are one number each only when they are added up
        found = [(leaf, gradient.coalesce() if gradient.is_sparse else gradient) for leaf, gradient in reached]
        numbers = [gradient.values() if gradient.is_sparse else gradient for _, gradient in found]
        if not numbers:
            return
        norm = torch.nn.utils.get_total_norm(numbers)
        factor = (self._largest * (self._full_size or rows) / (norm + _LEAST)).clamp(max=1.0)
        for leaf, gradient in found:  # not in place: two parameters may have one gradient, and a graph its own
            leaf.grad = gradient * factor.to(gradient.device, gradient.dtype)
