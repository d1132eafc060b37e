"""A graph with fewer nodes and the same numbers: a replay pays for each node, whatever it does.

Every rewrite is exact in floating point: what is computed twice is computed once, what is constant is computed now, and
what changes nothing (a view of a view back, a product with 1, a sum with 0) is left out. Random nodes stay, in their
order, so that a seed gives the numbers that it gave before.
"""

import operator
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.fx import Graph, GraphModule, Node

aten = torch.ops.aten
_LARGEST_CONSTANT = 2**22  # numbers: a constant lives as long as the graph
_SAME = (aten.alias.default, aten.detach.default, aten.lift_fresh.default)
_FILLED = {
    aten.ones_like.default: 1.0,
    aten.zeros_like.default: 0.0,
    aten.new_zeros.default: 0.0,
    aten.new_ones.default: 1.0,
    aten.zeros.default: 0.0,
    aten.ones.default: 1.0,
}
_FILL_ARGUMENT = {aten.full.default: 1, aten.full_like.default: 1, aten.new_full.default: 2}


def simplify(module: GraphModule) -> GraphModule:
    """Rewrites the graph in place until nothing changes any more, and returns its module."""
    graph = module.graph
    changing = _written(graph)
    while any(
        [
            _fold(module, changing),
            _drop_noops(module, changing),
            _merge_equal(graph, changing),
            graph.eliminate_dead_code(_stays),
        ]
    ):
        pass
    module.recompile()
    return module


def with_results_apart(module: GraphModule) -> GraphModule:
    """Gives each result memory of its own, in place: none is a tensor outside, an argument, another result or a view.

    What is done to a gradient, to clip it say, is then done to nothing else.
    """
    graph, taken = module.graph, set[Node]()
    output = next(node for node in reversed(graph.nodes) if node.op == "output")

    def apart(result: Node) -> Node:
        root = result
        while _is_view(root) and not writes(root) and root.all_input_nodes:
            root = root.all_input_nodes[0]
        if root.op == "call_function" and root not in taken:
            taken.add(root)
            return result
        with graph.inserting_before(output):
            copy = graph.call_function(aten.clone.default, (result,))
        copy.meta |= {key: value for key, value in result.meta.items() if key != "constant"}
        return copy

    output.args = torch.fx.map_arg(output.args, apart)
    module.recompile()
    return module


def without_first(module: GraphModule, count: int) -> GraphModule:
    """Copies a graph of several results without the first of them, and without what only these need."""
    graph = Graph()
    results: Any = graph.graph_copy(module.graph, {})
    graph.output(results[count:])
    graph.eliminate_dead_code(_stays)
    return GraphModule(module, graph)


def is_random(node: Node) -> bool:
    """Says whether a node draws random numbers."""
    return isinstance(node.target, torch._ops.OpOverload) and torch.Tag.nondeterministic_seeded in node.target.tags


def writes(node: Node) -> bool:
    """Says whether a node writes to one of its arguments."""
    return isinstance(node.target, torch._ops.OpOverload) and node.target._schema.is_mutable


def _written(graph: Graph) -> set[Node]:
    """Finds the nodes whose memory some node writes to, through any view: they are left as they are."""
    written: set[Node] = set()
    for node in graph.nodes:
        if writes(node):
            written.add(node)
            written |= {arg for arg in node.all_input_nodes}
    for node in reversed(graph.nodes):  # what they are views of
        if node in written and _is_view(node):
            written |= set(node.all_input_nodes)
    for node in graph.nodes:  # and what is a view of these
        if _is_view(node) and any(arg in written for arg in node.all_input_nodes):
            written.add(node)
    return written


def _is_view(node: Node) -> bool:
    if node.target is operator.getitem:
        return True
    return isinstance(node.target, torch._ops.OpOverload) and (node.target.is_view or writes(node))


def _stays(node: Node) -> bool:
    """Whether a node counts for something though nothing uses it: it draws, or writes, or is an end of the graph."""
    return node.op in ("placeholder", "output") or is_random(node) or writes(node)


def value_of(node: Any) -> Tensor | None:
    """Returns the tensor that a node had when it was recorded; None where it is none."""
    found = node.meta.get("val") if isinstance(node, Node) else None
    return found if isinstance(found, Tensor) else None


def _constant(module: GraphModule, node: Any) -> Tensor | None:
    """Returns the tensor that a node holds for ever; parameters and buffers move, so they are none."""
    if not isinstance(node, Node) or node.op != "get_attr" or "constant" not in node.meta:
        return None
    return getattr(module, str(node.target))


def _fold(module: GraphModule, changing: set[Node]) -> bool:
    """Computes what depends on constants and shapes alone."""
    done = False
    for node in list(module.graph.nodes):
        if node in changing or node.op != "call_function" or is_random(node) or not node.users:
            continue
        value = value_of(node)
        if value is None or value.numel() > _LARGEST_CONSTANT:
            continue
        fill = node.args[_FILL_ARGUMENT[node.target]] if node.target in _FILL_ARGUMENT else _FILLED.get(node.target)
        if fill is not None:
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
    """Returns the one number that a constant is made of."""
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
        one, two = value_of(node), value_of(other)
        if one is not None and two is not None and (one.shape, one.dtype) == (two.shape, two.dtype):
            _replace(node, other)
            done = True
    return done


def _same_as(module: GraphModule, node: Node) -> Node | None:
    """Returns a node with the same numbers, if its shape is the same too."""
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
    if target is aten.sum.default and not node.kwargs:
        value = value_of(first)
        return first if value is not None and value.dim() == 0 else None
    if target in (aten.sum.dim_IntList, aten.mean.dim):  # over dimensions of length 1
        value, keep = value_of(first), len(args) > 2 and args[2]
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
