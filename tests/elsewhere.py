"""A device of the tests' own: tensors on it hold real numbers, and refuse to meet tensors of the CPU as a GPU's do.

It goes by the name of "meta", a device that PyTorch knows on every machine and never computes on.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

ELSEWHERE = torch.device("meta")
_aten = torch.ops.aten
_CROSSING = {_aten._to_copy.default, _aten.copy_.default, _aten._local_scalar_dense.default}
_INDEXING = {_aten.index.Tensor, _aten.index_put_.default, _aten.index_put.default}  # a GPU takes indices of the CPU


class Away(Tensor):
    """A tensor elsewhere."""

    @staticmethod
    def __new__(cls, here: Tensor) -> "Away":
        shape = {"strides": here.stride(), "dtype": here.dtype, "device": "cpu"}
        return Tensor._make_wrapper_subclass(cls, here.shape, **shape, dispatch_device=True)

    def __init__(self, here: Tensor) -> None:
        self.here = here

    def __repr__(self, **_: Any) -> str:
        return f"Away({self.here})"

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _dispatch(func, args, kwargs or {})


class _Operations(TorchDispatchMode):
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _dispatch(func, args, kwargs or {})


class _Made(TorchFunctionMode):
    """Numbers of Python's become a tensor here: PyTorch itself, asked for one elsewhere, would drop them."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        device = kwargs.get("device")
        if func in (torch.tensor, torch.as_tensor) and device is not None and torch.device(device) == ELSEWHERE:
            return func(*args, **{**kwargs, "device": None}).to(ELSEWHERE)
        if func in (Tensor.__getitem__, Tensor.__setitem__):
            places = args[1] if isinstance(args[1], tuple) else (args[1],)
            places = tuple(torch.tensor(place) if isinstance(place, list) else place for place in places)
            args = (args[0], places if isinstance(args[1], tuple) else places[0], *args[2:])
        return func(*args, **kwargs)


def _dispatch(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    if func is torch.ops.prim.device.default:
        return ELSEWHERE
    tensors = [value for value in tree_flatten((args, kwargs))[0] if isinstance(value, Tensor)]
    away = [tensor for tensor in tensors if isinstance(tensor, Away)]
    here = [tensor for tensor in tensors if not isinstance(tensor, Away) and tensor.dim()]
    if away and here and func not in _CROSSING | _INDEXING:
        raise RuntimeError(f"Expected all tensors to be on the same device, but {func} got tensors of two")
    goes_away = bool(away)
    if kwargs.get("device") is not None:
        goes_away = torch.device(kwargs["device"]) == ELSEWHERE
        kwargs = {**kwargs, "device": torch.device("cpu")}
    args_here, kwargs_here = tree_map(lambda value: value.here if isinstance(value, Away) else value, (args, kwargs))
    result = func(*args_here, **kwargs_here)
    if func._schema.is_mutable and isinstance(result, Tensor) and args and isinstance(args[0], Tensor):
        return args[0]
    return tree_map(lambda value: Away(value) if isinstance(value, Tensor) else value, result) if goes_away else result


@contextmanager
def elsewhere() -> Iterator[torch.device]:
    """The device exists; yields it."""
    before = torch.__future__.get_swap_module_params_on_conversion()
    torch.__future__.set_swap_module_params_on_conversion(True)
    try:
        with _Operations(), _Made():
            yield ELSEWHERE
    finally:
        torch.__future__.set_swap_module_params_on_conversion(before)
