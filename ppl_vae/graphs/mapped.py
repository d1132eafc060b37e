"""A run with random numbers, recorded as a graph of tensor operations and mapped over draws by ``torch.func.vmap``."""

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch._C._functorch import is_batchedtensor
from torch.func import functionalize, vmap
from torch.fx import GraphModule, Node
from torch.utils._pytree import tree_leaves

from ppl_vae.errors import InputError
from ppl_vae.graphs.simplifying import is_random, writes
from ppl_vae.graphs.tracing import lifted, recorded

aten = torch.ops.aten
_OWN = "draw by draw"  # marks what fills a new tensor of each draw
_EMPTY = (aten.empty.memory_format, aten.empty_like.default, aten.new_empty.default)
# where torch.func.functionalize puts the first, vmap would draw once for all: it knows the second
_IN_PLACE = {
    aten.normal_functional.default: aten.normal_.default,
    aten.uniform.default: aten.uniform_.default,
    aten.exponential.default: aten.exponential_.default,
    aten.bernoulli.p: aten.bernoulli_.float,
    aten.cauchy.default: aten.cauchy_.default,
    aten.geometric.default: aten.geometric_.default,
    aten.log_normal.default: aten.log_normal_.default,
}


class MappedGraph:
    """Many runs of a function at once, each with random numbers of its own.

    Args:
        run: takes nothing and gives tensors; what it reads is in it as it is now.
        device: of its tensors.

    Attributes:
        numbers: how many one run makes, in all its operations.
        draws: whether it draws random numbers; if not, all runs give the same.

    Raises:
        InputError: where a run writes to a tensor that it finds, or vmap can't give each draw random numbers.
        Exception: whatever else it does that a graph can't.
    """

    def __init__(self, run: Callable[[], list[Tensor]], device: torch.device) -> None:
        self._device = device
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            graph, self._outside = _graph(run, torch.zeros((), device=device))
        self.draws = any(is_random(node) for node in graph.graph.nodes)
        self.numbers = sum(_numbers(node.meta.get("val")) for node in graph.graph.nodes)

        def one(start: Tensor, *outside: Tensor) -> tuple[list[Tensor], list[Any]]:
            found, noise = graph(start, *outside)
            if not all(is_batchedtensor(part) for part in tree_leaves(noise)):
                raise InputError("vmap gives all draws the same random numbers")
            return found, noise

        self._run = vmap(one, (0, *[None] * len(self._outside)), randomness="different")

    def __call__(self, draws: int) -> tuple[list[Tensor], list[Any]]:
        """Returns what the runs give, and what their random operations gave them, each with the draws in front."""
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of operations that are mapped one by one
            return self._run(torch.zeros(draws, device=self._device), *self._outside)


def _graph(run: Callable[[], list[Tensor]], start: Tensor) -> tuple[GraphModule, list[Tensor]]:
    """Records a run whose operations write to nothing outside; it gives the results and the noise.

    Returns the graph, and the tensors that it finds outside.
    """

    def started(_: Tensor) -> list[Tensor]:
        return run()

    graph = recorded(started, start)
    outside = lifted(graph)
    _draw_by_draw(graph)
    if any(writes(node) for node in graph.graph.nodes if _OWN not in node.meta):
        versions = [part._version for part in outside]
        with torch.no_grad():
            graph = recorded(functionalize(graph), start, *outside)
        if versions != [part._version for part in outside]:
            raise InputError("it writes to a tensor that it finds outside its arguments")
        _draw_by_draw(graph)
    (output,) = (node for node in graph.graph.nodes if node.op == "output")
    output.args = ((list(output.args[0]), [node for node in graph.graph.nodes if is_random(node)]),)
    graph.recompile()
    return graph, outside


def _draw_by_draw(graph: GraphModule) -> None:
    """Gives each draw its own tensor for random operations to fill, made from the graph's first argument.

    Left are those that write to a tensor seen elsewhere, until ``functionalize`` takes the writing out.
    """
    start = next(node for node in graph.graph.nodes if node.op == "placeholder")
    for node in [node for node in graph.graph.nodes if node.target in _IN_PLACE or _fills(node)]:
        filled, *numbers = node.args
        with graph.graph.inserting_before(node):
            zero = graph.graph.call_function(aten._to_copy.default, (start,), {"dtype": node.meta["val"].dtype})
            zeros = graph.graph.call_function(aten.zeros_like.default, (filled,))
            fresh = graph.graph.call_function(aten.add.Tensor, (zeros, zero))
            drawn = graph.graph.call_function(_IN_PLACE.get(node.target, node.target), (fresh, *numbers), node.kwargs)
        drawn.meta |= node.meta | {_OWN: True}
        node.replace_all_uses_with(drawn)
        graph.graph.erase_node(node)


def _fills(node: Node) -> bool:
    """Says whether it fills an empty tensor that nothing else sees."""
    if node.target not in _IN_PLACE.values():
        return False
    (filled, *_) = node.args
    return isinstance(filled, Node) and filled.target in _EMPTY and set(filled.users) == {node}


def _numbers(value: Any) -> int:
    parts = value if isinstance(value, tuple | list) else (value,)
    return sum(part.numel() for part in parts if isinstance(part, Tensor))
