"""Held-out data in a training: which they are, and their bound after each epoch."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from pyro.infer import ELBO
from torch import Tensor
from torch.utils.data import DataLoader

from ppl_vae.errors import InputError, is_number, shown
from ppl_vae.networks import RowTable
from ppl_vae.pairs.modules import Program, follows_rows, modules_of
from ppl_vae.pairs.restore import random_state_kept
from ppl_vae.training.batches import Batch, Batches, batches
from ppl_vae.training.evaluation import Evaluation
from ppl_vae.training.history import History
from ppl_vae.training.trainable import Trainable


class BoundOf:
    """Measures the bound of some data at the parameters of now, each time with the same noise.

    Args:
        evaluation: of the pair.
        source: the data in batches.
        at_most: rows to look at; all where None.
    """

    def __init__(self, evaluation: Evaluation, source: Batches, at_most: int | None = None) -> None:
        self._evaluation, self._source = evaluation, source
        self._most = math.inf if at_most is None else at_most
        # where they are kept, a transform is applied once
        self._kept = evaluation.batches_of(source) if source.loader is None else None

    def __call__(self) -> float:
        """Returns the mean ELBO, in nats per data point."""
        total, rows = 0.0, 0
        with self._evaluation.here():
            for number, batch in enumerate(self._batches()):
                total += self._evaluation.value(batch, number) * len(batch[0])
                rows += len(batch[0])
                if rows >= self._most:
                    break
        return total / rows

    def first(self) -> Batch:
        """Returns a batch."""
        with random_state_kept():
            return next(self._batches())

    def _batches(self) -> Iterator[Batch]:
        if self._kept is not None:
            yield from self._kept
            return
        self._evaluation.draw_anew(0)
        yield from self._source.epoch()


class HeldOut:
    """Measures the bound of held-out data after each epoch, and the gap to that of the training data at the end.

    Args:
        evaluation: of the pair.
        held_out: the data in batches.
        source: the training data, of which as many rows are looked at in the end.

    Raises:
        InputError: where the pair can't take the data.
    """

    def __init__(self, evaluation: Evaluation, held_out: Batches, source: Batches) -> None:
        self._evaluation, self._source, self._size = evaluation, source, held_out.size
        with _called_held_out():
            self._bound = BoundOf(evaluation, held_out)
            evaluation.require_takes(self._bound.first())

    def after_epoch(self, history: History) -> None:
        """Adds a point to the curve."""
        history.validation.append(self._bound())

    def finish(self, history: History) -> None:
        """Measures both at the final parameters."""
        history.held_out = self._bound()
        history.generalization_gap = BoundOf(self._evaluation, self._source, self._size)() - history.held_out


def split(data: Any, validation: Any, seed: int | None) -> tuple[Any, Any]:
    """Returns the training data and the held-out data: as given, or a share of the rows, drawn at random.

    Raises:
        InputError: for a share that is not between 0 and 1, leaves either side without a row, or is one of a loader.
    """
    if validation is None or not isinstance(validation, int | float):
        return data, validation
    if not is_number(validation) or not 0 < validation < 1:
        raise InputError(
            f"validation is {shown(validation)}; expected held-out data, or a share of them between 0 and 1"
        )
    if isinstance(data, DataLoader):
        raise InputError("validation is a share, but data is a DataLoader: give a loader of the held-out data, too")
    tensors = tuple(data) if isinstance(data, tuple | list) else (data,)
    if not all(isinstance(tensor, Tensor) and tensor.dim() for tensor in tensors):
        return data, None  # which is refused in the words for data
    size = len(tensors[0])
    count = round(validation * size)
    if not 0 < count < size:
        raise InputError(
            f"validation is {validation:g} of {size} rows, which leaves one side without any: give more rows"
        )
    order = torch.randperm(size, generator=torch.Generator().manual_seed(seed or 0))
    parts = [tuple(tensor[rows.to(tensor.device)] for tensor in tensors) for rows in (order[count:], order[:count])]
    return parts[0], parts[1]


def held_out_batches(data: Any, *how: Any) -> Batches | None:
    """Makes batches of held-out data as of training data; None of None."""
    with _called_held_out():
        return None if data is None else batches(data, *how)


@contextmanager
def _called_held_out() -> Iterator[None]:
    """Says of what is refused that it is the held-out data."""
    try:
        yield
    except InputError as error:
        raise InputError(f"of the held-out data: {error}") from error.__cause__


def require_can_hold_out(pair: Trainable, guide: Program, elbo: ELBO) -> None:
    """Raises InputError where a bound of other data than those of the training means nothing."""
    if pair.whole:
        raise InputError(
            "the data share a latent, so the guide is that of these very data and has no bound on others: leave "
            "validation away, and see ppl_vae.posterior_predictive"
        )
    has_rows = any(isinstance(part, RowTable) for module in modules_of(guide) for part in module.modules())
    if getattr(elbo, "runs_guide", True) and (has_rows or not follows_rows(guide)):
        raise InputError(
            f"{type(guide).__name__} has parameters for each row of the training data, and none for held-out rows: "
            "take an amortized guide, or leave validation away"
        )
