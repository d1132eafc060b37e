"""Compares parameters by the ELBO, on the same rows with the same noise."""

from collections.abc import Sequence

import torch
from torch import Tensor

from ppl_vae.pairs.restore import put
from ppl_vae.training.batches import Batches
from ppl_vae.training.evaluation import Evaluation

_BATCHES = 64  # of an epoch of many


class Judge:
    """Evaluates the ELBO at parameters that are put in for it, and leaves the pair as it was.

    The difference between two sets of parameters has a far smaller error than either value, since both see the same
    batches and the same noise.

    Args:
        evaluation: of the pair.
        parameters: the leaves that are trained.
        source: the data, of which a first epoch's batches are kept.
    """

    def __init__(self, evaluation: Evaluation, parameters: Sequence[Tensor], source: Batches) -> None:
        self._evaluation, self._parameters = evaluation, list(parameters)
        self._batches = evaluation.batches_of(source, _BATCHES)

    def values(self, candidates: Sequence[Sequence[Tensor]], numbers: range) -> Tensor:
        """Returns the ELBO at each of some candidates for the parameters, with noise of each of some numbers.

        Returns:
            Nats per unit (a data point; the data set, where its points share a latent), of shape (numbers,
            candidates), in float64 on the CPU.
        """
        values = torch.zeros(len(numbers), len(candidates), dtype=torch.float64)
        with self._evaluation.here(self._parameters):
            for column, candidate in enumerate(candidates):
                put(self._parameters, candidate)
                for row, number in enumerate(numbers):
                    batch = self._batches[number % len(self._batches)]
                    values[row, column] = self._evaluation.value(batch, number)
        return values
