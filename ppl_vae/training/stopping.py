"""When a training ends before its last epoch: what a rule is, and what it sees of the training."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from pyro.infer import ELBO
from torch import Tensor

from ppl_vae.errors import InputError, shown
from ppl_vae.estimators.weights import Weights
from ppl_vae.pairs.modules import Program
from ppl_vae.pairs.restore import put
from ppl_vae.training.history import History
from ppl_vae.training.judge import Judge


@dataclass
class Training:
    """A training that goes on, as a stopping rule sees it.

    Attributes:
        model: the model, as it is now.
        guide: its guide.
        elbo: the objective.
        history: the curve so far, that of the held-out data too.
        parameters: the leaves that are trained, changed in place by each step.
        tensors: they, the modules' buffers, and what an estimator remembers.
        epochs: the upper limit.
        set_rate: sets all learning rates to those of the beginning times a factor.
        make_judge: makes what compares parameters.

    Examples:
        >>> import torch
        >>> from ppl_vae import StoppingRule, fit
        >>> from ppl_vae.guides import Amortized, Diagonal
        >>> from ppl_vae.models import VAE
        >>> class Plateau(StoppingRule):
        ...     def after_epoch(self, training):
        ...         curve = training.history.elbo
        ...         flat = len(curve) > 5 and curve[-1] - curve[-6] < 0.1
        ...         return "the ELBO rose by less than 0.1 nats in 5 epochs" if flat else ""
        >>> x = torch.bernoulli(torch.full((50, 64), 0.3))
        >>> pair = VAE(64, 2), Amortized(Diagonal(2), 64)
        >>> history = fit(*pair, x, until=Plateau(), epochs=10, lr=1e-6, seed=0, progress=False)
        >>> history.ended
        'the ELBO rose by less than 0.1 nats in 5 epochs'
    """

    model: Program
    guide: Program
    elbo: ELBO
    history: History
    parameters: Sequence[Tensor]
    tensors: Sequence[Tensor]
    epochs: int
    set_rate: Callable[[float], None]
    make_judge: Callable[[], Judge]

    @cached_property
    def judge(self) -> Judge:
        """What compares parameters by the ELBO, with the same noise for all."""
        return self.make_judge()

    def put(self, values: Sequence[Tensor], tensors: Sequence[Tensor] | None = None) -> None:
        """Gives the parameters, or other tensors, these values, in place."""
        put(self.parameters if tensors is None else tensors, values)


class StoppingRule:
    """Says after each epoch whether a training is to stop: :func:`ppl_vae.fit` takes one as ``until``.

    A subclass needs :meth:`after_epoch` alone; the example of :class:`ppl_vae.training.stopping.Training` is one. What
    it remembers from epoch to epoch is kept in a checkpoint where it gives it by ``state_dict``.

    Attributes:
        each_epoch: False where it need not see each epoch, and may be asked after some short ones together.
        lowers_rate: whether it sets the learning rate, so that no schedule may.
        needs_held_out: whether it stops by held-out data, so that ``validation`` must be given.
        judges_elbo: whether it judges a training by the ELBO, which must then be all that the training goes up.

    Examples:
        >>> from ppl_vae import StoppingRule
        >>> class AfterThree(StoppingRule):
        ...     def after_epoch(self, training):
        ...         return "three epochs are enough" if len(training.history.elbo) == 3 else ""
        >>> AfterThree().each_epoch
        True
    """

    each_epoch = True
    lowers_rate = False
    needs_held_out = False
    judges_elbo = False

    def begin(self, training: Training) -> None:
        """Is called before the first epoch: forgets another training."""

    def after_step(self) -> None:
        """Is called after each step."""

    def after_epoch(self, training: Training) -> str:
        """Says in a sentence why to stop now; empty to go on."""
        return ""

    def finish(self, training: Training) -> None:
        """Is called at the end, whatever ended the training: the place to put other parameters in."""

    def state_dict(self) -> dict[str, Any]:
        """Returns what it remembers."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on from there."""


def require_rule(until: Any, validation: Any, schedule: Any, weights: Weights | None = None) -> None:
    """Raises InputError for what is no stopping rule, or one that does not go with what else was asked for."""
    if until is None:
        return
    if not isinstance(until, StoppingRule):
        raise InputError(f"until is {shown(until)}; expected a rule, such as Converged(nats=0.02) or Patience(10)")
    name = type(until).__name__
    if until.needs_held_out and validation is None:
        raise InputError(f"{name} stops by held-out data: give validation=0.1, say, or the data")
    if until.judges_elbo and weights is not None:
        raise InputError(
            f"{weights.given}, but {name} judges by the ELBO alone, which such a training does not go up: take "
            "Patience(10) with validation, or no weights"
        )
    if until.lowers_rate and schedule is not None:
        raise InputError(f"{name} lowers the learning rate itself: leave the schedule away")


def is_ours(watcher: Any) -> bool:
    """Says whether something that is called after epochs is code of this package, or nothing at all."""
    return watcher is None or type(watcher).__module__.startswith("ppl_vae.")
