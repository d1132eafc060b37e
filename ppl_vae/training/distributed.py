"""Training on many devices and machines by ``torchrun``: each process takes its rows of every batch.

All processes draw the same random numbers for the whole batch and keep those of their rows, so the training is that of
one process with the same batch; the gradients are summed by ``torch.distributed``.
"""

import os
import signal
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from pyro.poutine import Trace
from pyro.poutine.util import prune_subsample_sites
from torch import Tensor

from ppl_vae.errors import InputError, Outage
from ppl_vae.pairs.traces import DATA_PLATE, random_sites
from ppl_vae.training.shared_noise import Share

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
    before = signal.signal(signal.SIGTERM, _refuse_to_go_on)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
        dist.destroy_process_group()


def _refuse_to_go_on(*_: Any) -> None:
    """Says what torchrun's closing signal means."""
    raise Outage(_GONE.format(count=count(), reason="torchrun closes the others"))


def rank() -> int:
    """The number of this process, 0 where it is alone."""
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


def count() -> int:
    """The number of processes."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def my_share(total: int) -> Share:
    """Picks this process's rows of a batch of so many.

    A batch of fewer rows than processes leaves some without any: these run its first row, and count it for nothing.
    """
    sizes = [len(part) for part in torch.arange(total).tensor_split(count())]
    idle = sizes[rank()] == 0
    return Share(total, 0 if idle else sum(sizes[: rank()]), max(1, sizes[rank()]), idle)


def require_shareable(*traces: Trace) -> None:
    """Raises an InputError where a term of the ELBO is not a sum over rows: every process would count all of it."""
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
    for tensor in tensors if count() > 1 else ():
        dist.broadcast(tensor.data, 0)


def of_first(words: str) -> str:
    """Gives every process the first one's words."""
    if count() == 1:
        return words
    shared = [words]
    dist.broadcast_object_list(shared, 0)
    return shared[0]


def summed(loss: Tensor | float, leaves: Sequence[Tensor], share: Share, state: Sequence[Tensor] = ()) -> Tensor:
    """Sums the loss and the leaves' gradients over the processes; InputError where one of them is gone.

    Args:
        loss: this process's.
        leaves: the parameters; one that no process's rows reach stays without a gradient.
        share: its rows.
        state: what an estimator remembers, means over rows, which become those over the whole batch.
    """
    sparse = [leaf for leaf in leaves if leaf.grad is not None and leaf.grad.is_sparse]
    dense = [leaf for leaf in leaves if all(leaf is not other for other in sparse)]
    like = leaves[0]
    parts = [torch.zeros_like(leaf) if leaf.grad is None else leaf.grad for leaf in dense]
    parts += [tensor * (share.length / share.total) for tensor in state]
    reached = torch.tensor([leaf.grad is not None for leaf in dense])
    parts += [reached, torch.as_tensor(loss, dtype=like.dtype).detach(), torch.tensor(_stamp(like.device))]
    flat = torch.cat([part.detach().to(like.device, like.dtype).flatten() for part in parts])
    if share.idle:
        flat[:-1] = 0
    try:
        dist.all_reduce(flat)
        for leaf in sparse:
            leaf.grad = _summed_rows(leaf.grad, share)  # type: ignore[arg-type]
    except RuntimeError:
        raise Outage(_GONE.format(count=count(), reason="it no longer answers")) from None
    pieces = flat.split([part.numel() for part in parts])
    *sums, flags, total, stamps = (piece.view_as(part) for piece, part in zip(pieces, parts, strict=True))
    if float(stamps) != count() * _stamp(like.device):
        raise InputError(
            f"the {count()} processes no longer draw the same random numbers, without which their rows are not of one "
            "batch: look for draws or branches that depend on the rows, or take one process"
        )
    for leaf, gradient, is_reached in zip(dense, sums, flags.tolist(), strict=False):
        leaf.grad = gradient.to(leaf.dtype) if is_reached else None
    for tensor, mean in zip(state, sums[len(dense) :], strict=True):
        tensor.copy_(mean)
    return total


def _stamp(device: torch.device) -> int:
    """A number that tells states of the random numbers apart, and that sums without rounding in float32."""
    state = torch.cuda.get_rng_state(device) if device.type == "cuda" else torch.get_rng_state()
    return zlib.crc32(state.numpy().tobytes()) % 8191


def _summed_rows(gradient: Tensor, share: Share) -> Tensor:
    """Sums a table's sparse gradients over the processes: the rows of all, one after the other."""
    gradient = gradient.coalesce()
    lengths = torch.zeros(count(), dtype=torch.long, device=gradient.device)
    lengths[rank()] = 0 if share.idle else len(gradient.values())
    dist.all_reduce(lengths)
    before, after = int(lengths[: rank()].sum()), int(lengths[rank() + 1 :].sum())

    def gathered(mine: Tensor) -> Tensor:
        mine = mine[: int(lengths[rank()])]
        whole = torch.cat([mine.new_zeros(before, *mine.shape[1:]), mine, mine.new_zeros(after, *mine.shape[1:])])
        dist.all_reduce(whole)
        return whole

    indices, values = gathered(gradient.indices().T.contiguous()).T, gathered(gradient.values())
    return torch.sparse_coo_tensor(indices, values, gradient.shape).coalesce()
