"""The data that a pair of programs is called with: tensors with a row for each data point, cut and moved in chunks."""

from typing import Any

import pyro
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, RandomSampler, SubsetRandomSampler, WeightedRandomSampler

from ppl_vae.errors import InputError, shown
from ppl_vae.pairs.modules import Program, modules_of
from ppl_vae.pairs.restore import random_state_kept

Batch = tuple[Any, ...]
Data = Tensor | tuple[Any, ...] | list[Any] | DataLoader


def batch_of(data: Data) -> Batch:
    """Turns the data into the arguments of both programs, a tuple; a DataLoader is read once and put together.

    Raises:
        InputError: for anything but a tensor, a tuple or list that begins with one, or a ``DataLoader`` of these; and
            for data without a row.
    """
    if isinstance(data, DataLoader):
        if isinstance(data.sampler, RandomSampler | SubsetRandomSampler | WeightedRandomSampler):
            raise InputError(
                "the loader shuffles, and what is measured comes back by data point in the order of the data: make it "
                "with shuffle=False"
            )
        with random_state_kept():  # a loader draws a seed for its workers
            batches = [tuple(part) if isinstance(part, tuple | list) else (part,) for part in data]
        if not batches or not all(isinstance(value, Tensor) for part in batches for value in part):
            raise InputError("the loader gives no tensors: let it give one tensor, or a tuple of them, for each batch")
        if len({tuple((part.shape[1:], part.dim()) for part in batch) for batch in batches}) > 1:
            raise InputError("the loader's batches differ in more than their number of rows: give the data as tensors")
        batch: Batch = tuple(map(torch.cat, zip(*batches, strict=True)))
    elif isinstance(data, tuple | list):
        batch = tuple(data)
    else:
        batch = (data,)
    for argument in batch:
        require_plain("the data", argument)
    batch_size(batch)
    return tuple(map(_usable, batch))


def require_plain(name: str, argument: Any) -> None:
    """Raises InputError for a tensor that holds its numbers otherwise than programs read them, or holds none."""
    if not isinstance(argument, Tensor):
        return
    faults = {
        "are a nested tensor; expected rows of one length: .to_padded_tensor(0.0) fills them": argument.is_nested,
        "are a sparse tensor; expected a dense one: .to_dense() makes it": argument.layout is not torch.strided,
        "lie on the device 'meta', which holds no numbers: give a tensor that has some": _is_empty(argument),
        "are quantized; expected real numbers: .dequantize() gives them": argument.is_quantized,
        "are complex numbers; expected real ones: torch.view_as_real gives both parts": argument.is_complex(),
    }
    for fault, found in faults.items():
        if found:
            raise InputError(f"{name} {fault}")


def require_values(*programs: Program | None) -> None:
    """Raises InputError where parameters have shapes, but no values."""
    leaves = (leaf for module in modules_of(*programs) for leaf in (*module.parameters(), *module.buffers()))
    if any(map(_is_empty, leaves)):
        raise InputError("parameters lie on the device 'meta', which holds no numbers: make the module on another one")


def _is_empty(tensor: Tensor) -> bool:
    """Says whether a tensor has a shape alone; one of a class of its own keeps its numbers where it likes."""
    return tensor.is_meta and type(tensor) in (Tensor, nn.Parameter)


def require_maker(name: str, make: Any, given: str) -> None:
    """Raises InputError where what is to make programs is one."""
    if isinstance(make, nn.Module):
        raise InputError(f"{name} is {shown(make)}; expected a function that makes one from {given}")


def _usable(argument: Any) -> Any:
    """Copies a tensor of ``torch.inference_mode``, of which nothing that has gradients may be computed."""
    return argument.clone() if isinstance(argument, Tensor) and argument.is_inference() else argument


def device_batch(data: Data, *programs: Program | None) -> Batch:
    """Turns all of the data into arguments, on the device of the programs, to which no gradient goes back."""
    batch = tuple(argument.detach() if isinstance(argument, Tensor) else argument for argument in batch_of(data))
    return rows(batch, batch_size(batch), 0, batch_size(batch), device_of(batch, *programs))


def batch_size(batch: Batch) -> int:
    """Returns the number of data points in a pair's arguments; InputError where there is none."""
    if not batch:
        raise InputError("the data are empty; expected a tensor with a row for each data point, or a tuple of some")
    first = batch[0]
    if callable(first) and not isinstance(first, Tensor):
        raise InputError("a program is given where the data are expected: give the model, the guide, then the data")
    if not isinstance(first, Tensor):
        raise InputError(
            f"the data hold a {type(first).__name__}; expected a tensor or a tuple of some: torch.as_tensor makes one"
        )
    if first.dim() == 0 or len(first) == 0:
        shape = tuple(first.shape)
        raise InputError(f"the data have shape {shape}; expected a row for each data point, at least one")
    return len(first)


def rows(batch: Batch, size: int, start: int, stop: int, device: torch.device | None = None) -> Batch:
    """Cuts a pair's arguments to the data points from start to stop, and moves them where a device is given."""
    if start > 0 or stop < size:
        batch = tuple(
            arg[start:stop] if isinstance(arg, Tensor) and arg.dim() and len(arg) == size else arg for arg in batch
        )
    if device is None:
        return batch
    return tuple(arg.to(device) if isinstance(arg, Tensor) else arg for arg in batch)


def device_of(batch: Batch, *programs: Program | None) -> torch.device:
    """Returns the device of a pair: that of its parameters, those of its modules first, else that of the data."""
    require_values(*programs)
    modules = modules_of(*programs)
    leaves = [leaf for module in modules for leaf in (*module.parameters(), *module.buffers())]
    if any(programs) and not modules:  # functions, whose parameters live in the store
        leaves = list(pyro.get_param_store().get_state()["params"].values())
    return leaves[0].device if leaves else batch[0].device
