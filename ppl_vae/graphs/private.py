"""The private parts of torch and Pyro that this package needs, each behind a function that says what for.

A new version may take any of them away: ``tests/graphs/test_private.py`` has a test for each, which fails where one is
gone or means something else. Tried with the versions in ``TRIED_WITH``.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any
from unittest import mock

import pyro
import torch
from pyro.infer import ELBO
from pyro.nn import PyroModule
from torch import Tensor, nn
from torch._guards import TracingContext, tracing
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.distributions import Distribution
from torch.fx import GraphModule
from torch.fx.graph_module import _loader as _fx_sources
from torch.nn.functional import one_hot
from torch.optim import Optimizer
from torch.optim import optimizer as _optimizer
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

__all__ = ["TorchDispatchMode"]  # torch's way to see each operation on tensors, which its public modules do not export
TRIED_WITH = {"torch": "2.14.1", "pyro-ppl": "1.9.2"}

# The base class of all convolutions: torch has no public name for it.
CONVOLUTION: type[nn.Module] = nn.modules.conv._ConvNd

# What each module has, whatever its class: its own attributes are the others.
OF_EVERY_MODULE = frozenset(nn.Module().__dict__)

# What is called around the step of every optimizer.
_HOOKS_OF_ALL = _optimizer._global_optimizer_pre_hooks, _optimizer._global_optimizer_post_hooks

# How the names of the attributes begin in which a PyroModule keeps what is Pyro's.
PYRO_PREFIX = "_pyro"

# Operations that take as many random numbers on a CPU as their values ask for, since they reject some.
REJECTING = ("aten._standard_gamma", "aten._sample_dirichlet", "aten.poisson", "aten.binomial")


def give_its_own_parameters(module: nn.Module) -> None:
    """Gives a PyroModule a parameter store of its own, if it was made while the setting for that was off.

    Pyro makes this store in the constructor alone, by the setting ``module_local_params`` at that moment.
    """
    if isinstance(module, PyroModule) and not hasattr(module._pyro_context, "param_state"):
        module._pyro_context.param_state = {"params": {}, "constraints": {}}


def pyro_state_of(module: nn.Module) -> dict[str, Any]:
    """Returns what Pyro keeps of a PyroModule beside its attributes, the dictionary itself; empty for other modules."""
    context = getattr(module, "_pyro_context", None)
    return vars(context) if context is not None else {}


def settle_plates(elbo: ELBO, model: Callable[..., Any], guide: Callable[..., Any], batch: tuple[Any, ...]) -> None:
    """Has one of Pyro's ELBOs find ``max_plate_nesting`` by a run of the pair, which it would do at its first step."""
    elbo._guess_max_plate_nesting(model, guide, batch, {})


def changes_its_argument(operation: Any) -> bool:
    """Says whether an operation writes to one of its arguments, as ``Tensor.normal_`` does."""
    return bool(operation._schema.is_mutable)


def interpreted_by_torchscript(graph: GraphModule, arguments: Sequence[Tensor]) -> Callable[..., Sequence[Tensor]]:
    """Makes a graph a function that TorchScript runs, one operation after the other.

    ``torch.jit.trace`` does the same, but its functions stay in memory for good.
    """
    with torch.no_grad():
        recording, *_ = torch._C._create_graph_by_tracing(graph.forward, tuple(arguments), lambda _: "", True, False)
    recorded = torch._C.CompilationUnit().create_function("recorded", recording)

    def interpret(*arguments: Tensor) -> Sequence[Tensor]:
        # optimized, it leaves out casts to bfloat16 and back, which round
        with torch.no_grad(), torch.jit.optimized_execution(False):
            return recorded(*arguments)

    return interpret


def compiled_by_inductor(graph: GraphModule, arguments: Sequence[Tensor]) -> Callable[..., Sequence[Tensor]]:
    """Compiles a graph for arguments like these; random numbers are drawn by torch's own operations, in their order.

    ``torch.compile`` does the same, but looks anew at each call whether what it compiled may be used.
    """
    from torch._inductor import config, standalone_compile  # which takes seconds to import

    with torch.no_grad(), config.patch(fallback_random=True):
        # sizes as they are here: with those of the graph nothing would be found on the disk again
        compiled = standalone_compile(graph, list(arguments), dynamic_shapes="from_example_inputs")

    def run(*arguments: Tensor) -> Sequence[Tensor]:
        with torch.no_grad():
            return compiled(*arguments)

    return run


def hooks_of(optimizer: Optimizer) -> list[Callable[..., Any]]:
    """Lists the functions that are called before and after each step of an optimizer, those of all optimizers too."""
    own = optimizer._optimizer_step_pre_hooks, optimizer._optimizer_step_post_hooks
    return [hook for hooks in (*_HOOKS_OF_ALL, *own) for hook in hooks.values()]


def unwrapped_step(optimizer: Optimizer) -> Callable[[], Any]:
    """Returns an optimizer's step as its class defines it, without the record for profilers, which no graph holds."""
    step = type(optimizer).step
    return partial(getattr(step, "__wrapped__", step), optimizer)


def hooks_of_module(module: nn.Module) -> list[Callable[..., Any]]:
    """Lists the functions that are called when a module is run, forward or backward."""
    kinds = (
        module._forward_pre_hooks,
        module._forward_hooks,
        module._backward_pre_hooks,
        module._backward_hooks,
    )
    return [hook for hooks in kinds for hook in hooks.values()]


def hooks_of_tensor(tensor: Tensor) -> tuple[list[Callable[..., Any]], list[Callable[..., Any]]]:
    """Lists the functions that get a tensor's gradient, and those that are called once it has been added up."""
    return list((tensor._backward_hooks or {}).values()), list((tensor._post_accumulate_grad_hooks or {}).values())


@contextmanager
def sizes_noted_in_one_mode() -> Iterator[None]:
    """Halves the time of ``make_fx``: it notes each result's size by a mode that it makes anew, which reads the stack.

    It takes a mode that is there.
    """
    with tracing(TracingContext(FakeTensorMode(allow_fallback_kernels=True))):
        yield


def map_tensors(change: Callable[[Tensor], Tensor], values: Any) -> Any:
    """Changes each tensor among values, in whatever tuples, lists and dictionaries they lie."""
    return tree_map_only(Tensor, change, values)


@contextmanager
def numbers_left_as_tensors() -> Iterator[None]:
    """Pyro's ELBOs keep the log-densities that they would read as Python numbers, which no graph can hold."""
    with ExitStack() as stack:
        for module in ("trace_elbo", "trace_mean_field_elbo"):
            stack.enter_context(mock.patch(f"pyro.infer.{module}.torch_item", _detached))
        yield


@contextmanager
def backward_caught() -> Iterator[list[Tensor]]:
    """Gives the tensors whose ``backward`` is called meanwhile, which does nothing; their numbers are left as tensors.

    With it the ``loss_and_grads`` of Pyro's ELBOs is a function of tensors: they call ``backward`` on a surrogate, read
    the loss by ``item``, and look for NaN, none of which a graph can hold.
    """
    caught: list[Tensor] = []

    def catch(loss: Tensor, *args: Any, **kwargs: Any) -> None:
        caught.append(loss)

    with ExitStack() as stack:
        stack.enter_context(mock.patch.object(Tensor, "backward", catch))
        stack.enter_context(mock.patch.object(Tensor, "item", _detached))
        for module in ("renyi_elbo", "rws", "trace_elbo", "tracetmc_elbo"):
            stack.enter_context(mock.patch(f"pyro.infer.{module}.warn_if_nan", _unseen))
        yield caught


@contextmanager
def zeros_masked_unseen() -> Iterator[None]:
    """Pyro's enumeration masks zero probabilities without looking for them first, as it does where it is traced.

    It leaves them out of a sum of products, so zeros in their place do, and no size depends on how many there are.
    """
    with ExitStack() as stack:
        stack.enter_context(mock.patch("torch._C._get_tracing_state", return_value=True))
        stack.enter_context(mock.patch.object(Tensor, "masked_select", _zeroed))
        yield


@contextmanager
def unvalidated() -> Iterator[None]:
    """Keeps distributions from looking at the values that they are given, and categories from being checked.

    ``pyro.validation_enabled(False)`` is not enough: a distribution that was expanded while validation was on still
    looks. And torch's ``one_hot`` reads its indices to check them, which no graph can hold.
    """
    unseen = mock.patch.object(Distribution, "_validate_sample")
    with pyro.validation_enabled(False), unseen, mock.patch("torch.nn.functional.one_hot", _one_hot):
        yield


@contextmanager
def sources_unkept() -> Iterator[None]:
    """Has torch.fx not keep the source of each graph for good, to be shown in errors: 0.1 MB for each training."""
    with mock.patch.object(_fx_sources, "cache", _unkept):
        yield


def forget_traces(elbo: ELBO) -> None:
    """Has one of Pyro's ``Jit`` ELBOs trace the pair that it meets next: it replays the first one for any other."""
    for name in ("_loss_and_surrogate_loss", "_jit_loss_and_surrogate_loss", "_differentiable_loss"):
        vars(elbo).pop(name, None)


def _unkept(*source: Any) -> str:
    return "<eval_with_key>.unkept"  # compilers know a graph's code by the first part


def _detached(value: Any) -> Any:
    return value.detach() if isinstance(value, Tensor) else value


def _zeroed(values: Tensor, mask: Tensor) -> Tensor:
    return values.where(mask, values.new_zeros(())).flatten()


def _unseen(value: Any, *message: str) -> Any:
    return value


def _one_hot(indices: Tensor, num_classes: int = -1) -> Tensor:
    if num_classes < 0:
        return one_hot(indices)
    return (indices.unsqueeze(-1) == torch.arange(num_classes, device=indices.device)).long()
