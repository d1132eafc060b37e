"""What a pair gives for some of the data, and what it takes to make it in bounded memory."""

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ppl_vae.graphs.private import TorchDispatchMode
from ppl_vae.pairs.runs import Terms


@dataclass(frozen=True, kw_only=True)
class Draws(Terms):
    """What a pair gives for some of the data: the terms of the log-weights, and the draws.

    Attributes:
        latents: the draws by name. Of a data point: shape (particles, points, event), empty where plates lie below the
            data. Of the whole data set: where they are asked for, shape (particles, batch, event), each its own batch.
        points: where the unit is the whole data set and a plate holds the data, the mean of what each data point adds
            to log w, shape (points,), and its variance over the draws; None otherwise.
        shared: the rest of log w then, shape (particles, 1).
    """

    latents: dict[str, Tensor]
    points: tuple[Tensor, Tensor] | None = None
    shared: Tensor = field(default_factory=lambda: torch.zeros(()))


def mean_and_variance(total: Tensor, squares: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Returns the mean and the variance of numbers, from their sum, that of their squares, and how many there are."""
    mean = total / count
    return mean, (squares / count - mean.square()).clamp(min=0) * (count / max(1, count - 1))


class LargestOutput(TorchDispatchMode):
    """Notes the largest tensor that an operation makes."""

    bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, tuple | list) else (result,):
            if isinstance(tensor, Tensor) and not func.is_view:
                self.bytes = max(self.bytes, tensor.numel() * tensor.element_size())
        return result
