"""A whole training step as one CUDA graph: a GPU gets one launch instead of hundreds.

See "CUDA Graphs" in PyTorch's notes; the random numbers of a replay go on from where the device's generator is.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from ppl_vae.graphs.tracing import agree
from ppl_vae.pairs.restore import random_state_kept, tensors_kept

# Runs on the capturing stream before the recording: libraries set themselves up in the first ones, which a graph must
# not hold.
_WARM = 3


class CudaGraph:
    """A function of a batch, recorded once and launched at each call.

    Its results are the same tensors at each call, with other numbers.
    """

    def __init__(self, run: Callable[..., Any], batch: Sequence[Tensor]) -> None:
        self._batch = [part.clone() for part in batch]
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(_WARM):
                run(*self._batch)
        torch.cuda.current_stream().wait_stream(stream)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph, stream=stream):
            self._results = run(*self._batch)

    def __call__(self, *batch: Tensor) -> Any:
        """Launches the graph on a batch, which is copied to where the graph reads it."""
        for read, part in zip(self._batch, batch, strict=True):
            read.copy_(part)
        self._graph.replay()
        return self._results


def launched(run: Callable[..., Any], batch: Sequence[Tensor], state: Callable[[], list[Tensor]]) -> CudaGraph:
    """Records a step as a CUDA graph, and runs both once to see that the graph does what the step does.

    Args:
        run: the step; returns tensors.
        batch: its arguments.
        state: all tensors that the step changes in place, which are left as they were.

    Raises:
        RuntimeError: where the graph gives other numbers, or can't be recorded.
    """
    with random_state_kept(), tensors_kept(state()):
        graph = CudaGraph(run, batch)
    with random_state_kept(), tensors_kept(state()):
        expected = [part.clone() for part in (*run(*batch), *state()) if part is not None]
    with random_state_kept(), tensors_kept(state()):
        launched_once = [part.clone() for part in (*graph(*batch), *state()) if part is not None]
    if not agree(expected, launched_once):
        raise RuntimeError("it gives other numbers")
    return graph


def on_gpu(batch: Sequence[Tensor]) -> bool:
    """Whether a batch lies on a GPU, where CUDA graphs are."""
    return batch[0].is_cuda


def make_capturable(steppers: Iterable[Optimizer]) -> bool:
    """Keeps the optimizers' step counts and learning rates on the GPU, where all of them can; says whether they do."""
    steppers = list(steppers)
    if not all("capturable" in stepper.defaults for stepper in steppers):
        return False
    for stepper in steppers:
        for group in stepper.param_groups:
            device = group["params"][0].device
            group["capturable"] = True
            group["lr"] = torch.as_tensor(float(group["lr"]), device=device)
    return True


def state_of(steppers: Iterable[Optimizer]) -> list[Tensor]:
    """Lists the tensors that optimizers remember from step to step."""
    memories = (memory for stepper in steppers for memory in stepper.state.values())
    return [value for memory in memories for value in memory.values() if isinstance(value, Tensor)]
