"""The ELBO of a batch beside the training: in eval mode, without gradients, from a graph after its first run."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import copy
from typing import Any

import pyro
import torch
from pyro.infer import ELBO
from pyro.infer.util import is_validation_enabled
from torch import Tensor, nn

from ppl_vae.estimators.tensor_only import first_loss, takes_any_particles, tensor_only
from ppl_vae.pairs.checks import explained
from ppl_vae.pairs.modules import Program
from ppl_vae.pairs.replayed import ReplayedRun
from ppl_vae.pairs.restore import Moment, evaluating, random_state_kept, store_kept
from ppl_vae.training.batches import Batch, Batches
from ppl_vae.training.trainable import Trainable

_DRAWS_OF_ALL = 2**14  # of data points, in one evaluation where the data share a latent
_MOST_PARTICLES = 1024
_MANY_RUNS = 10**4  # are to come, so that a graph pays
_SEED = 20_181_111  # of all noise


class Evaluation:
    """Evaluates the ELBO of batches, each with noise of a given number, and leaves the pair as it was.

    Args:
        elbo: what the pair is trained with.
        model: the model.
        pair: what is trained of it, and the guide as the ELBO gets it.
        modules: the pair's modules.
    """

    def __init__(self, elbo: ELBO, model: Program, pair: Trainable, modules: Sequence[nn.Module]) -> None:
        self._elbo, self._model, self._pair, self._modules = elbo, model, pair, list(modules)
        self._buffers = [buffer for module in self._modules for buffer in module.buffers()]
        self._run: Callable[[Batch, int], Sequence[Any]] | None = None

    @contextmanager
    def here(self, changed: Sequence[Tensor] = ()) -> Iterator[None]:
        """Opens a place where :meth:`value` may be called; puts the random numbers, buffers and these tensors back."""
        before = Moment([*changed, *self._buffers])
        try:
            with evaluating(*self._modules), pyro.validation_enabled(False), store_kept():
                yield
        finally:
            before.put_back()

    def value(self, batch: Batch, noise: int) -> float:
        """Returns the ELBO in nats per unit: a data point, or the data set where its points share a latent."""
        self.draw_anew(noise)
        batch = tuple(part.clone() for part in batch)  # a program may write to what it is given
        points = 1 if self._pair.whole else self._pair.full_size or len(batch[0])
        if self._run is None:
            self._run = self._made(batch)
            self.draw_anew(noise)
        return float(self._run(batch, 1)[0]) / points

    def require_takes(self, batch: Batch) -> None:
        """Runs a batch as a first training step would: InputError for one that the pair can't take."""
        validated = is_validation_enabled()
        run = self._by_its_loss if tensor_only(self._elbo) is None else self._by_tensors(self._elbo.num_particles)
        with self.here(), pyro.validation_enabled(validated), explained(self._model, self._pair.guide, batch):
            run(tuple(part.clone() for part in batch), 1)

    def batches_of(self, source: Batches, at_most: int | None = None) -> list[Batch]:
        """Makes the batches of an epoch, or some of them, by random numbers of the same number each time."""
        with random_state_kept():
            self.draw_anew(0)
            return list(itertools.islice(source.epoch(), at_most))

    @staticmethod
    def draw_anew(noise: int) -> None:
        """Has torch draw the random numbers of that number."""
        # torch.manual_seed keeps the stack of each of its calls while no GPU is in use
        torch.default_generator.manual_seed(_SEED + noise)
        if torch.cuda.is_initialized():
            torch.cuda.manual_seed_all(_SEED + noise)

    def _made(self, batch: Batch) -> Callable[[Batch, int], Sequence[Any]]:
        """Makes what evaluates batches like this one."""
        if tensor_only(self._elbo) is None:
            return self._by_its_loss
        many = min(_MOST_PARTICLES, _DRAWS_OF_ALL // len(batch[0]))
        if self._pair.whole and takes_any_particles(self._elbo) and many > self._elbo.num_particles:
            run = self._by_tensors(many)
            try:
                run(batch, 1)
                return self._replayed(run)
            except Exception:  # a program that does not broadcast
                pass
        return self._replayed(self._by_tensors(self._elbo.num_particles))

    def _by_its_loss(self, batch: Batch, _: int) -> Sequence[Any]:
        loss: Any = first_loss(self._elbo.loss(self._model, self._pair.guide, *batch))
        return [-float(loss)]

    def _by_tensors(self, particles: int) -> Callable[[Batch, int], Sequence[Any]]:
        elbo = copy(self._elbo)
        if particles > elbo.num_particles:  # one outermost plate more
            elbo.num_particles, elbo.max_plate_nesting = particles, self._pair.nesting + 1
        objective: Any = tensor_only(elbo)

        def run(batch: Batch, _: int) -> list[Tensor]:
            return [objective.objective(self._model, self._pair.guide, batch)[0].double().sum()]

        return run

    def _replayed(self, run: Callable[[Batch, int], Sequence[Any]]) -> Callable[[Batch, int], Sequence[Any]]:
        return ReplayedRun((self._model, self._pair.guide), run, _MANY_RUNS)
