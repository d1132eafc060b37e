"""Training on many devices and machines by ``torchrun``: each process takes its rows of every batch.

All processes draw the same random numbers for the whole batch and keep those of their rows, so the training is that of
one process with the same batch; the gradients are summed by ``torch.distributed``.
"""

import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from pyro.poutine import Trace
from pyro.poutine.util import prune_subsample_sites
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from ppl_vae.errors import InputError
from ppl_vae.traces import DATA_PLATE, random_sites

_GONE = (
    "one of the {count} processes is gone ({reason}): start them again; with a checkpoint the training goes on from "
    "its last whole epoch"
)


@contextmanager
def joined() -> Iterator[None]:
    """Joins the processes that ``torchrun`` started, if it did: nccl where there are GPUs, else gloo."""
    if int(os.environ.get("WORLD_SIZE", "1")) < 2:
        yield
        return
    gpus = torch.cuda.is_available()
    if gpus:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group("nccl" if gpus else "gloo")
    before = signal.signal(signal.SIGTERM, _told)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
        dist.destroy_process_group()


def _told(*_: Any) -> None:
    """What torchrun's closing signal means."""
    raise InputError(_GONE.format(count=count(), reason="torchrun closes the others"))


def rank() -> int:
    """The number of this process, 0 where it is alone."""
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


def count() -> int:
    """The number of processes."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


class Share:
    """This process's rows of a batch of so many.

    A batch of fewer rows than processes leaves some without any: these run its first row, and count it for nothing.
    """

    def __init__(self, total: int) -> None:
        sizes = [len(part) for part in torch.arange(total).tensor_split(count())]
        self.total, self.idle = total, sizes[rank()] == 0
        self.start = 0 if self.idle else sum(sizes[: rank()])
        self.length = max(1, sizes[rank()])

    def of(self, batch: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """The rows."""
        return tuple(part[self.start : self.start + self.length] for part in batch)


class SharedNoise(TorchDispatchMode):
    """Draws what is random for the whole batch, and keeps the rows of one share."""

    def __init__(self, share: Share) -> None:
        super().__init__()
        self.share = share

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if torch.Tag.nondeterministic_seeded not in func.tags:
            return func(*args, **kwargs)
        shape = next((part.shape for part in args if isinstance(part, Tensor)), args[0] if args else ())
        if not isinstance(shape, Sequence) or self.share.length not in shape:
            return func(*args, **kwargs)  # nothing of the data's: the same in all processes
        dims = [dim for dim, size in enumerate(shape) if size == self.share.length]
        inner = [dim for dim in dims if dim < len(shape) - 1]  # the last one is an event's, if it is not the only one
        dim = (inner or dims)[-1] - len(shape)
        whole = func(*(self._whole(part, dim) for part in args), **kwargs)
        mine = whole.narrow(dim, self.share.start, self.share.length)
        return args[0].copy_(mine) if func._schema.is_mutable else mine.clone()

    def _whole(self, part: Any, dim: int) -> Any:
        """An argument of the whole batch's size, this process's rows at their place in it."""
        length, before = self.share.length, self.share.start
        if isinstance(part, Tensor) and part.dim() >= -dim and part.shape[dim] == length:
            after = self.share.total - before - length
            ends = [part.narrow(dim, 0, 1).expand(*part.shape[:dim], size, *part.shape[part.dim() + dim + 1 :])
                    for size in (before, after)]  # fmt: skip
            return torch.cat([ends[0], part, ends[1]], dim)
        if isinstance(part, list | tuple) and len(part) >= -dim and part[dim] == length:
            return [*part[:dim], self.share.total, *part[len(part) + dim + 1 :]]
        return part


def require_shareable(*traces: Trace) -> None:
    """InputError where a term of the ELBO is not a sum over rows: every process would count all of it."""
    for site in (site for trace in traces for site in random_sites(prune_subsample_sites(trace))):
        frame = next((frame for frame in site["cond_indep_stack"] if frame.name == DATA_PLATE), None)
        if frame is None or frame.full_size not in (None, frame.size):
            where = "lies outside the plate" if frame is None else "subsamples its plate"
            raise InputError(
                f"site {site['name']!r} {where} {DATA_PLATE!r}, so that {count()} processes can't share its rows: take "
                "one process, or a plate as long as the batch around the site"
            )


def same_everywhere(tensors: Sequence[Tensor]) -> None:
    """Gives every process the first one's parameters and buffers."""
    for tensor in tensors:
        dist.broadcast(tensor.data, 0)


def summed(loss: Tensor | float, leaves: Sequence[Tensor], share: Share) -> Tensor:
    """Sums the loss and the leaves' gradients over the processes; InputError where one of them is gone."""
    given = [leaf for leaf in leaves if leaf.grad is not None]
    parts = [leaf.grad.flatten() for leaf in given if leaf.grad is not None]
    loss = torch.as_tensor(loss, dtype=parts[0].dtype, device=parts[0].device)
    flat = torch.cat([*parts, loss.reshape(1)])
    if share.idle:
        flat = torch.zeros_like(flat)
    try:
        dist.all_reduce(flat)
    except RuntimeError:
        raise InputError(_GONE.format(count=count(), reason="it no longer answers")) from None
    start = 0
    for leaf in given:
        leaf.grad = flat[start : start + leaf.numel()].view_as(leaf)
        start += leaf.numel()
    return flat[-1]
