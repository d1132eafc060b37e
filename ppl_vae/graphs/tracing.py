"""A function of tensors as a graph of ATen operations: recorded, replayed, and compared with what it stands for."""

import math
import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule, Node
from torch.fx.experimental.proxy_tensor import make_fx

from ppl_vae.errors import InputError
from ppl_vae.graphs.private import sizes_noted_in_one_mode
from ppl_vae.graphs.simplifying import simplify, value_of

aten = torch.ops.aten


def traced(run: Callable[..., Any], batch: tuple[Tensor, ...], moving: Iterable[Tensor]) -> GraphModule:
    """Runs a function on a batch once and gives back its simplified graph; random numbers are drawn on the way.

    The graph reads the tensors that the function finds outside its arguments where they are.

    Args:
        run: takes the tensors of a batch.
        batch: sizes, types and devices stay as they are here.
        moving: those outside tensors that change from run to run, such as parameters and buffers; all others are
            taken for constants.

    Raises:
        InputError: where a size depends on values, which a graph would hold as it is here.
        Exception: whatever else the function does that a graph can't.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        graph = recorded(run, *batch)
    places = {tensor.data_ptr() for tensor in moving}
    for node in graph.graph.nodes:
        if node.op == "get_attr" and isinstance(tensor := getattr(graph, node.target), Tensor):
            node.meta.setdefault("val", tensor)
            if tensor.data_ptr() not in places and not tensor.requires_grad:
                node.meta["constant"] = True
    for node in graph.graph.nodes:
        if _size_depends_on_values(node):
            raise InputError(f"how much {node.target.__name__.partition('.')[0]} finds depends on values")
    return simplify(graph)


def recorded(run: Callable[..., Any], *batch: Tensor) -> GraphModule:
    """Runs a function on a batch once and gives back all of its operations as a graph."""
    with sizes_noted_in_one_mode():
        return make_fx(run)(*batch)


def replay(graph: Callable[..., Any]) -> Callable[..., Any]:
    """Makes a graph a function that records no gradients."""
    run = graph.forward if isinstance(graph, GraphModule) else graph

    def replayed(*batch: Tensor) -> Any:
        with torch.no_grad():
            return run(*batch)

    return replayed


def lifted(graph: GraphModule) -> list[Tensor]:
    """Makes arguments of the tensors that the graph holds, behind its own, and gives them back."""
    held: dict[str, tuple[Node, Tensor]] = {}
    last = next(node for node in reversed(graph.graph.nodes) if node.op == "placeholder")
    for node in [node for node in graph.graph.nodes if node.op == "get_attr"]:
        if node.target not in held:
            with graph.graph.inserting_after(last):
                last = graph.graph.placeholder(f"outside_{len(held)}")
            last.meta |= node.meta
            held[node.target] = last, getattr(graph, node.target)
        node.replace_all_uses_with(held[node.target][0])
        graph.graph.erase_node(node)
    graph.recompile()
    return [tensor for _, tensor in held.values()]


def agree(expected: Sequence[Any], found: Sequence[Any], relative: float = 1e-3) -> bool:
    """Says whether tensors agree, each in its own size.

    The limit is far above what the order of sums does, and far below other changes.
    """
    for one, two in zip(expected, found, strict=True):
        if one is None or two is None:
            if one is not two:
                return False
            continue
        one, two = torch.as_tensor(one).detach().double().cpu(), torch.as_tensor(two).detach().double().cpu()
        if one.shape == two.shape:
            distance, size = float((one - two).norm()), float(one.norm())
            if math.isfinite(distance) and math.isfinite(size):  # then all numbers are, and need no further look
                if not distance <= relative * size + 1e-6:
                    return False
                continue
        same = torch.isclose(one, two, rtol=0.0, atol=math.inf, equal_nan=True)  # infinities and NaN in their places
        distance, size = float((one - two)[one.isfinite()].norm()), float(one[one.isfinite()].norm())
        if not same.all() or not distance <= relative * size + 1e-6:
            return False
    return True


def _size_depends_on_values(node: Node) -> bool:
    if not isinstance(node.target, torch._ops.OpOverload) or torch.Tag.dynamic_output_shape not in node.target.tags:
        return False
    if node.target is not aten.index.Tensor:
        return True
    moving = (place for place in node.args[1] if isinstance(place, Node) and "constant" not in place.meta)  # type: ignore[union-attr]
    masks = map(value_of, moving)
    return any(mask is not None and mask.dtype in (torch.bool, torch.uint8) for mask in masks)
