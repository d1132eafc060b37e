"""A graph that TorchScript's interpreter runs: from Python, a small operation costs some three times as much."""

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor
from torch.fx import Graph, GraphModule, Node
from torch.utils._pytree import tree_flatten, tree_unflatten

from ppl_vae.graphs.private import interpreted_by_torchscript
from ppl_vae.graphs.simplifying import is_random
from ppl_vae.graphs.tracing import lifted, replay


def interpreted(graph: GraphModule, batch: Sequence[Tensor]) -> Callable[..., Any]:
    """Makes a graph a function that records no gradients and gives the same numbers, bit for bit.

    A graph on a GPU, and one that TorchScript can't hold, is run from Python as by
    :func:`ppl_vae.graphs.tracing.replay`. Random numbers are drawn on the way, and what the graph changes is changed.

    Args:
        graph: reads the tensors outside its arguments where they are, also in the function.
        batch: arguments of the sizes and types that it is for.
    """
    if any(part.device.type != "cpu" for part in batch):
        return replay(graph)
    copied, kinds, structure = _with_tensors_alone(graph)
    outside = lifted(copied)
    try:
        run = interpreted_by_torchscript(copied.forward, (*batch, *outside))
    except Exception:
        return replay(graph)

    def interpret(*batch: Tensor) -> Any:
        tensors = iter(run(*batch, *outside))
        return tree_unflatten([next(tensors) if kind else None for kind in kinds], structure)

    return interpret


def _with_tensors_alone(graph: GraphModule) -> tuple[GraphModule, list[bool], Any]:
    """Copies a graph, to give a flat tuple of tensors: a gradient that is missing stays away.

    Returns the copy, which results of the graph are tensors, and how these are nested.
    """
    copied = Graph()
    results, structure = tree_flatten(copied.graph_copy(graph.graph, {}))
    kinds = [isinstance(result, Node) for result in results]
    # what is drawn and not used is given too: TorchScript would leave it out, and what is drawn after it would change
    unused = [node for node in copied.nodes if is_random(node) and not node.users]
    copied.output((*(result for result in results if isinstance(result, Node)), *unused))
    return GraphModule(graph, copied), kinds, structure
