"""What runs a graph: TorchScript, at a third of what a small operation costs from Python, or a compiler."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.fx import Graph, GraphModule, Node
from torch.utils._pytree import tree_flatten, tree_structure, tree_unflatten

from ppl_vae.graphs.private import compiled_by_inductor, interpreted_by_torchscript
from ppl_vae.graphs.simplifying import is_random
from ppl_vae.graphs.tracing import lifted, replay

Engine = Callable[[GraphModule, Sequence[Tensor]], Callable[..., Sequence[Tensor]]]


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
    if any(map(_gives_nothing, graph.graph.nodes)):
        return _run_by(_from_python, graph, batch)
    try:
        return _run_by(interpreted_by_torchscript, graph, batch)
    except Exception:
        return replay(graph)


def compiled(graph: GraphModule, batch: Sequence[Tensor]) -> Callable[..., Any]:
    """Makes a graph a function as :func:`interpreted` does, in seconds, whose operations a compiler has put together.

    It draws the same random numbers and rounds otherwise. What was compiled once is found again on the disk, where
    ``TORCHINDUCTOR_CACHE_DIR`` says.

    Raises:
        Exception: whatever the compiler says, that there is none for C++ most often.
    """
    return _run_by(compiled_by_inductor, graph, batch)


def _run_by(engine: Engine, graph: GraphModule, batch: Sequence[Tensor]) -> Callable[..., Any]:
    """Has an engine run a graph whose outside tensors are arguments too."""
    copied, kinds, structure = _with_tensors_alone(graph)
    outside = lifted(copied)
    engine_run = engine(copied, (*batch, *outside))
    count = len(kinds)
    if all(kinds) and structure == tree_structure((0,) * count):
        return lambda *batch: engine_run(*batch, *outside)[:count]

    def run(*batch: Tensor) -> Any:
        tensors = iter(engine_run(*batch, *outside))
        return tree_unflatten([next(tensors) if kind else None for kind in kinds], structure)

    return run


def _from_python(graph: GraphModule, _: Sequence[Tensor]) -> Callable[..., Sequence[Tensor]]:
    return replay(graph)


def _gives_nothing(node: Node) -> bool:
    """Says whether a node only writes, as a fused optimizer does: TorchScript leaves it out without a word."""
    return isinstance(node.target, torch._ops.OpOverload) and not node.target._schema.returns


def _with_tensors_alone(graph: GraphModule) -> tuple[GraphModule, list[bool], Any]:
    """Copies a graph, to give a flat tuple of tensors: a gradient that is missing stays away.

    Returns the copy, which results of the graph are tensors, and how these are nested.
    """
    copied = Graph()
    results, structure = tree_flatten(copied.graph_copy(graph.graph, {}))
    kinds = [isinstance(result, Node) for result in results]
    # what is drawn and not used is given too: an engine would leave it out, and what is drawn after it would change
    unused = [node for node in copied.nodes if is_random(node) and not node.users]
    copied.output((*(result for result in results if isinstance(result, Node)), *unused))
    return GraphModule(graph, copied), kinds, structure
