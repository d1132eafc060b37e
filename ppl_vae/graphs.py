"""A function of tensors as a graph of ATen operations, with fewer nodes and the same numbers.

A replay pays for each node, whatever it does.
Every rewrite is exact in floating point: what is computed twice is computed once, what is constant is computed now, and
what changes nothing (a view of a view back, a product with 1, a sum with 0) is left out. Random nodes stay, in their
order, so that a seed gives the numbers that it gave before.
"""

import math
import operator
import warnings
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.fx import Graph, GraphModule, Node
from torch.fx.experimental.proxy_tensor import make_fx

from ppl_vae.errors import InputError

aten = torch.ops.aten
_LARGEST_CONSTANT = 2**22  # numbers: a constant lives as long as the graph
_SAME = (aten.alias.default, aten.detach.default, aten.lift_fresh.default)
_FILLED = {aten.ones_like.default: 1.0, aten.zeros_like.default: 0.0, aten.new_zeros.default: 0.0,
           aten.new_ones.default: 1.0}  # fmt: skip


def traced(
    run: Callable[..., Any], batch: tuple[Tensor, ...], moving: Iterable[Tensor], masking: bool = False
) -> GraphModule:
    """Runs a function on a batch once and gives back its simplified graph; random numbers are drawn on the way.

    The graph reads the tensors that the function finds outside its arguments where they are.

    Args:
        run: takes the tensors of a batch.
        batch: sizes, types and devices stay as they are here.
        moving: those outside tensors that change from run to run, such as parameters and buffers; all others are
            taken for constants.
        masking: whether the function selects by masks without making anything of how many there are.

    Raises:
        InputError: where a size depends on values, which a graph would hold as it is here.
        Exception: whatever else the function does that a graph can't.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        graph = make_fx(run)(*batch)
    places = {tensor.data_ptr() for tensor in moving}
    for node in graph.graph.nodes:
        if node.op == "get_attr" and isinstance(tensor := getattr(graph, node.target), Tensor):
            node.meta.setdefault("val", tensor)
            if tensor.data_ptr() not in places and not tensor.requires_grad:
                node.meta["constant"] = True
    for node in graph.graph.nodes:
        if _size_depends_on_values(node) and not (masking and node.target is aten.masked_select.default):
            raise InputError(f"how much {node.target.__name__.partition('.')[0]} finds depends on values")
    return simplify(graph)


def replay(graph: Callable[..., Any]) -> Callable[..., Any]:
    """A graph as a function that records no gradients."""
    run = graph.forward if isinstance(graph, GraphModule) else graph

    def replayed(*batch: Tensor) -> Any:
        with torch.no_grad():
            return run(*batch)

    return replayed


def agree(expected: Sequence[Any], found: Sequence[Any], relative: float = 1e-3) -> bool:
    """Whether tensors agree, each in its own size: far above what the order of sums does, far below other changes."""
    for one, two in zip(expected, found, strict=True):
        if one is None or two is None:
            if one is not two:
                return False
            continue
        one, two = torch.as_tensor(one).detach().double().cpu(), torch.as_tensor(two).detach().double().cpu()
        same = torch.isclose(one, two, rtol=0.0, atol=math.inf, equal_nan=True)  # infinities and NaN in their places
        distance, size = float((one - two)[one.isfinite()].norm()), float(one[one.isfinite()].norm())
        if not same.all() or not distance <= relative * size + 1e-6:
            return False
    return True


def simplify(module: GraphModule) -> GraphModule:
    """Rewrites the graph in place until nothing changes any more, and returns its module."""
    graph = module.graph
    changing = _written(graph)
    while any([_fold(module, changing), _drop_noops(module, changing), _merge_equal(graph, changing), _sweep(graph)]):
        pass
    module.recompile()
    return module


def _size_depends_on_values(node: Node) -> bool:
    if not isinstance(node.target, torch._ops.OpOverload) or torch.Tag.dynamic_output_shape not in node.target.tags:
        return False
    if node.target is not aten.index.Tensor:
        return True
    moving = (place for place in node.args[1] if isinstance(place, Node) and "constant" not in place.meta)  # type: ignore[union-attr]
    masks = map(_value, moving)
    return any(mask is not None and mask.dtype in (torch.bool, torch.uint8) for mask in masks)


def is_random(node: Node) -> bool:
    """Whether a node draws random numbers."""
    return isinstance(node.target, torch._ops.OpOverload) and torch.Tag.nondeterministic_seeded in node.target.tags


def _writes(node: Node) -> bool:
    return isinstance(node.target, torch._ops.OpOverload) and node.target._schema.is_mutable


def _written(graph: Graph) -> set[Node]:
    """The nodes whose memory some node writes to, through any view: they are left as they are."""
    found: set[Node] = set()
    for node in graph.nodes:
        if _writes(node):
            found.add(node)
            found |= {arg for arg in node.all_input_nodes}
    for node in reversed(graph.nodes):  # what they are views of
        if node in found and _is_view(node):
            found |= set(node.all_input_nodes)
    for node in graph.nodes:  # and what is a view of these
        if _is_view(node) and any(arg in found for arg in node.all_input_nodes):
            found.add(node)
    return found


def _is_view(node: Node) -> bool:
    if node.target is operator.getitem:
        return True
    return isinstance(node.target, torch._ops.OpOverload) and (node.target.is_view or _writes(node))


def _sweep(graph: Graph) -> bool:
    """Takes out what nothing uses."""
    before = len(graph.nodes)
    for node in reversed(graph.nodes):
        if not node.users and node.op not in ("placeholder", "output") and not is_random(node) and not _writes(node):
            graph.erase_node(node)
    return len(graph.nodes) < before


def _value(node: Any) -> Tensor | None:
    found = node.meta.get("val") if isinstance(node, Node) else None
    return found if isinstance(found, Tensor) else None


def _constant(module: GraphModule, node: Any) -> Tensor | None:
    """The tensor that a node holds for ever; parameters and buffers move, so they are none."""
    if not isinstance(node, Node) or node.op != "get_attr" or "constant" not in node.meta:
        return None
    return getattr(module, str(node.target))


def _fold(module: GraphModule, changing: set[Node]) -> bool:
    """Computes what depends on constants and shapes alone."""
    done = False
    for node in list(module.graph.nodes):
        if node in changing or node.op != "call_function" or is_random(node) or not node.users:
            continue
        value = _value(node)
        if value is None or value.numel() > _LARGEST_CONSTANT:
            continue
        if node.target in _FILLED or node.target is aten.full.default:
            fill = node.args[1] if node.target is aten.full.default else _FILLED[node.target]
            made = torch.full((), fill, dtype=value.dtype, device=value.device).expand(value.shape)
        elif all(_constant(module, arg) is not None for arg in node.all_input_nodes) and node.all_input_nodes:
            look = partial(_constant, module)
            with torch.no_grad():
                made = node.target(*torch.fx.map_arg(node.args, look), **torch.fx.map_arg(node.kwargs, look))
            if not isinstance(made, Tensor):
                continue
            if made.numel() > 1 and bool((made == made.flatten()[0]).all()):  # one number, spread
                made = made.flatten()[0].clone().expand(made.shape)
        else:
            continue
        _replace(node, _hold(module, node, made))
        done = True
    return done


def _hold(module: GraphModule, before: Node, tensor: Tensor) -> Node:
    name = f"constant_of_{before.name}"
    module.register_buffer(name, tensor, persistent=False)
    with module.graph.inserting_before(before):
        node = module.graph.get_attr(name)
    node.meta |= {"val": tensor, "constant": True}
    return node


def _replace(node: Node, other: Node) -> None:
    node.replace_all_uses_with(other)
    node.graph.erase_node(node)


def _number(module: GraphModule, node: Any) -> float | None:
    """The one number that a constant is made of."""
    if isinstance(node, int | float):
        return float(node)
    tensor = _constant(module, node)
    if tensor is None or not tensor.numel() or (tensor.numel() > 1 and any(tensor.stride())):
        return None
    return float(tensor.flatten()[0])


def _drop_noops(module: GraphModule, changing: set[Node]) -> bool:
    done = False
    for node in list(module.graph.nodes):
        if node in changing or node.op != "call_function" or not node.users:
            continue
        other = _same_as(module, node)
        if other is None or other in changing:
            continue
        one, two = _value(node), _value(other)
        if one is not None and two is not None and (one.shape, one.dtype) == (two.shape, two.dtype):
            _replace(node, other)
            done = True
    return done


def _same_as(module: GraphModule, node: Node) -> Node | None:
    """A node with the same numbers, if its shape is the same too."""
    target, args = node.target, node.args
    first = args[0] if args else None
    if not isinstance(first, Node):
        return None
    if target in (*_SAME, aten.expand.default, aten.view.default, aten._unsafe_view.default, aten.reshape.default):
        return first
    if target in (aten.t.default, aten.neg.default) and first.target is target:
        return first.args[0] if isinstance(first.args[0], Node) else None
    second = args[1] if len(args) > 1 else None
    if target in (aten.pow.Tensor_Scalar, aten.div.Tensor, aten.div.Scalar, aten.mul.Tensor, aten.mul.Scalar):
        if _number(module, second) == 1 and not node.kwargs:
            return first
        if target is aten.mul.Tensor and _number(module, first) == 1:
            return second if isinstance(second, Node) else None
    if target in (aten.add.Tensor, aten.sub.Tensor) and not node.kwargs:
        if _number(module, second) == 0:
            return first
        if target is aten.add.Tensor and _number(module, first) == 0:
            return second if isinstance(second, Node) else None
    if target in (aten.sum.dim_IntList, aten.mean.dim):  # over dimensions of length 1
        value, keep = _value(first), len(args) > 2 and args[2]
        dims: Any = args[1]
        if keep and value is not None and all(value.shape[dim] == 1 for dim in dims):
            return first
    return None


def _merge_equal(graph: Graph, changing: set[Node]) -> bool:
    seen: dict[Any, Node] = {}
    done = False
    for node in list(graph.nodes):
        if node in changing or node.op not in ("call_function", "get_attr") or is_random(node):
            continue
        try:
            key = (node.op, node.target, node.args if node.op == "call_function" else (), tuple(node.kwargs.items()))
            key = _frozen(key)
            hash(key)
        except TypeError:
            continue
        if key in seen:
            _replace(node, seen[key])
            done = True
        else:
            seen[key] = node
    return done


def _frozen(value: Any) -> Any:
    if isinstance(value, Node):
        return ("node", id(value))
    if isinstance(value, list | tuple):
        return tuple(_frozen(part) for part in value)
    if isinstance(value, bool | float | int):
        return (type(value), value)
    return value
