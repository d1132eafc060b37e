"""Many gradients of the same batch at once: the batch is repeated, and one backward pass gives each repetition's."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from pyro.infer import ELBO
from torch import Tensor, nn

from ppl_vae.modules import Program, modules_of
from ppl_vae.traces import batch_size

_ROWS = 4096  # of the repeated batch at once


def gradients(
    elbo: ELBO, model: Program, guide: Program, anchored: Program, batch: tuple[Any, ...], draws: int,
    leaves: list[Tensor],
) -> tuple[Tensor, bool]:  # fmt: skip
    """The gradient of ``elbo.loss_and_grads(model, anchored, *batch)``, again and again.

    Where every parameter is that of a linear layer, whose gradient is a sum over rows, the batch is repeated and each
    repetition's rows are summed by themselves (Goodfellow 2015). Else the draws come one after the other.

    Returns:
        Shape (draws, components), and whether they were drawn together.
    """
    layers = [part for module in modules_of(model, guide) for part in module.modules() if type(part) is nn.Linear]
    owned = {id(leaf) for layer in layers for leaf in layer.parameters()}
    size = batch_size(batch)
    if any(id(leaf) not in owned for leaf in leaves):
        return torch.stack([_one(elbo, model, anchored, batch, leaves) for _ in range(draws)]), False
    found = []
    done = 0
    while done < draws:
        count = min(draws - done, max(1, _ROWS // size))
        many = tuple(_repeated(part, size, count) for part in batch)
        with _recorded(layers, count, size) as kept:
            _one(elbo, model, anchored, many, leaves)
        if any(id(leaf) not in kept for leaf in leaves if leaf.grad is not None):
            return torch.stack([_one(elbo, model, anchored, batch, leaves) for _ in range(draws)]), False
        parts = [kept.get(id(leaf), leaf.new_zeros(count, leaf.numel())) for leaf in leaves]
        found.append(torch.cat(parts, 1))
        done += count
    return torch.cat(found), True


def _one(elbo: ELBO, model: Program, guide: Program, batch: tuple[Any, ...], leaves: list[Tensor]) -> Tensor:
    for leaf in leaves:
        leaf.grad = None
    elbo.loss_and_grads(model, guide, *batch)
    flat = [torch.zeros_like(leaf) if leaf.grad is None else leaf.grad.to_dense() for leaf in leaves]
    return torch.cat([part.detach().flatten() for part in flat])


def _repeated(part: Any, size: int, count: int) -> Any:
    if not isinstance(part, Tensor) or not part.dim() or len(part) != size:
        return part
    return part.repeat(count, *(1,) * (part.dim() - 1))


@contextmanager
def _recorded(layers: list[nn.Linear], count: int, size: int) -> Iterator[dict[int, Tensor]]:
    """The gradients of each repetition, by the parameter's id, shape (count, components)."""
    kept: dict[int, Tensor] = {}

    def add(leaf: Tensor | None, value: Tensor) -> None:
        if leaf is not None and leaf.requires_grad:
            kept[id(leaf)] = kept[id(leaf)] + value if id(leaf) in kept else value

    def forward(layer: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        if output.requires_grad and output.dim() >= 2 and output.shape[-2] == count * size:
            (entered,) = inputs
            rows = _by_draw(entered.detach().expand(*output.shape[:-1], -1), count, size)

            def backward(grad: Tensor) -> None:
                slopes = _by_draw(grad, count, size)
                add(layer.weight, torch.bmm(slopes.mT, rows).flatten(1))
                add(layer.bias, slopes.sum(1))

            output.register_hook(backward)

    handles = [layer.register_forward_hook(forward) for layer in layers]
    try:
        yield kept
    finally:
        for handle in handles:
            handle.remove()


def _by_draw(values: Tensor, count: int, size: int) -> Tensor:
    """(..., count * size, width) to (count, rows of one repetition, width), the particles among its rows."""
    split = values.reshape(-1, count, size, values.shape[-1])
    return split.transpose(0, 1).flatten(1, 2)
