"""What an optimizer remembers, as a file holds it: put back with every digit, and refused where it does not fit."""

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer, SparseAdam

from ppl_vae.pairs.restore import random_state_kept
from ppl_vae.training.identity import HOW_IT_COMPUTES


def put_memory(optimizer: Optimizer, state: Mapping[str, Any]) -> None:
    """Puts the ``state_dict`` of an optimizer back, which may be on another device than that one was.

    Raises:
        ValueError: where it is not that of such an optimizer of such parameters; nothing is changed then.
    """
    groups = _groups(optimizer, state["param_groups"])
    _require_memory(optimizer, state["state"])
    optimizer.load_state_dict({"state": dict(state["state"]), "param_groups": groups})
    leaves = [leaf for group in optimizer.param_groups for leaf in group["params"]]
    for number, memory in state["state"].items():
        loaded = optimizer.state[leaves[number]]
        for key, value in memory.items():
            # torch gives all numbers the parameter's type, also a count or a product that had more or fewer digits
            if isinstance(value, Tensor) and loaded[key].dtype != value.dtype:
                loaded[key] = value.to(loaded[key].device)


def _groups(optimizer: Optimizer, theirs: Any) -> list[dict[str, Any]]:
    """Has the options of a file compute as this optimizer does."""
    ours = optimizer.state_dict()["param_groups"]
    if [(group["params"], set(group)) for group in theirs] != [(group["params"], set(group)) for group in ours]:
        raise ValueError("its optimizer has other parameters or options")
    return [
        {key: _option(key, value, their_group[key]) for key, value in group.items()}
        for group, their_group in zip(ours, theirs, strict=True)
    ]


def _option(key: str, ours: Any, theirs: Any) -> Any:
    if key in HOW_IT_COMPUTES:
        return ours
    numbers = int | float | Tensor
    are_numbers = isinstance(ours, numbers) and isinstance(theirs, numbers)
    if are_numbers and not isinstance(ours, bool) and not isinstance(theirs, bool):
        return float(theirs) if isinstance(theirs, Tensor) and not isinstance(ours, Tensor) else theirs
    if type(ours) is not type(theirs):
        raise ValueError(f"its optimizer's {key} is a {type(theirs).__name__}")
    return theirs


def _require_memory(optimizer: Optimizer, theirs: Mapping[int, Any]) -> None:
    """Raises a ValueError where tensors have other shapes: a fused optimizer would read past the end of them."""
    usual = _after_a_step(optimizer)
    count = sum(len(group["params"]) for group in optimizer.param_groups)
    for number, memory in theirs.items():
        expected = usual.get(number)
        if not isinstance(number, int) or not 0 <= number < count or not isinstance(memory, dict):
            raise ValueError(f"its optimizer has a memory for {number!r}, which is no parameter")
        if expected is not None and not {*map(_form, expected.items())} <= {*map(_form, memory.items())}:
            raise ValueError(f"its optimizer's memory of parameter {number} has another form")


def _after_a_step(optimizer: Optimizer) -> dict[int, Any]:
    """Returns what an optimizer remembers after a step: a copy of it takes one, by gradients of 0."""
    try:
        with random_state_kept():
            twin = copy.deepcopy(optimizer)
            for leaf in (leaf for group in twin.param_groups for leaf in group["params"]):
                zeros = torch.zeros_like(leaf)
                leaf.grad = zeros.to_sparse() if isinstance(twin, SparseAdam) else zeros
            twin.step()
            return twin.state_dict()["state"]
    except Exception:  # one that can't be copied, or takes other gradients: its own load_state_dict must find out
        return {}


def _form(item: tuple[Any, Any]) -> tuple[Any, ...]:
    key, value = item
    if isinstance(value, Tensor):
        return key, "tensor", value.dtype, tuple(value.shape)
    return key, "number" if isinstance(value, int | float) else type(value).__name__
