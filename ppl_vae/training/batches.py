"""Where ``fit`` gets its minibatches from: tensors that live on the device, or a ``DataLoader``."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from ppl_vae.errors import InputError
from ppl_vae.pairs.arguments import require_plain
from ppl_vae.pairs.mistakes import not_finite
from ppl_vae.training.binarizing import bernoulli
from ppl_vae.training.digests import digest

Batch = tuple[Tensor, ...]


@dataclass(frozen=True)
class Batches:
    """A source of minibatches, epoch after epoch.

    Attributes:
        size: data points in an epoch, as far as a loader's dataset and batch size tell.
        steps: minibatches in an epoch.
        batch_size: data points of each but the last.
        epoch: yields the minibatches of one epoch, on the device.
        fingerprint: tells data apart: a digest of their values in their order, where they are at hand.
        is_exact: whether the size is known for sure: of a loader whose sampler leaves rows out it is not.
        code: the user's own that makes the minibatches: a loader, a transform.
        loader: the loader, if there is one.
        inexact: why a training that was cut off may go on with other batches than one without a break; empty if none.
    """

    size: int
    steps: int
    batch_size: int
    epoch: Callable[[], Iterator[Batch]]
    fingerprint: Callable[[], str]
    is_exact: bool = True
    code: tuple[Any, ...] = ()
    loader: DataLoader | None = None
    inexact: str = ""

    @property
    def runs_no_foreign_code(self) -> bool:
        """Whether no code of the user's makes the minibatches."""
        return not self.code

    @property
    def even(self) -> bool:
        """Whether all minibatches have one shape."""
        return self.size % min(self.batch_size, self.size) == 0


def batches(
    data: Any, batch_size: int, device: torch.device, transform: Callable[[Tensor], Tensor] | None = None
) -> Batches:
    """Makes minibatches of tensors, moved to the device once and shuffled, or takes those of a ``DataLoader``.

    A batch of all rows has them in their order: an autoguide has parameters for each of them, and those of a time
    series belong one behind the other.

    Raises:
        InputError: for empty or unequal data, NaN, or a loader without a length.
    """

    if transform is torch.bernoulli:
        transform = bernoulli
    code = () if transform is None or transform is bernoulli else (transform,)

    def transformed(batch: Batch) -> Batch:
        first, *rest = batch
        if transform is None:
            return batch
        changed: Any = transform(first)
        if not isinstance(changed, Tensor) or changed.dim() == 0 or len(changed) != len(first):
            kind = tuple(changed.shape) if isinstance(changed, Tensor) else type(changed).__name__
            raise InputError(f"transform makes a {kind} of {tuple(first.shape)}; expected a tensor of as many rows")
        return (changed, *rest)

    if isinstance(data, DataLoader):
        return replace(_from_loader(data, device, transformed), code=(data, *code), loader=data, inexact=_inexact(data))
    tensors = tuple(tensor.to(device) for tensor in _checked(data))
    size = len(tensors[0])

    def epoch() -> Iterator[Batch]:
        if batch_size >= size:
            yield transformed(tuple(map(_copied, tensors)))
            return
        for rows in torch.randperm(size, device=device).split(batch_size):
            yield transformed(tuple(tensor.index_select(0, rows) for tensor in tensors))  # faster than tensor[rows]

    def fingerprint() -> str:
        return f"{size} rows of digest {digest(tensors)}"

    return Batches(size, math.ceil(size / batch_size), batch_size, epoch, fingerprint, code=code)


def _copied(tensor: Tensor) -> Tensor:
    """Copies rows, since a program may write to what it is given; they lie in memory one behind the other."""
    return tensor.clone(memory_format=torch.contiguous_format)


def _from_loader(loader: DataLoader, device: torch.device, transformed: Callable[[Batch], Batch]) -> Batches:
    try:
        size, steps = len(loader.dataset), len(loader)  # type: ignore[arg-type]
    except TypeError:
        raise InputError("the DataLoader's dataset has no length: give it a __len__, which an epoch needs") from None
    if not steps:
        raise InputError("the DataLoader is empty: fit needs at least one row")
    if loader.drop_last and loader.batch_size:
        size = steps * loader.batch_size

    def epoch() -> Iterator[Batch]:
        for item in loader:
            parts = item if isinstance(item, tuple | list) else (item,)
            if not all(isinstance(part, Tensor) for part in parts):
                raise InputError(
                    f"the DataLoader yields {[type(part).__name__ for part in parts]}; expected one tensor or several, "
                    "the arguments of model and guide: set its collate_fn"
                )
            for number, part in enumerate(parts):
                _refuse_unusable(f"a batch of the DataLoader (its tensor {number})", part)
            yield transformed(tuple(part.detach().to(device, non_blocking=True) for part in parts))

    batch_size = loader.batch_size or math.ceil(size / steps)
    return Batches(size, steps, batch_size, epoch, lambda: f"{size} rows of a loader", is_exact=False)


def _inexact(loader: DataLoader) -> str:
    if isinstance(loader.dataset, IterableDataset):
        return "the DataLoader's dataset is a stream, whose place no checkpoint holds unless each epoch begins it anew"
    if loader.persistent_workers:
        return "the DataLoader's workers persist, and no checkpoint holds the random numbers that their dataset draws"
    return ""


def _checked(data: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    tensors = tuple(data) if isinstance(data, tuple | list) else (data,)
    kinds = [type(tensor).__name__ for tensor in tensors if not isinstance(tensor, Tensor)]
    if kinds:
        raise InputError(f"the data hold a {kinds[0]}; expected a tensor or a tuple of some: torch.as_tensor makes one")
    for tensor in tensors:
        require_plain("the data", tensor)  # before its shape is asked for, which a nested one has not
    if any(tensor.dim() == 0 for tensor in tensors):
        raise InputError("the data are one number; expected a row for each data point")
    lengths = [len(tensor) for tensor in tensors]
    if not tensors or min(lengths) == 0:
        raise InputError("the data are empty: fit needs at least one row")
    if len(set(lengths)) > 1:
        raise InputError(f"the tensors of data have {lengths} rows: fit needs equally many in each")
    for number, tensor in enumerate(tensors):
        _refuse_unusable(f"tensor {number} of data", tensor)
    return tuple(tensor.detach() for tensor in tensors)


def _refuse_unusable(name: str, tensor: Tensor) -> None:
    require_plain(name, tensor)
    for line in not_finite(name, tensor):
        raise InputError(line)
