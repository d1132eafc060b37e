"""Faster and coarser matrix products: bfloat16 inside the networks, or TF32; log-densities stay as they are.

bfloat16 keeps 8 bits of a number, TF32 11, float32 24. A log-density adds up hundreds of terms and a log-weight is a
difference of such sums, so only what networks do inside is coarse; what they give is float32 again.
"""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Literal, get_args

import torch
from pyro.nn import PyroModule
from torch import nn

from ppl_vae.errors import InputError
from ppl_vae.graphs.private import CONVOLUTION, map_tensors

Precision = Literal["float32", "tf32", "bf16"]
_NETWORKS = (nn.Sequential, nn.Linear, nn.Bilinear, CONVOLUTION, nn.RNNBase, nn.MultiheadAttention)


def networks(modules: Iterable[nn.Module]) -> list[nn.Module]:
    """Finds the outermost networks inside modules: a ``Sequential`` (torchvision's ``MLP`` is one) or a single layer.

    What else holds them, a Pyro program or a family of distributions, computes densities.
    """
    outermost: dict[int, nn.Module] = {}
    for module in modules:
        programs = any(isinstance(part, PyroModule) for part in module.modules())
        if isinstance(module, _NETWORKS) and not programs:
            outermost[id(module)] = module
        else:
            outermost |= {id(part): part for part in networks(module.children())}
    return list(outermost.values())


@contextmanager
def computing_in(precision: Precision, modules: Iterable[nn.Module], device: torch.device) -> Iterator[None]:
    """Runs the networks of some modules in a coarser precision while the context lasts.

    Args:
        precision: "float32" changes nothing; "tf32" lets a GPU multiply float32 matrices in TF32 (a CPU does not);
            "bf16" runs the networks under bfloat16 autocast, on a GPU or a CPU, parameters and gradients float32.
        modules: those whose networks are meant.
        device: where they run.

    Raises:
        InputError: for another name, and for bf16 where the modules have no network.
    """
    if precision not in get_args(Precision):
        raise InputError(f"precision is {precision!r}; expected {', '.join(get_args(Precision))}")
    with ExitStack() as stack:
        if precision == "tf32":
            before = torch.get_float32_matmul_precision()
            stack.callback(torch.set_float32_matmul_precision, before)
            torch.set_float32_matmul_precision("high")
        if precision == "bf16":
            inside = networks(modules)
            if not inside:
                raise InputError("precision is 'bf16', but there is no network (an nn.Sequential, a layer) for it")
            for network in inside:
                _coarse(network, device, stack)
        yield


def _coarse(network: nn.Module, device: torch.device, stack: ExitStack) -> None:
    """Puts autocast around each call of a network, and makes what it returns float32 again."""
    running: list[torch.autocast] = []

    def enter(_: nn.Module, __: Any) -> None:
        running.append(torch.autocast(device.type, torch.bfloat16, cache_enabled=False))
        running[-1].__enter__()

    def leave(_: nn.Module, __: Any, output: Any) -> Any:  # after an error too
        if running:
            running.pop().__exit__(None, None, None)
        return map_tensors(lambda part: part.float() if part.dtype == torch.bfloat16 else part, output)

    stack.callback(network.register_forward_pre_hook(enter).remove)
    stack.callback(network.register_forward_hook(leave, always_call=True).remove)
